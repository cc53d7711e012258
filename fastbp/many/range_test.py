"""The learning-rate range test: train a copy while the rate rises, and watch the loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp import optimizers, validation
from fastbp.data import columns, sample_weights
from fastbp.engine import precisions
from fastbp.io.progress import ProgressBar
from fastbp.many.metrics import Metric
from fastbp.many.range_result import RangeTest
from fastbp.many.range_run import RangeRun
from fastbp.many.runs import check_seeds
from fastbp.network import MLP
from fastbp.numerics import own
from fastbp.training.settings import check_threads

Array = npt.NDArray[Any]

RAMPS = ("exponential", "linear")
LEAST_STEPS = 20
LAG = 25.0  # n_steps over the steps that the default smoothing lags by
POINTS = 20  # a held-out curve has at least these


@own
def lr_range_test(
    net: MLP,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    lr_min: float = 1e-6,
    lr_max: float = 10.0,
    n_steps: int = 500,
    ramp: str = "exponential",
    batch_size: int = 32,
    optimizer: str | optimizers.Optimizer = "adam",
    smoothing: float | None = None,
    k: float = 4.0,
    seeds: int | Sequence[int] = 3,
    validation_data: tuple[npt.ArrayLike, ...] | None = None,
    validation_every: int | None = None,
    sample_weight: npt.ArrayLike | None = None,
    class_weight: Mapping[int, float] | str | None = None,
    metric: str | Callable[[Any, Any], float] = "loss",
    maximize: bool = True,
    fresh: bool = True,
    threads: int | None = None,
    progress: bool = False,
    precision: str = "float32",
) -> RangeTest:
    """Train copies of a network while the learning rate rises from step to step, and suggest rates (Smith 2017).

    Each seed draws weights and takes an order of the batches, as in `lr_sweep`, with a fresh optimiser; epochs follow
    each other for as long as there are steps. The network, its moments, counters, history and seed stay as they are. A
    seed equals, bit for bit, a `fit` of such a network with that seed and a schedule of these rates, whatever the
    number of threads.

    A seed stops where its loss is not finite, or where its smoothed loss exceeds
    ``best + (k - 1) max(|best|, eps)``, which is ``k best`` for positive losses and right for negative ones; best is
    the lowest so far and eps a tenth of the loss before the first step. The first tenth of the steps is too short to
    be smooth: it stops nothing, unless it is not finite, and makes no suggestion.

    Parameters
    ----------
    net : MLP
        Stays as it is.
    X, y : array-like
        Samples and targets, as `MLP.fit` takes them.
    lr_min, lr_max : float
        First and last learning rate.
    n_steps : int
        Steps of the ramp, at least 20.
    ramp : {"exponential", "linear"}
        ``lr_min (lr_max / lr_min)^(i / (n - 1))``, or ``lr_min + (lr_max - lr_min) i / (n - 1)``.
    batch_size : int
        Rows a step.
    optimizer : str or Optimizer
        As in `MLP.fit`; its learning rate is not used.
    smoothing : float, optional
        beta of the running mean ``s <- beta s + (1 - beta) loss``, shown as ``s / (1 - beta^i)`` (bias correction).
        It lags by ``1 / (1 - beta)`` steps; by default by a 25th of the ramp, 0.95 for 500 steps.
    k : float
        Above 1: see the stopping rule.
    seeds : int or sequence of int
        So many, counted from ``net.seed``; or the seeds themselves.
    validation_data : tuple (X, y) or (X, y, sample_weight), optional
        Measure, stop and suggest by the loss on these data instead, after every so many steps; the running mean then
        takes ``beta^every``.
    validation_every : int, optional
        These steps; by default so many that it costs about as much as the training, with 20 points or more.
    sample_weight, class_weight
        How much each row, and each class, counts in the training, as in `MLP.fit`.
    metric : str or callable
        With `validation_data`, the curve is of this: "accuracy", "balanced_accuracy", "r2", "rmse", "mae", or
        ``f(y, predictions)``. Where larger is better, L is ``1 - value``, of functions ``-value``. Without, there are
        only the losses of batches: a metric of so few rows would be noise.
    maximize : bool
        Whether more is better, of a function.
    fresh : bool
        False begins all seeds at the network's current weights, as for a network that is trained on: then they vary the
        order of the batches alone.
    threads : int, optional
        By default what is fastest.
    progress : bool
        Show a progress bar.
    precision : {"float32", "bfloat16"}
        Of the operands of products, as in `MLP.fit`.

    Returns
    -------
    RangeTest
        Curves, band, `suggestions` and `bounds`, each with its formula, source and spread over seeds.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described.
    KeyboardInterrupt
        On Ctrl-C; the network is as it was.

    Notes
    -----
    A quick look, not a proof: it judges a rate by a few steps after all smaller rates. `fastbp.lr_sweep` trains.

    Only the part of a curve is looked at up to where 95 % of its fall are done. Beyond, a network that has learnt all
    there is says nothing of rates, and the loss is as low at 0.01 as at 1. Where the smoothed loss L falls by no more
    than five times its noise, there is no suggestion.

    - ``steepest``: the rate where dL/d(log lr) is most negative, by central differences over a 25th of the ramp to
      either side.
    - ``minimum/10``: a tenth of the rate where this part of L is lowest.
    - ``valley``: the rate two thirds along the longest strictly decreasing subsequence of L. So fastai describes its
      own; its code takes the middle of as many points up to the end of the subsequence as that has.
    - ``bounds``, for cyclical rates and `OneCycle`: from where 5 % of the fall is done to where 95 % is: where the loss
      begins to fall, and where that slows.

    The loss falls with the sum of the rates so far. So suggestions fall as about ``1 / n_steps``, and each stands for a
    training of some `steps` at a constant rate, 31 by the default ramp. Longer ones want more
    (docs/explanation/sweeps.md).

    References
    ----------
    Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3: the test, and the bounds.
    fastai, `lr_find` and its suggestion functions `steep`, `minimum` and `valley` (the last by ESRI):
    docs.fast.ai/callback.schedule.html.

    Examples
    --------
    >>> test = fastbp.lr_range_test(net, X, y)
    >>> sorted(test.suggestions)  # each with its value, its spread over seeds and its source
    ['minimum/10', 'steepest', 'valley']
    >>> sorted(test.bounds)
    ['lower', 'upper']
    """
    if not isinstance(net, MLP):
        raise TypeError(f"net must be a fastbp.MLP, got {type(net).__name__}")
    ramp = validation.check_choice("ramp", ramp, RAMPS)
    rates = _rates(lr_min, lr_max, n_steps, ramp)
    rule = _rule(optimizer)
    n_steps, batch_size = len(rates), validation.check_positive_int("batch_size", batch_size)
    beta = max(0.0, 1.0 - LAG / n_steps) if smoothing is None else validation.check_fraction("smoothing", smoothing)
    k = validation.check_positive_finite("k", k)
    if k <= 1.0:
        raise ValueError(f"k must be above 1, got {k!r}")
    chosen, threads = check_seeds(seeds, net.seed), check_threads(threads)
    fresh, products = validation.check_flag("fresh", fresh), precisions.check(precision, net.dtype)
    measure = Metric.get(metric, net.loss, validation.check_flag("maximize", maximize))
    if measure.function is not None and validation_data is None:
        raise ValueError(f"metric={measure.name!r} needs validation_data: a batch has too few rows to measure it on")
    rows = _training_rows(net, X, y, sample_weight, class_weight, batch_size)
    batch_size = min(batch_size, len(rows[0]))
    held_out, held_out_y, every = _held_out(net, validation_data, validation_every, batch_size, n_steps)
    began = time.perf_counter()
    run = RangeRun(
        net, *rows, rates, batch_size, rule, beta, k, held_out, every, fresh, threads, products, measure, held_out_y
    )
    with ProgressBar("range test", len(chosen) * n_steps, show=progress, transient=True) as bar:
        curves = [run.run(seed, bar, number * n_steps) for number, seed in enumerate(chosen)]
    weighed = {} if class_weight is None else {"class_weight": repr(class_weight)}
    settings = {"ramp": ramp, **run.described(), **weighed}
    return RangeTest(
        rates, np.stack([curve.losses for curve in curves]),
        None if held_out is None else np.stack([curve.held_out for curve in curves]),
        np.arange(every - 1, n_steps, every),
        np.stack([curve.smoothed for curve in curves]), [curve.stopped for curve in curves], chosen, settings,
        time.perf_counter() - began,
        None if measure.function is None else np.stack([curve.metric for curve in curves]),
    )  # fmt: skip


def _rule(given: str | optimizers.Optimizer) -> optimizers.Optimizer:
    """The optimiser, which takes steps by a learning rate."""
    rule = optimizers.get(given)
    rule.check_step()
    if isinstance(rule, optimizers.Rprop):
        raise ValueError(f"{rule!r} adapts the sizes of its steps by itself: it has no learning rate to test")
    return rule


def _training_rows(
    net: MLP, X: Any, y: Any, sample_weight: Any, class_weight: Any, batch_size: int
) -> tuple[Array, Array, Array | None]:
    """Samples, targets and weights, checked."""
    X = columns.by_name(X, net.feature_names)
    samples, targets, weights, _ = net.session.check_batch(X, y, sample_weight, scan=True)
    weights = sample_weights.apply_class_weight(class_weight, net.session.spec, y, targets, weights, None)
    sample_weights.check_total(weights, what="training rows")
    if sample_weight is not None or class_weight is not None:
        sample_weights.check_effect(weights, None, batch_size)
    return samples, targets, weights


def _held_out(
    net: MLP, data: Any, validation_every: int | None, batch_size: int, n_steps: int
) -> tuple[tuple[Array, Array, Array | None] | None, Any, int]:
    """The held-out data, checked; their targets as they were given; and the steps between two looks at them."""
    if data is None:
        if validation_every is not None:
            raise ValueError(f"validation_every={validation_every!r} needs validation_data")
        return None, None, 1
    rows, *others = sample_weights.parts(data)
    rows = columns.by_name(rows, net.feature_names, "validation_data[0]")
    names = "validation X", "validation y", "validation sample_weight"
    checked = net.session.check_batch(rows, *others, scan=True, names=names)[:3]
    sample_weights.check_total(checked[2], what="validation rows")
    return checked, others[0], _every(validation_every, len(checked[0]), batch_size, n_steps)


def _rates(lr_min: float, lr_max: float, n_steps: int, ramp: str) -> npt.NDArray[np.float64]:
    low = validation.check_positive_finite("lr_min", lr_min)
    high = validation.check_positive_finite("lr_max", lr_max)
    if low >= high:
        raise ValueError(f"lr_min must be below lr_max, got lr_min={lr_min!r} and lr_max={lr_max!r}")
    n_steps = validation.check_positive_int("n_steps", n_steps)
    if n_steps < LEAST_STEPS:
        raise ValueError(f"n_steps must be at least {LEAST_STEPS}, got {n_steps!r}")
    return np.geomspace(low, high, n_steps) if ramp == "exponential" else np.linspace(low, high, n_steps)


def _every(wanted: int | None, rows: int, batch_size: int, n_steps: int) -> int:
    """Steps between two evaluations of the held-out rows: a forward pass costs a third of a training step."""
    most = n_steps // POINTS
    if wanted is None:
        return min(most, max(1, math.ceil(rows / (3 * batch_size))))
    every = validation.check_positive_int("validation_every", wanted)
    if every > most:
        raise ValueError(
            f"validation_every must leave {POINTS} points: at most {most} for {n_steps} steps, got {every}"
        )
    return every
