"""L-BFGS on all rows at once: iterations in native calls, and what Python sees between them."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from fastbp.callbacks.checkpoint import Checkpoint
from fastbp.engine import memory, team, tuning
from fastbp.engine.minimizer import Minimizer
from fastbp.engine.placement import Placement
from fastbp.engine.precisions import FLOAT32
from fastbp.errors import DivergenceError
from fastbp.kernels import lbfgs as kernel
from fastbp.kernels import records
from fastbp.optimizers.lbfgs import LBFGS
from fastbp.spec import Samples
from fastbp.training.feeds import ArrayFeed, Loop
from fastbp.training.settings import FitSettings
from fastbp.types import Array

LIMITS = {kernel.MOST_ITERATIONS: "max_iter is reached", kernel.MOST_EVALUATIONS: "max_fun is reached"}
ENDS = {
    kernel.FLAT: "converged: the gradient is flat enough",
    kernel.LITTLE_LEFT: "converged: the cost falls by little",
    kernel.NO_LOWER_POINT: "found no lower point",
    kernel.MOST_EVALUATIONS: "max_evaluations are over",
}


MEETING_SECONDS = 2e-5  # what an evaluation has to save by a second thread


class Interrupted(Exception):
    """Ctrl-C, on its way out."""


def check(settings: FitSettings) -> None:
    """Refuse what L-BFGS cannot do."""
    if settings.saved is not None or any(isinstance(one, Checkpoint) for one in settings.callbacks):
        raise ValueError(
            "L-BFGS cannot be resumed to the same bits, for its memory of earlier steps is not kept: leave Checkpoint "
            "and resume out; net.save keeps the weights"
        )
    if settings.precision != FLOAT32:
        raise ValueError(
            f"L-BFGS needs all digits of its gradients: leave precision={settings.precision!r} out, or take another "
            "optimizer"
        )


@dataclass(frozen=True)
class Result:
    """How a minimisation has ended.

    Attributes
    ----------
    cost : float
        Loss and penalties at the last iterate.
    evaluations : int
    limit : str
        What has ended it before it converged, empty if it did, or if a callback ended it.
    """

    cost: float
    evaluations: int
    limit: str


class FullBatchFeed(ArrayFeed):
    """All rows at once, as often as the minimisation asks for them."""

    result: Result  # of the last call of `train`

    def train(self, loop: Loop) -> None:
        """All iterations."""
        self.result = Descent(loop, self).run()


def block_loss(
    loop: Loop, samples: Samples, block: Array, parameters: Array, *, fresh: bool = False, threads: int | None = None
) -> float:
    """Loss of some rows, by their numbers, at some parameters; leaves their gradient in the engine.

    fresh: the transposed copy of the parameters is at hand.
    """
    session, (X, y, weights, _) = loop.session, samples
    engine, flops = session.engine, session.layout.flops_per_row
    scaling, scan = session.kernel_scaling(), isinstance(X, np.memmap)
    engine.bind_data(X, y, scaling, weights, scan=scan, rows=block)
    if threads is None:
        threads = engine.choose_threads(loop.settings.threads, len(block), flops, tuning.WAKE_SECONDS)
    engine.need_gradient()
    engine.prepare(len(block), threads, whole=True)
    long = len(block) * flops > tuning.LONG_STEP_FLOPS
    status = engine.call(records.BACKPROP, Placement(threads), detached=long, parameters=parameters, fresh=fresh)
    if loop.interrupted():
        raise Interrupted
    if status in records.BAD:
        raise engine.bad_input()
    return float(engine.losses[0])


class Descent:
    """One fit. Whenever others may look, the network holds an iterate."""

    def __init__(self, loop: Loop, feed: ArrayFeed) -> None:
        self.loop, self.session, self.engine, self.history = loop, loop.session, loop.session.engine, loop.history
        optimizer, layout = loop.settings.optimizer, loop.session.layout
        assert isinstance(optimizer, LBFGS)
        self.optimizer, self.samples, self.n, self.mean_weight = optimizer, feed.samples, feed.n_rows, feed.mean_weight
        self.trial, self.all_rows = memory.allocate(layout.n_parameters, layout.dtype), feed.all_rows()
        spec, alpha = loop.session.spec, loop.settings.conventions.alpha
        l2 = spec.regularization.l2 + 0.5 * alpha / (self.n * self.mean_weight)
        self.decay = np.full(layout.n_parameters, optimizer.weight_decay) + 2.0 * l2 * layout.weight_mask()
        self.descent = spec.loss.descent(spec.n_out)
        self.evaluations = self.written = 0
        self.watched = loop.stops_at_epochs or loop.progress.shown
        flops = layout.flops_per_row * self.n
        self.threads = self.engine.choose_threads(loop.settings.threads, self.n, layout.flops_per_row, MEETING_SECONDS)
        self.native = self.n <= tuning.GRADIENT_ROWS  # one call makes many evaluations
        self.long = flops > tuning.LONG_STEP_FLOPS
        self.budget = max(1, int(tuning.CHUNK_SECONDS * tuning.THREAD_FLOPS / max(1, flops)))

    def run(self) -> Result:
        """All iterations."""
        try:
            with team.interruptible(self.engine.request_stop) as self.loop.interrupted:
                while self.minimize():
                    pass
        except Interrupted:
            raise KeyboardInterrupt from None
        record = self.minimum.record
        return Result(float(record["cost"]), self.evaluations, LIMITS.get(self.minimum.status, ""))

    def minimize(self) -> bool:
        """Iterations from the network's weights on; True if a callback has changed them and there are more to come."""
        optimizer, epochs = self.optimizer, self.loop.settings.epochs
        self.session.use(optimizer)
        most = optimizer.max_evaluations
        self.minimum = minimum = Minimizer(
            self.engine, self.decay, optimizer.memory, descent=self.descent, flat=optimizer.gtol, little=optimizer.ftol,
            most_iterations=epochs - len(self.history.loss), most_in_line=optimizer.max_line_search,
            most_evaluations=1 << 62 if most is None else most - self.evaluations, pauses=self.watched,
        )  # fmt: skip
        self.written, self.started = 0, time.perf_counter()
        self.before = len(self.history.loss), self.engine.steps, self.engine.epochs
        self.trial[:] = self.engine.parameters
        minimum.take(self.evaluate())
        try:
            while minimum.status == kernel.OPEN:
                if self.native:
                    minimum.run(self.budget, self.threads, detached=self.long)
                else:
                    if self.watched:  # somebody may have used the engine
                        self.trial[:] = minimum.point
                    minimum.take(self.evaluate(fresh=not self.watched))
                if self.loop.interrupted():
                    raise Interrupted
                if self.watched and self.written < minimum.record["iterations"] and self.show():
                    more = most is None or self.evaluations + int(minimum.record["evaluations"]) < most
                    return more and len(self.history.loss) < epochs and not self.history.stop_reason
        finally:
            self.settle()
            self.evaluations += int(minimum.record["evaluations"])
        if minimum.status == kernel.ROWS_ARE_BAD:
            raise self.engine.bad_input()
        if minimum.status == kernel.NOT_FINITE:
            where = self.engine.epochs, self.engine.steps
            raise DivergenceError(*where, None, self.history, self.session.standardizes)
        if minimum.status in ENDS and not self.history.stop_reason:
            self.history.stop_reason = f"LBFGS: {ENDS[minimum.status]}"
        return False

    def evaluate(self, *, fresh: bool = False) -> float:
        """The loss at the trial point; leaves its gradient in the minimum's `slope`.

        fresh: the kernel has written the point, and its transposed copy, itself.
        """
        loss, gradient, weights = 0.0, self.minimum.slope, self.samples.weights
        gradient[:] = 0.0
        for start in range(0, self.n, tuning.GRADIENT_ROWS):
            block = self.all_rows[start : start + tuning.GRADIENT_ROWS]
            counted = len(block) if weights is None else weights[block].sum() / self.mean_weight
            if counted == 0:
                continue
            share = counted / self.n if len(block) < self.n else 1.0  # to the last bit, as where the kernel goes on
            threads = self.threads if self.native else None
            loss += share * block_loss(self.loop, self.samples, block, self.trial, fresh=fresh, threads=threads)
            gradient += share * self.engine.need_gradient()
        return loss

    def settle(self) -> None:
        """Have the network hold the last iterate, and the history its losses; twice is as once, after an interrupt."""
        history, engine, written = self.history, self.engine, self.written
        made = int(self.minimum.record["iterations"])
        if made == written:
            return
        at_end = self.minimum.status not in (kernel.OPEN, kernel.NOT_FINITE, kernel.ROWS_ARE_BAD)
        parameters = memory.allocate(len(self.trial), self.trial.dtype)
        parameters[:] = self.minimum.point if at_end else self.minimum.iterate
        now, (n, steps, epochs) = time.perf_counter(), self.before
        losses: Array = self.minimum.losses[written:made]
        engine.change(parameters=parameters, counters=engine.counters_from(steps + made, epochs + made))
        history.loss[n + written :], history.lr[n + written :] = losses.tolist(), [1.0] * (made - written)
        history.seconds[n + written :] = [(now - self.started) / (made - written)] * (made - written)
        self.started, self.written = now, made

    def show(self) -> bool:
        """Show the iteration to whoever watches; True if this minimisation is at its end by that."""
        self.settle()
        history, engine = self.history, self.engine
        parameters, then = engine.parameters, (engine.steps, engine.state_layout)
        self.loop.end_epoch()
        self.loop.progress.update(len(history.loss), len(history.loss) * self.n, history, 1.0)
        if self.loop.interrupted():
            raise Interrupted
        changed = engine.parameters is not parameters or then != (engine.steps, engine.state_layout)
        self.native = False  # the engine has to be bound anew each time
        return changed or bool(history.stop_reason)
