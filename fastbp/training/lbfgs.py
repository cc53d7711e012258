"""L-BFGS on all rows at once: SciPy's, led by the gradient of our kernels (extra `lbfgs`)."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp import arrays
from fastbp.callbacks.checkpoint import Checkpoint
from fastbp.engine import memory, team, tuning
from fastbp.engine.placement import Placement
from fastbp.engine.precisions import FLOAT32
from fastbp.errors import DivergenceError
from fastbp.kernels import records
from fastbp.optimizers.lbfgs import LBFGS, scipy_minimize
from fastbp.spec import Samples
from fastbp.training.feeds import ArrayFeed, Loop
from fastbp.training.settings import FitSettings
from fastbp.types import Array


class Interrupted(Exception):
    """Ctrl-C, on its way out through SciPy."""


def check(settings: FitSettings) -> None:
    """Refuse what L-BFGS cannot do."""
    if settings.saved is not None or any(isinstance(one, Checkpoint) for one in settings.callbacks):
        raise ValueError(
            "L-BFGS cannot be resumed to the same bits, for SciPy keeps its memory: leave Checkpoint and resume "
            "out; net.save keeps the weights"
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
    iterations, evaluations : int
    limit : str
        What has ended it before it converged, in SciPy's words; empty if it did, or if a callback ended it.
    """

    cost: float
    iterations: int
    evaluations: int
    limit: str


class FullBatchFeed(ArrayFeed):
    """All rows at once, as often as SciPy asks for them."""

    result: Result  # of the last call of `train`

    def train(self, loop: Loop) -> None:
        """All iterations."""
        self.result = Minimization(loop, self).run()


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


class Minimization:
    """One fit by SciPy. Between iterations the network holds an iterate: the line search looks at other points."""

    def __init__(self, loop: Loop, feed: ArrayFeed) -> None:
        self.loop, self.session, self.engine, self.history = loop, loop.session, loop.session.engine, loop.history
        optimizer, layout = loop.settings.optimizer, loop.session.layout
        assert isinstance(optimizer, LBFGS)
        self.optimizer, self.samples, self.n, self.mean_weight = optimizer, feed.samples, feed.n_rows, feed.mean_weight
        self.places, self.trial = layout.places(), memory.allocate(layout.n_parameters, layout.dtype)
        l2 = loop.session.spec.regularization.l2 + 0.5 * loop.settings.conventions.alpha / (self.n * self.mean_weight)
        self.decay = optimizer.weight_decay + 2.0 * l2 * layout.weight_mask()[self.places]
        self.all_rows, self.evaluations, self.iterations = feed.all_rows(), 0, 0
        spec = loop.session.spec
        self.descent = spec.loss.descent(spec.n_out)
        # An iterate that the network does not hold yet, and the updates and epochs that it stands for: set at once, so
        # that an interrupt between two lines finds them together.
        self.pending: tuple[Array, int, int] | None = None
        self.started = time.perf_counter()

    def run(self) -> Result:
        """All iterations."""
        try:
            with team.interruptible(self.engine.request_stop) as self.loop.interrupted:
                while self.minimize():
                    pass
        except Interrupted:
            raise KeyboardInterrupt from None
        return Result(self.end.fun, self.iterations, self.evaluations, self.limit)

    def minimize(self) -> bool:
        """Iterations from the network's weights on; True if a callback has changed them and there are more to come."""
        optimizer, epochs = self.optimizer, self.loop.settings.epochs
        self.session.use(optimizer)
        self.seen: tuple[Array, float] | None = None
        self.before_iteration: float | None = None
        self.changed, left = False, epochs - len(self.history.loss)
        most = left * (optimizer.max_line_search + 1) + 1
        if optimizer.max_evaluations is not None:
            most = min(most, optimizer.max_evaluations - self.evaluations)
        options = {
            "maxiter": left, "maxfun": most, "maxcor": optimizer.memory,
            "maxls": optimizer.max_line_search, "gtol": optimizer.gtol, "ftol": optimizer.ftol,
        }  # fmt: skip
        start = self.engine.parameters[self.places].astype(np.float64)
        try:
            self.end = result = scipy_minimize()(
                self.cost, start, jac=True, method="L-BFGS-B", callback=self.end_iteration, options=options
            )
        finally:
            self.settle()
        self.limit = ""
        if self.history.stop_reason:
            return False
        if self.changed:
            return len(self.history.loss) < epochs and self.evaluations < (optimizer.max_evaluations or math.inf)
        if not result.success:
            self.limit = result.message
        if result.nit < left:
            what = "converged" if result.success else "found no lower point"
            if self.evaluations > (optimizer.max_evaluations or math.inf):
                what = "max_evaluations are over"
            self.history.stop_reason = f"LBFGS: {what}: {result.message}"
        return False

    def put(self, point: Array, parameters: Array) -> None:
        """Write the weights and biases of a point into flat parameters."""
        parameters[self.places] = point  # infinity in single precision gives a loss that is seen

    def cost(self, point: Array) -> tuple[float, Array]:
        """Loss and penalty at a point, and their gradient, summed in double precision block by block."""
        self.put(point, self.trial)
        self.evaluations += 1
        loss, gradient, weights = 0.0, np.zeros(len(point)), self.samples.weights
        for start in range(0, self.n, tuning.GRADIENT_ROWS):
            block = self.all_rows[start : start + tuning.GRADIENT_ROWS]
            counted = len(block) if weights is None else weights[block].sum() / self.mean_weight
            if counted == 0:
                continue
            share = counted / self.n
            loss += share * block_loss(self.loop, self.samples, block, self.trial)
            gradient += share * self.engine.need_gradient()[self.places]
        if not (math.isfinite(loss) and (arrays.all_finite(gradient) or np.isfinite(gradient).all())):
            where = self.engine.epochs, self.engine.steps
            raise DivergenceError(*where, None, self.history, self.session.standardizes)
        self.seen = point.copy(), loss
        if self.before_iteration is None:
            self.before_iteration = loss
        decay = self.decay * point
        return self.descent * loss + 0.5 * float(point @ decay), gradient + decay

    def loss_at(self, point: Array) -> float:
        """Loss at a point, without penalty; where it was computed last it is known."""
        if self.seen is None or not np.array_equal(self.seen[0], point):
            self.cost(point)
        assert self.seen is not None
        return self.seen[1]

    def settle(self) -> None:
        """Have the network hold the last iterate."""
        if self.pending is not None:
            point, steps, epochs = self.pending
            engine, made = self.engine, memory.allocate(len(self.trial), self.trial.dtype)
            self.put(point, made)
            engine.change(parameters=made, counters=engine.counters_from(steps, epochs))
            self.pending = None

    def end_iteration(self, intermediate_result: Any) -> None:
        """What SciPy calls after each iteration: write the history, validate, ask the callbacks."""
        history, engine, n = self.history, self.engine, len(self.history.loss)
        loss, seconds = self.loss_at(intermediate_result.x), time.perf_counter() - self.started
        steps, epochs = (engine.steps, engine.epochs) if self.pending is None else self.pending[1:]
        self.pending = intermediate_result.x.copy(), steps + 1, epochs + 1  # SciPy goes on in the same array
        self.iterations += 1
        assert self.before_iteration is not None
        history.loss[n:], history.lr[n:], history.seconds[n:] = [self.before_iteration], [1.0], [seconds]
        self.before_iteration = loss
        if self.loop.stops_at_epochs or self.loop.progress.shown:
            self.settle()
            iterate, then = engine.parameters, (engine.steps, engine.state_layout)
            self.loop.end_epoch()
            self.loop.progress.update(len(history.loss), len(history.loss) * self.n, history, 1.0)
            self.changed = engine.parameters is not iterate or then != (engine.steps, engine.state_layout)
        if self.loop.interrupted():
            raise Interrupted
        if history.stop_reason or self.changed:
            raise StopIteration
        self.started = time.perf_counter()
