"""The trainings of a range test: one seed after the other along the ramp, in native calls of many steps."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp import optimizers
from fastbp.engine import precisions, team, tuning
from fastbp.engine.network import Network
from fastbp.io.progress import ProgressBar
from fastbp.kernels import records
from fastbp.many import run_spec
from fastbp.many.metrics import Metric
from fastbp.many.range_data import SKIP
from fastbp.many.smoothing import Smoother
from fastbp.network import MLP
from fastbp.spec import Samples
from fastbp.training.feeds import ArrayFeed
from fastbp.training.loop import Loop
from fastbp.training.rate_table import RateTable
from fastbp.training.settings import FitSettings

Array = npt.NDArray[Any]

MOST_CHUNK = 64  # steps between two evaluations of the stopping rule, at most
START_ROWS = 4096  # rows, evenly spread, that the loss before the first step is measured on


class Ramp(RateTable):
    """The learning rate of every step, as a `Loop` asks for it."""

    def __init__(self, rates: npt.NDArray[np.float64], steps: int) -> None:
        super().__init__(None, 0.0, steps)
        self.rates = rates

    @property
    def constant(self) -> bool:
        return False

    def tables(self, epoch: int, first: int, n: int, step: int) -> tuple[Any, Any]:
        return self.rates[step : step + n], None


@dataclass
class Curve:
    """One seed; NaN from where it has stopped."""

    losses: Array  # (n,)
    held_out: Array  # (q,)
    smoothed: Array  # (q,)
    metric: Array  # (q,)
    stopped: str = ""


@dataclass
class RangeRun:
    """What the trainings of all seeds share; `run` does one of them."""

    net: MLP
    samples: Array
    targets: Array
    weights: Array | None
    rates: npt.NDArray[np.float64]
    batch_size: int
    optimizer: optimizers.Optimizer
    smoothing: float
    k: float
    held_out: tuple[Array, Array, Array | None] | None
    every: int
    fresh: bool
    threads: int | None
    precision: str
    metric: Metric
    held_out_y: Any  # as the user gave it

    def described(self) -> dict[str, Any]:
        """The settings, as plain values."""
        held = 0 if self.held_out is None else len(self.held_out[0])
        found = {
            "optimizer": self.optimizer.name, "optimizer_options": {**vars(self.optimizer), "lr": None},
            "batch_size": self.batch_size, "lr_min": float(self.rates[0]), "lr_max": float(self.rates[-1]),
            "smoothing": self.smoothing, "k": self.k, "rows": len(self.samples), "held_out_rows": held,
            "validation_every": self.every, "fresh": self.fresh,
        }  # fmt: skip
        if self.precision != precisions.FLOAT32:
            found["precision"] = self.precision
        if self.metric.function is not None:
            found |= {"metric": self.metric.name, "larger": self.metric.larger}
        return found

    def _measured(
        self, net: Network, threads: int | None, data: tuple[Array, Array, Array | None]
    ) -> tuple[float, float]:
        """Loss and metric on checked data; infinite, or NaN, where they overflow."""
        outputs, loss = net.session.infer(Samples(*data), activated=True, threads=threads)
        if self.metric.function is None:
            return loss, math.nan
        return loss, self.metric.of_outputs(net, outputs, self.held_out_y, data[2])

    def _cost(self, loss: float, metric: float) -> float:
        """What the curve is of."""
        return loss if self.metric.function is None else float(self.metric.cost(np.asarray(metric)))

    def _cost_before(self, net: MLP) -> float:
        """What the curve is of at a network's weights, on some rows, or on the held-out data."""
        data = self.held_out
        if data is None:
            counted = np.arange(len(self.samples)) if self.weights is None else np.flatnonzero(self.weights)
            rows = counted[:: -(-len(counted) // START_ROWS)]
            weights = None if self.weights is None else self.weights[rows]
            data = np.asarray(self.samples[rows]), np.ascontiguousarray(self.targets[rows]), weights
        return self._cost(*self._measured(net, None, data))

    def run(self, seed: int, bar: ProgressBar, done_before: int) -> Curve:
        """Train a network with one seed."""
        n, points = len(self.rates), len(self.rates) // self.every
        held_out, smoothed, metric = np.full((3, points), np.nan)
        curve = Curve(np.full(n, np.nan), held_out, smoothed, metric)
        twin = self._twin(seed)
        start = self._cost_before(twin.copy())
        loop = self._prepare(twin)
        smoother = Smoother(self.smoothing**self.every, self.k, int(SKIP * points), start)
        engine, per_epoch = loop.engine, loop.learning_rates.steps
        done, step_seconds = 0, loop.step_flops / tuning.THREAD_FLOPS + 1e-6
        try:
            with team.interruptible(engine.request_stop) as interrupted:
                while done < n and not curve.stopped:
                    placement, seconds = loop.threads.next(tuning.CHUNK_SECONDS)
                    step_seconds = loop.threads.seconds.get(placement, step_seconds)
                    now = min(n - done, max(1, min(MOST_CHUNK, int(seconds / step_seconds))))
                    if self.held_out is not None:
                        now = min(now, self.every - done % self.every)
                    long = step_seconds > tuning.CHUNK_SECONDS
                    began = time.perf_counter()
                    status, made = loop.chunk(done % per_epoch, now, placement, long=long)
                    if made:
                        loop.threads.note(placement, made, time.perf_counter() - began)
                    if interrupted():
                        raise KeyboardInterrupt
                    if status in records.BAD:
                        raise engine.bad_input()
                    self._record(loop, curve, smoother, done, made, diverged=status == records.DIVERGED)
                    done += made
                    if interrupted():
                        raise KeyboardInterrupt
                    bar.update(done_before + done)
        finally:
            engine.clear_stop()
        return curve

    def _twin(self, seed: int) -> MLP:
        """A network with the weights of a seed, or a copy with its order of batches."""
        if self.fresh:
            return run_spec.fresh(self.net, seed)
        twin = self.net.copy()
        twin.reset_optimizer()
        twin.seed = seed
        return twin

    def _prepare(self, twin: MLP) -> Loop:
        """The loop that trains a network along the ramp."""
        twin.session.use(self.optimizer)
        settings = FitSettings(
            self.optimizer, batch_size=self.batch_size, threads=self.threads, precision=self.precision
        )  # fmt: skip
        samples = Samples(self.samples, self.targets, self.weights)
        loop = Loop(twin, ArrayFeed(samples, 1, self.batch_size, shuffle=True), settings)
        loop.learning_rates = Ramp(self.rates, loop.learning_rates.steps)
        return loop

    def _record(self, loop: Loop, curve: Curve, smoother: Smoother, done: int, made: int, *, diverged: bool) -> None:
        """Write the losses of a chunk into the curve, up to where the rule stops it.

        A batch in which nothing counts has no loss, and leaves the running mean as it is.
        """
        counted = np.ones(made, np.bool_) if self.weights is None else loop.engine.mean_weights[:made] > 0.0
        losses = np.where(counted, loop.engine.losses[:made], np.nan).tolist()
        if self.held_out is not None:
            curve.losses[done : done + made] = losses
            if diverged:
                curve.stopped = self._reason(done + made, "not finite")
            elif (done + made) % self.every == 0:
                point = (done + made) // self.every - 1
                loss, metric = self._measured(loop.net, loop.threads.best.threads, self.held_out)
                curve.smoothed[point], reason = smoother.add(self._cost(loss, metric))
                curve.held_out[point] = loss if math.isfinite(loss) else math.nan
                curve.metric[point] = metric if math.isfinite(metric) else math.nan
                curve.stopped = self._reason(done + made - 1, reason)
            return
        for step, loss in enumerate(losses + [math.nan] * diverged, done):
            empty = step - done < made and not counted[step - done]
            smooth, reason = (smoother.value, "") if empty else smoother.add(loss)
            curve.smoothed[step], curve.losses[step] = smooth, loss
            if reason:
                curve.stopped = self._reason(step, reason)
                return

    def _reason(self, step: int, reason: str) -> str:
        return f"step {step}, lr {self.rates[min(step, len(self.rates) - 1)]:.3g}: {reason}" if reason else ""
