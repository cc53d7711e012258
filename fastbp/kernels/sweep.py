"""Many trainings in one native call: threads take run after run, and each run is trained by one thread from end to end.

A run is what `fit` would do with one thread: the same compiled entry (`run.py`) on a job and layers that were bound as
`fit` binds them, of which each thread has its own copies and buffers. Between runs only addresses, seed and rate are
changed, so the buffers of a thread stay in its core's cache. Nothing here is compiled a second time.
"""

from __future__ import annotations

import math

import numpy as np
from numba import from_dtype, types

from fastbp.kernels.atomics import atomic_add, atomic_load, atomic_store
from fastbp.kernels.clock import now
from fastbp.kernels.jit import jit, leaf, plain
from fastbp.kernels.records import BAD_INPUT, DIVERGED, EVALUATE, JOB, RUNNING, STOPPED, TRAIN, Job, Layer
from fastbp.kernels.run import run
from fastbp.kernels.simd import ONE, TWO, ZERO, itemsize, view
from fastbp.kernels.tuning import VALIDATED_PER_TRAINED

_ADDRESS = _COUNT = np.uint64

# Values of RUN["status"].
OPEN, FINISHED, NOT_FINITE, HOPELESS, BAD_ROW = range(5)

RUN = np.dtype(
    [
        ("seed", np.uint64),
        ("lr", np.float64),
        ("lrs", _ADDRESS),  # (epochs * steps,) float64 learning rates that take its place, or 0
        ("start", _ADDRESS),  # the block to begin with, see SWEEP
        ("block", _ADDRESS),  # this run's own block, or 0: it uses that of its thread, and its weights are lost
        ("subset", _ADDRESS),  # (n,) int64 rows to train on, or 0 for all
        ("held_out", _ADDRESS),  # (n_held,) int64 rows to be validated on, or 0 for all
        ("weights", _ADDRESS),  # (n,) float64 weights of the rows to train on, by row number; or 0: all count the same
        ("losses", _ADDRESS),  # (epochs * steps,) float64: J of every step
        ("mean_weights", _ADDRESS),  # (epochs * steps,) float64: mean weight of every step's rows, or 0
        ("held_out_losses", _ADDRESS),  # (epochs, n_held): loss of every row held out, after every epoch
        ("outputs", _ADDRESS),  # (epochs, n_held, n_out): what the network makes of it; or 0: nobody asks
        ("epoch_ticks", _ADDRESS),  # (epochs,) int64: training time of every epoch
        ("limit", np.float64),  # loss of a step above which there is little hope, see `hopeless`
        ("means", _ADDRESS),  # float64 means of such losses over windows
        ("above", _COUNT),  # steps above the limit, one after the other, up to now
        ("total", np.float64),  # of the losses in the window that is open
        ("epoch", _COUNT),  # epochs done
        ("step", _COUNT),  # steps done of the epoch that is open
        ("end", _COUNT),  # epoch at which to hand the run back
        ("status", np.int64),
        ("bad_row", _COUNT),
        ("ticks", np.int64),  # time of the run, validation included
        ("thread", np.int64),  # that took it, or -1
    ],
    align=True,
)

SWEEP = np.dtype(
    [
        ("jobs", _ADDRESS),  # of the array of jobs, whose fields for the optimiser's state are written by their place
        ("claims", _ADDRESS),  # int64 counter on a cache line of its own: runs that threads have taken
        ("n_runs", _COUNT),
        ("steps", _COUNT),  # of an epoch
        ("n_steps", _COUNT),  # of a whole run
        ("n_states", _COUNT),  # arrays that the optimiser changes, besides the parameters
        # A block holds parameters, state and transposed weights of one run.
        ("states", _ADDRESS),  # (n_states, 2) uint64: bytes into a job where its address belongs; bytes into the block
        ("transposed", _COUNT),  # bytes into the block
        ("block_size", _COUNT),  # bytes of it all
        ("momenta", _ADDRESS),  # (epochs * steps,) float64, or 0
        ("window", _COUNT),  # steps over which losses above the limit are averaged
    ],
    align=True,
)

WORKER = np.dtype(
    [
        ("block", _ADDRESS),  # this thread's own
        ("transposed", _ADDRESS),  # the transposed weights that its layers point at
        ("current", np.int64),  # number of the run in hand, or -1
        ("budget", _COUNT),  # steps after which the call returns
        ("ticks", np.int64),  # spent in here
        ("spent", _COUNT),  # steps of the last call
        ("room", np.uint64, (2,)),  # to the end of the cache line
    ],
    align=True,
)

Run, Sweep, Worker = from_dtype(RUN), from_dtype(SWEEP), from_dtype(WORKER)

JOB_BYTES = np.uint64(JOB.itemsize)
TRAINING, VALIDATION = 0, 1  # columns of the array of jobs
LONG = np.uint64(4)  # windows
CLEAR_FALL = 0.75  # a loss that falls by more than a quarter falls, whatever the noise


@jit
def copy_words(target, source, n_bytes):
    """Copy a whole number of 8-byte words."""
    n = n_bytes // np.uint64(8)
    a, b = view(source, n, np.int64(0)), view(target, n, np.int64(0))
    for i in range(n):
        b[i] = a[i]


@jit
def take_up(shared, worker, job, check, layers, one, place, tag):
    """Point the jobs (that of training at address `place`) and layers of a thread at a run; begin it, if it is new."""
    block = one.block if one.block != ZERO else worker.block
    if one.epoch == ZERO and one.step == ZERO:
        copy_words(block, one.start, shared.block_size)
    job.parameters = check.parameters = block  # scales of the inputs are read there in validation too
    states = view(shared.states, TWO * shared.n_states, np.uint64(0))
    for number in range(shared.n_states):
        view(place + states[TWO * number], ONE, np.uint64(0))[0] = block + states[TWO * number + ONE]
    transposed = block + shared.transposed
    for k in range(job.n_layers):
        layer = layers[k]
        layer.weights = block + layer.offset * itemsize(tag)
        if layer.transposed != ZERO:
            layer.transposed = layer.transposed - worker.transposed + transposed
    worker.transposed = transposed
    job.seed, job.lr, job.subset, job.row_weights = one.seed, one.lr, one.subset, one.weights
    job.copy_weights = 1


@jit
def next_steps(shared, job, one, budget):
    """Point the job at the next steps of a run, at most to the epoch's end; returns the number of steps done before."""
    done = one.epoch * shared.steps + one.step
    job.mode, job.n_threads = TRAIN, 1
    job.n_steps = min(shared.steps - one.step, budget)
    if one.above != ZERO:  # no further than to the end of the window, which may be the last
        job.n_steps = min(job.n_steps, shared.window - one.above % shared.window)
    job.position, job.epoch, job.t, job.steps_done = one.step * job.batch_size, one.epoch, done, ZERO
    job.losses = one.losses + done * np.uint64(8)
    job.lrs = one.lrs + done * np.uint64(8) if one.lrs != ZERO else ZERO
    job.momenta = shared.momenta + done * np.uint64(8) if shared.momenta != ZERO else ZERO
    if one.mean_weights != ZERO:
        job.mean_weights = one.mean_weights + done * np.uint64(8)
    return done


@jit
def clear(job):
    """Reset what a call of the entry begins with, for one thread."""
    atomic_store(job.barrier, 0)
    atomic_store(job.claims, 0)
    atomic_store(job.status, RUNNING)


@jit
def falls_steadily(means, count, back):
    """True if each of the last `back` means is below the one before it."""
    found = True
    for number in range(count - back, count):
        found &= means[number] < means[number - ONE]
    return found


@jit
def hopeless(shared, one, first, n):
    """True if the losses have stayed above the limit for long and do not fall; n more steps, from `first`, are read.

    Long are four windows without a step below the limit. The means of the later half of the windows then decide: over
    that many, noise neither looks like a fall nor hides a slow one. The run is given up if these means have not fallen
    one after the other, nor by much in all, and twice that fall would not lead below the limit in time.
    """
    losses = view(one.losses, first + n, 0.0)
    for s in range(first, first + n):
        if one.mean_weights != ZERO and view(one.mean_weights, first + n, 0.0)[s] == 0.0:
            continue  # nothing counted
        if not losses[s] > one.limit:
            one.above, one.total = ZERO, 0.0
            continue
        one.above += ONE
        one.total += losses[s]
        if one.above % shared.window == ZERO:
            count = one.above // shared.window
            means, back = view(one.means, count, 0.0), count // TWO
            latest = one.total / float(shared.window)
            means[count - ONE], one.total = latest, 0.0
            if count >= LONG and not falls_steadily(means, count, back):
                fall = latest / means[count - ONE - back]
                times = float(shared.n_steps - s - ONE) / float(back * shared.window)
                if fall > CLEAR_FALL and math.log(latest / one.limit) + times * math.log(0.5 * fall) > 0.0:
                    return True
    return False


@jit
def finite_parameters(job, tag):
    """True if all parameters are finite: the last step may have ruined them, though its own loss was finite."""
    values, bad = view(job.parameters, job.n_parameters, tag), 0
    for i in range(job.n_parameters):
        bad += values[i] - values[i] != 0
    return bad == 0


@leaf(
    types.Array(Sweep, 1, "C"), types.Array(Worker, 1, "C"), types.Array(Job, 3, "C"), types.Array(Layer, 2, "C"),
    types.Array(Run, 1, "C"), types.int64, calls=[run], pairs=(),
)  # fmt: skip
def sweep(sweeps, workers, jobs, layers, runs, thread, tag):
    """Train runs on one thread until none is left to take, its budget of steps is spent, or a stop is asked for.

    jobs: (threads, 2, 1), for training and for validation; layers: (threads, n_layers). A run that is not
    finished goes on at the next call. Threads need not call together.
    """
    shared, worker = sweeps[0], workers[thread]
    training, validation, own_layers = jobs[thread, TRAINING], jobs[thread, VALIDATION], layers[thread]
    job, check = training[0], validation[0]
    place = shared.jobs + np.uint64(thread) * TWO * JOB_BYTES
    spent, entered = ZERO, now()
    while spent < worker.budget and atomic_load(job.stop) == 0:
        if worker.current < 0:
            number = atomic_add(shared.claims, 1)
            if number >= np.int64(shared.n_runs):
                break
            worker.current = number
            runs[number].thread = thread
            take_up(shared, worker, job, check, own_layers, runs[number], place, tag)
        one = runs[worker.current]
        epoch_ticks = view(one.epoch_ticks, one.end, np.int64(0))
        since = now()
        done = next_steps(shared, job, one, worker.budget - spent)
        clear(job)
        run(training, own_layers, 0, tag)
        job.copy_weights = 0
        one.step += job.steps_done
        spent += job.n_steps
        epoch_ticks[one.epoch] += now() - since
        status = atomic_load(job.status)
        if status == DIVERGED:
            one.status = NOT_FINITE
        elif status >= BAD_INPUT:
            one.status, one.bad_row = BAD_ROW, job.bad_row
        elif hopeless(shared, one, done, job.steps_done):
            one.status = HOPELESS
        elif one.step == shared.steps:
            check.mode, check.n_threads, check.outputs, check.order = EVALUATE, 1, one.outputs, one.held_out
            values = one.epoch * check.n_samples
            check.row_losses = one.held_out_losses + values * itemsize(tag)
            if one.outputs != ZERO:
                check.outputs += values * own_layers[check.n_layers - ONE].n_out * itemsize(tag)
            clear(check)
            run(validation, own_layers, 0, plain(tag))
            status = atomic_load(check.status)
            spent += max(ONE, check.n_samples // (VALIDATED_PER_TRAINED * check.batch_size))
            if status >= BAD_INPUT:
                one.status, one.bad_row = BAD_ROW, check.bad_row
            if status != STOPPED:  # otherwise the epoch stays open: it has not been validated
                one.epoch, one.step = one.epoch + ONE, ZERO
                if one.status == OPEN and one.epoch == one.end:
                    one.status = FINISHED if finite_parameters(job, tag) else NOT_FINITE
        one.ticks += now() - since
        if one.status != OPEN:
            worker.current = -1
    worker.spent = spent
    worker.ticks += now() - entered
