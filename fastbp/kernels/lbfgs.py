"""L-BFGS on all rows, compiled: many iterations in one native call.

The method is that of Liu and Nocedal (1989), with the line search, the scaling, the restarts and the ends of L-BFGS-B
3.0 (Morales and Nocedal 2011), which SciPy has: without bounds its iterates are these, but for rounding. Vectors are in
double precision and in the layout of the parameters, padding included, which is zero in all of them.

Where the rows are so many that the cost is summed in parts, Python does that, and this only says at which point.
"""

from __future__ import annotations

import numpy as np
from numba import from_dtype, types

import fastbp.kernels.line_search as line_search
from fastbp.kernels.atomics import atomic_load
from fastbp.kernels.blocks import blocks_per_panel
from fastbp.kernels.jit import jit, leaf
from fastbp.kernels.products import refresh_transposed
from fastbp.kernels.records import GO_ON, RUNNING, STOPPED, Job, Layers
from fastbp.kernels.rows import row_dot
from fastbp.kernels.run import run
from fastbp.kernels.simd import ONE, TWO, ZERO, cast, lanes, view
from fastbp.kernels.sweep import clear
from fastbp.kernels.team import AT_GRADIENT, AT_STEP, LEAVE, STAY, barrier

_ADDRESS = _COUNT = np.uint64
EPS = float(np.finfo(np.float64).eps)

# Values of MINIMUM["status"].
OPEN, FLAT, LITTLE_LEFT, MOST_ITERATIONS, MOST_EVALUATIONS, NO_LOWER_POINT, NOT_FINITE, ROWS_ARE_BAD = range(8)

MINIMUM = np.dtype(
    [
        ("n", _COUNT),  # elements of a vector, whole vectors of the CPU
        ("memory", _COUNT),  # pairs at most
        ("point", _ADDRESS),  # (n,) float64: where the cost is to be evaluated next, or the iterate at the end
        ("slope", _ADDRESS),  # the gradient there
        ("iterate", _ADDRESS),  # the last, and its gradient
        ("iterate_slope", _ADDRESS),
        ("direction", _ADDRESS),
        ("steps", _ADDRESS),  # (memory, n) float64, a ring
        ("changes", _ADDRESS),  # (memory, n): of the gradient
        ("curvatures", _ADDRESS),  # (memory,): their products
        ("factors", _ADDRESS),  # (memory,): of the recursion
        ("decay", _ADDRESS),  # (n,): half of it times the square of each parameter is added to the cost
        ("losses", _ADDRESS),  # (most_iterations,): without decay, at the beginning of each iteration
        ("descent", np.float64),  # by which the loss is multiplied in the cost
        ("flat", np.float64),  # no element of the gradient is larger where it has converged
        ("little", np.float64),  # nor is the relative fall of the cost in an iteration
        ("most_iterations", _COUNT),
        ("most_evaluations", _COUNT),
        ("most_in_line", _COUNT),
        ("pauses", np.int64),  # hand back after every iteration
        ("budget", _COUNT),  # and after so many evaluations
        ("status", np.int64),
        ("begun", np.int64),
        ("iterations", _COUNT),
        ("evaluations", _COUNT),
        ("in_line", _COUNT),
        ("pairs", _COUNT),
        ("head", _COUNT),  # the place of the next pair
        ("scale", np.float64),  # of the first guess at the inverse of the curvature
        ("loss", np.float64),  # at the point, without decay; set by Python where Python evaluates
        ("cost", np.float64),
        ("iterate_loss", np.float64),
        ("iterate_cost", np.float64),
        *line_search.FIELDS,
    ],
    align=True,
)  # fmt: skip
Minimum = from_dtype(MINIMUM)


@jit
def dot(a, b, n):
    """The product of two vectors."""
    return row_dot(a, b, n // lanes(0.0), 0.0)


@jit
def copy(target, source, n):
    """Copy a vector."""
    t, s = view(target, n, 0.0), view(source, n, 0.0)
    for i in range(n):
        t[i] = s[i]


@jit
def add(target, factor, source, n):
    """target = target + factor source."""
    t, s = view(target, n, 0.0), view(source, n, 0.0)
    for i in range(n):
        t[i] += factor * s[i]


@jit
def largest(source, n):
    """The largest absolute value; NaN if one is."""
    s, found = view(source, n, 0.0), 0.0
    for i in range(n):
        size = abs(s[i])
        found = size if size > found or size != size else found
    return found


@jit
def pair(address, number, n):
    """Where one of the stored vectors stands."""
    return address + np.uintp(number) * n * np.uintp(8)


@jit
def set_direction(m):
    """direction = -H slope, H being the inverse of the curvature as the pairs have it: the recursion in two loops."""
    n, size = m.n, m.memory
    d, g = view(m.direction, n, 0.0), view(m.slope, n, 0.0)
    for i in range(n):
        d[i] = -g[i]
    rho, alpha = view(m.curvatures, size, 0.0), view(m.factors, size, 0.0)
    for back in range(m.pairs):
        number = (m.head + size - ONE - np.uintp(back)) % size
        alpha[number] = dot(pair(m.steps, number, n), m.direction, n) / rho[number]
        add(m.direction, -alpha[number], pair(m.changes, number, n), n)
    for i in range(n):
        d[i] *= m.scale
    for forth in range(m.pairs):
        number = (m.head + size - m.pairs + np.uintp(forth)) % size
        beta = dot(pair(m.changes, number, n), m.direction, n) / rho[number]
        add(m.direction, alpha[number] - beta, pair(m.steps, number, n), n)


@jit
def forget(m):
    """Begin anew with the steepest descent."""
    m.pairs, m.head, m.scale = ZERO, ZERO, 1.0


@jit
def go(m):
    """The point at the step of the line search."""
    n = m.n
    x, t, d = view(m.point, n, 0.0), view(m.iterate, n, 0.0), view(m.direction, n, 0.0)
    for i in range(n):
        x[i] = m.step * d[i] + t[i]


@jit
def begin_line(m):
    """From the point, which is an iterate, to the first of a line search."""
    n = m.n
    copy(m.iterate, m.point, n)
    copy(m.iterate_slope, m.slope, n)
    m.iterate_cost, m.iterate_loss = m.cost, m.loss
    set_direction(m)
    slope = dot(m.direction, m.slope, n)
    if slope >= 0.0 and m.pairs != ZERO:
        forget(m)
        set_direction(m)
        slope = dot(m.direction, m.slope, n)
    if slope >= 0.0:
        m.status = NO_LOWER_POINT
        return
    step = 1.0
    if m.iterations == ZERO:
        step = min(1.0 / np.sqrt(dot(m.direction, m.direction, n)), line_search.LONGEST)
    m.in_line = ZERO
    line_search.begin(m, step, m.cost, slope)
    go(m)


@jit
def give_up_line(m):
    """No step of this line will do: back to the iterate, and from there by the steepest descent."""
    copy(m.point, m.iterate, m.n)
    copy(m.slope, m.iterate_slope, m.n)
    m.cost, m.loss = m.iterate_cost, m.iterate_loss
    if m.pairs == ZERO:
        m.status = NO_LOWER_POINT
        return
    forget(m)
    begin_line(m)


@jit
def remember(m, slope):
    """Take the pair of the iteration, if it has curvature; slope: along the direction at the new iterate."""
    n, number = m.n, m.head
    y, g, before = view(pair(m.changes, number, n), n, 0.0), view(m.slope, n, 0.0), view(m.iterate_slope, n, 0.0)
    for i in range(n):
        y[i] = g[i] - before[i]
    curvature, fall = (slope - m.slope0) * m.step, -m.slope0 * m.step
    if curvature <= EPS * fall:
        return
    s, d = view(pair(m.steps, number, n), n, 0.0), view(m.direction, n, 0.0)
    for i in range(n):
        s[i] = m.step * d[i]
    view(m.curvatures, m.memory, 0.0)[number] = curvature
    m.scale = curvature / dot(pair(m.changes, number, n), pair(m.changes, number, n), n)
    m.head, m.pairs = (number + ONE) % m.memory, min(m.memory, m.pairs + ONE)


@jit
def end_iteration(m, slope):
    """The point is the next iterate: look whether it is the last, and begin the next line."""
    view(m.losses, m.iterations + ONE, 0.0)[m.iterations] = m.iterate_loss
    m.iterations += ONE
    scale = max(max(abs(m.iterate_cost), abs(m.cost)), 1.0)
    if m.iterations >= m.most_iterations:
        m.status = MOST_ITERATIONS
    elif m.evaluations > m.most_evaluations:
        m.status = MOST_EVALUATIONS
    elif largest(m.slope, m.n) <= m.flat:
        m.status = FLAT
    elif m.iterate_cost - m.cost <= m.little * scale:
        m.status = LITTLE_LEFT
    else:
        remember(m, slope)
        begin_line(m)


@jit
def advance(m):
    """Take the loss and its gradient at the point, and go to the next one; returns whether an iteration has ended."""
    n = m.n
    x, g, decay = view(m.point, n, 0.0), view(m.slope, n, 0.0), view(m.decay, n, 0.0)
    for i in range(n):
        g[i] = m.descent * g[i] + decay[i] * x[i]
    penalty = 0.0
    for i in range(n):
        penalty += decay[i] * x[i] * x[i]
    m.cost = m.descent * m.loss + 0.5 * penalty
    m.evaluations += ONE
    size = largest(m.slope, n)
    if m.cost - m.cost != 0.0 or size - size != 0.0:
        m.status = NOT_FINITE
        return False
    if m.begun == 0:
        m.begun = 1
        forget(m)
        if size <= m.flat:
            m.status = FLAT
        else:
            begin_line(m)
        return False
    slope = dot(m.direction, m.slope, n)
    if line_search.judge(m, m.cost, slope):
        end_iteration(m, slope)
        return True
    m.in_line += ONE
    if m.in_line >= m.most_in_line:
        give_up_line(m)
    else:
        go(m)
    return False


@jit
def put(m, job, layers, tag):
    """Write the point into the parameters of the job, and into their transposed copy."""
    x, parameters = view(m.point, m.n, 0.0), view(job.parameters, m.n, tag)
    for i in range(m.n):
        parameters[i] = cast(tag, x[i])
    wide = TWO * lanes(tag)
    for k in range(job.n_layers):
        layer = layers[k]
        if layer.transposed != ZERO:
            for panel in range((layer.n_out + wide - ONE) // wide):
                for block in range(blocks_per_panel(layer, tag)):
                    refresh_transposed(layer, np.uintp(panel), np.uintp(block), tag)


@jit
def see(m, job, tag):
    """Take the loss and the gradient that have just been computed; False if they were not."""
    status = atomic_load(job.status)
    if status != RUNNING:
        if status != STOPPED:
            m.status = ROWS_ARE_BAD
        return False
    m.loss = view(job.losses, ONE, 0.0)[0]
    gradient, g = view(job.gradient, m.n, tag), view(m.slope, m.n, 0.0)
    for i in range(m.n):
        g[i] = np.float64(gradient[i])
    return True


@leaf(
    types.Array(Minimum, 1, "C"), types.Array(Job, 1, "C"), types.Array(Job, 1, "C"), Layers, types.int64, types.int64,
    calls=[run],
)  # fmt: skip
def minimize(minima, jobs, meetings, layers, thread, evaluates, tag):
    """Iterations until the end, a pause, the budget or a request to stop; with `evaluates` 0, to the next point.

    The job is bound to all rows, with the parameters of the point, which are not the network's own. Between evaluations
    threads meet by another record: the barriers of one evaluation know nothing of the next.
    """
    m, job, meeting = minima[0], jobs[0], meetings[0]
    if evaluates == 0:
        advance(m)
        if m.status == OPEN:
            put(m, job, layers, tag)
        return
    left, passed, leave, lead = m.budget, np.int64(0), False, thread == 0
    while True:
        if lead:
            leave = leave or m.status != OPEN or left == ZERO or atomic_load(job.stop) != GO_ON
            if not leave:
                left -= ONE
                put(m, job, layers, tag)
                clear(job)
        passed = barrier(meeting, thread, passed, leave, AT_STEP)
        if passed == LEAVE:
            return
        run(jobs, layers, thread, tag)
        passed = barrier(meeting, thread, passed, STAY, AT_GRADIENT)
        if passed == LEAVE:
            return
        if lead:
            leave = not see(m, job, tag) or (advance(m) and m.pauses != 0)
