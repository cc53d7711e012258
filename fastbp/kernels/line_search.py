"""The line search of Moré and Thuente (1994): steps that lower a function enough and flatten its slope enough.

What is known of the search stands in a record; `begin` sets it up, and `judge` is told the value and the slope at the
step, and says whether it will do, or sets the next one. All in double precision.
"""

from __future__ import annotations

import numpy as np

from fastbp.kernels.jit import jit

SUFFICIENT, CURVATURE, CLOSE = 1e-3, 0.9, 0.1  # SciPy's, in L-BFGS-B
LONGEST = 1e10

FIELDS = [
    ("step", np.float64),
    ("bracketed", np.int64),  # a minimum lies between `best` and `other`
    ("stage", np.int64),  # 1 until a step has lowered the function enough at a slope that is not negative
    ("value0", np.float64),  # at step 0
    ("slope0", np.float64),
    ("best", np.float64),  # the step of least value so far, its value and slope
    ("best_value", np.float64),
    ("best_slope", np.float64),
    ("other", np.float64),  # the other end of the interval
    ("other_value", np.float64),
    ("other_slope", np.float64),
    ("low", np.float64),  # the next step lies between these
    ("high", np.float64),
    ("width", np.float64),  # of the interval, now and a step before
    ("width_before", np.float64),
]


@jit
def begin(s, step, value, slope):
    """Search from a first step, a value and a negative slope on."""
    s.step, s.bracketed, s.stage, s.value0, s.slope0 = step, 0, 1, value, slope
    s.best = s.other = 0.0
    s.best_value = s.other_value = value
    s.best_slope = s.other_slope = slope
    s.low, s.high = 0.0, 5.0 * step
    s.width, s.width_before = LONGEST, 2.0 * LONGEST


@jit
def judge(s, value, slope):
    """True if the step will do, or nothing better is to be found; otherwise `step` is the next one to try."""
    step, least = s.step, SUFFICIENT * s.slope0
    bound = s.value0 + step * least
    if s.stage == 1 and value <= bound and slope >= 0.0:
        s.stage = 2
    stuck = s.bracketed != 0 and (step <= s.low or step >= s.high or s.high - s.low <= CLOSE * s.high)
    at_end = (step == LONGEST and value <= bound and slope <= least) or (
        step == 0.0 and (value > bound or slope >= least)
    )
    if stuck or at_end or (value <= bound and abs(slope) <= -CURVATURE * s.slope0):
        return True
    if s.stage == 1 and value <= s.best_value and value > bound:  # by the function less its line of sufficient descent
        s.best_value, s.best_slope = s.best_value - s.best * least, s.best_slope - least
        s.other_value, s.other_slope = s.other_value - s.other * least, s.other_slope - least
        _narrow(s, value - step * least, slope - least)
        s.best_value, s.best_slope = s.best_value + s.best * least, s.best_slope + least
        s.other_value, s.other_slope = s.other_value + s.other * least, s.other_slope + least
    else:
        _narrow(s, value, slope)
    if s.bracketed != 0:
        if abs(s.other - s.best) >= 0.66 * s.width_before:  # it has not shrunk by enough: halve it
            s.step = s.best + 0.5 * (s.other - s.best)
        s.width_before, s.width = s.width, abs(s.other - s.best)
        s.low, s.high = min(s.best, s.other), max(s.best, s.other)
    else:
        s.low, s.high = s.step + 1.1 * (s.step - s.best), s.step + 4.0 * (s.step - s.best)
    s.step = min(max(s.step, 0.0), LONGEST)
    if s.bracketed != 0 and (s.step <= s.low or s.step >= s.high or s.high - s.low <= CLOSE * s.high):
        s.step = s.best
    return False


@jit
def _narrow(s, value, slope):
    """Take the step into the interval, and set the next by the cubic and quadratic through what is known."""
    step, best, other = s.step, s.best, s.other
    turned = (slope < 0.0) != (s.best_slope < 0.0) and slope != 0.0
    if value > s.best_value:  # higher: the minimum is bracketed, the nearer of cubic and quadratic, or between them
        cubic = _cubic(best, s.best_value, s.best_slope, step, value, slope)
        rise = (s.best_value - value) / (step - best)
        quadratic = best + s.best_slope / (rise + s.best_slope) / 2.0 * (step - best)
        new = cubic if abs(cubic - best) < abs(quadratic - best) else cubic + (quadratic - cubic) / 2.0
        s.bracketed = 1
    elif turned:  # lower, and beyond the minimum: the farther of cubic and secant
        cubic = _cubic_back(step, value, slope, best, s.best_value, s.best_slope)
        secant = step + slope / (slope - s.best_slope) * (best - step)
        new = cubic if abs(cubic - step) > abs(secant - step) else secant
        s.bracketed = 1
    elif abs(slope) < abs(s.best_slope):  # lower, and flatter: the cubic where it has a minimum ahead
        cubic = _cubic_ahead(step, value, slope, best, s.best_value, s.best_slope, s.low, s.high)
        secant = step + slope / (slope - s.best_slope) * (best - step)
        if s.bracketed != 0:
            new = cubic if abs(cubic - step) < abs(secant - step) else secant
            limit = step + 0.66 * (other - step)
            new = min(limit, new) if step > best else max(limit, new)
        else:
            new = cubic if abs(cubic - step) > abs(secant - step) else secant
            new = max(s.low, min(s.high, new))
    elif s.bracketed != 0:  # lower, and as steep
        new = _cubic_back(step, value, slope, other, s.other_value, s.other_slope)
    else:
        new = s.high if step > best else s.low
    if value > s.best_value:
        s.other, s.other_value, s.other_slope = step, value, slope
    else:
        if turned:
            s.other, s.other_value, s.other_slope = best, s.best_value, s.best_slope
        s.best, s.best_value, s.best_slope = step, value, slope
    s.step = new


@jit
def _root(theta, a, b, floor):
    """sqrt(theta^2 - a b), scaled so that no square overflows; at least 0 where `floor` says so."""
    size = max(abs(theta), max(abs(a), abs(b)))
    inside = (theta / size) ** 2 - (a / size) * (b / size)
    return size * np.sqrt(max(0.0, inside) if floor else inside)


@jit
def _theta(x, fx, dx, y, fy, dy):
    return 3.0 * (fx - fy) / (y - x) + dx + dy


@jit
def _cubic(x, fx, dx, y, fy, dy):
    """The minimiser of the cubic through two points and slopes, seen from x, where y is higher."""
    theta = _theta(x, fx, dx, y, fy, dy)
    gamma = _root(theta, dx, dy, False)
    gamma = -gamma if y < x else gamma
    return x + ((gamma - dx) + theta) / (((gamma - dx) + gamma) + dy) * (y - x)


@jit
def _cubic_back(x, fx, dx, y, fy, dy):
    """The same, seen from x, where the slopes differ in sign or y brackets the minimum."""
    theta = _theta(y, fy, dy, x, fx, dx)
    gamma = _root(theta, dx, dy, False)
    gamma = -gamma if x > y else gamma
    return x + ((gamma - dx) + theta) / (((gamma - dx) + gamma) + dy) * (y - x)


@jit
def _cubic_ahead(x, fx, dx, y, fy, dy, low, high):
    """The minimiser of the cubic beyond x; where it has none there, the end of the interval."""
    theta = _theta(y, fy, dy, x, fx, dx)
    gamma = _root(theta, dx, dy, True)
    gamma = -gamma if x > y else gamma
    ratio = ((gamma - dx) + theta) / ((gamma + (dy - dx)) + gamma)
    if ratio < 0.0 and gamma != 0.0:
        return x + ratio * (y - x)
    return high if x > y else low
