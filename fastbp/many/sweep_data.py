"""The figures of a learning-rate sweep: losses, the best rate and how sure that is, time and speed."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np

from fastbp.many import statistics
from fastbp.many.ledger import DIVERGED, ENDED, FINISHED, OVERFLOWED, STATUSES, STOPPED, Ledger, outcomes
from fastbp.many.metrics import cost
from fastbp.many.run_spec import RunSpec
from fastbp.numerics import quiet_results
from fastbp.types import Array

# Outcome of a run that finished with a loss above that of its initial weights.
NO_BETTER = "no better than untrained"


@quiet_results
@dataclass
class SweepData:
    """Losses, times and what became of the runs of K learning rates and S seeds; see `LrSweep` for the fields."""

    learning_rates: Array
    seeds: Array
    train_loss: Array
    val_loss: Array
    epoch_seconds: Array
    seconds: Array
    status: Array
    epochs_done: Array
    start_loss: Array
    eliminated: Array
    wall_seconds: float
    busy_seconds: float
    threads: int
    n_train: int
    n_held: int
    flops_per_row: int
    halving: int | None = None
    target_loss: float | None = None
    about: dict[str, Any] = field(default_factory=dict)
    metric: str = "loss"
    larger: bool = False
    val_metric: Array | None = None
    start_metric: Array | None = None
    kept_epoch: Array | None = None

    @classmethod
    def of(
        cls, spec: RunSpec, ledger: Ledger, seeds: list[int], eliminated: Array, *, wall: float, busy: float,
        threads: int, halving: int | None, target_loss: float | None,
    ) -> Self:  # fmt: skip
        """Make the result from a ledger whose runs are ordered by rate, then by seed."""
        n = len(seeds)
        status = ledger.status.copy()
        # Rates that were dropped, and what was interrupted between two rungs, have not finished.
        status[(status == FINISHED) & (ledger.done < spec.epochs)] = STATUSES.index("open")
        # A journal may know more of a rate that was eliminated than this sweep has asked for.
        ends = np.repeat(np.where(eliminated > 0, eliminated, spec.epochs), n)
        status[ends < spec.epochs] = STATUSES.index("open")
        beyond = np.arange(spec.epochs) >= ends[:, None]
        status = outcomes(ledger, status)
        found = np.array(STATUSES)[np.where(status == ENDED, FINISHED, status)]
        measured = ledger.metric.function is not None
        done = np.minimum(ledger.done, ends)
        parts = {
            name: array.reshape(-1, n, *array.shape[1:]).copy()
            for name, array in {
                "train_loss": np.where(beyond, np.nan, ledger.train_loss),
                "val_loss": np.where(beyond, np.nan, ledger.val_loss),
                "epoch_seconds": np.where(beyond, np.nan, ledger.epoch_seconds),
                "seconds": ledger.seconds, "status": found,
                "epochs_done": done, "kept_epoch": np.where(ledger.kept > 0, np.minimum(ledger.kept, done), done),
                **({"val_metric": np.where(beyond, np.nan, ledger.val_metric)} if measured else {}),
            }.items()
        }  # fmt: skip
        net = spec.net
        about = {
            "network": repr(net),
            "loss": net.loss.name,
            "optimizer": _without_rate(spec),
            "schedule": None if spec.schedule is None else repr(spec.schedule),
            "batch_size": spec.batch_size,
            "data": spec.digest(),
            "epochs": spec.epochs,
            "held_out": "validation_data" if spec.held_out is not None else "a fifth, by seed",
            **({"metric": ledger.metric.name} if measured else {}),
            **({} if spec.class_weight is None else {"class_weight": repr(spec.class_weight)}),
            **({"callbacks": [repr(one) for one in spec.callbacks]} if spec.callbacks else {}),
        }
        if (found == STATUSES[OVERFLOWED]).any():
            about["largest_value"] = spec.largest_value()
        n_held = len(spec.held_out[0]) if spec.held_out is not None else len(spec.X) - spec.n_train
        return cls(
            learning_rates=ledger.learning_rates[::n].copy(), seeds=np.array(seeds, np.uint64),
            start_loss=ledger.of_seeds(ledger.start_loss, n), eliminated=eliminated, wall_seconds=wall,
            busy_seconds=busy, threads=threads, n_train=spec.n_train, n_held=n_held,
            flops_per_row=net.session.layout.flops_per_row,
            halving=halving, target_loss=target_loss, about=about, metric=ledger.metric.name,
            larger=ledger.metric.larger,
            start_metric=ledger.of_seeds(ledger.start_metric, n) if measured else None, **parts,
        )  # fmt: skip

    # --- what rates are compared by -------------------------------------------------------------------------

    @property
    def cost(self) -> Array:
        """The validation loss, or the metric made small where it is good, ``(K, S, epochs)``; NaN as for `val_loss`."""
        return self.val_loss if self.val_metric is None else cost(self.val_metric, self.metric, self.larger)

    @property
    def start_cost(self) -> Array:
        """The same at the initial weights, ``(S,)``."""
        return self.start_loss if self.start_metric is None else cost(self.start_metric, self.metric, self.larger)

    @property
    def final_cost(self) -> Array:
        """`cost` of the weights that a run ends with, ``(K, S)``; NaN for runs that have not finished."""
        return self._final(self.cost)

    @property
    def final_metric(self) -> Array:
        """The metric of the weights that a run ends with, ``(K, S)``: where that is the loss, `final_loss`."""
        return self._final(self.val_loss if self.val_metric is None else self.val_metric)

    @property
    def mean_metric(self) -> Array:
        """`final_metric`, mean over seeds, ``(K,)``; NaN for rates that are not eligible."""
        return np.asarray(self._eligible(self.final_metric).mean(axis=1))

    @property
    def metric_error(self) -> Array:
        """Standard error of `mean_metric` over seeds; NaN with a single seed."""
        return statistics.standard_error(self._eligible(self.final_metric))

    def _final(self, values: Array) -> Array:
        """Of ``(K, S, epochs)``, those of the epoch that a run ends with; NaN for runs that have not finished."""
        if self.kept_epoch is None:
            last = values[:, :, -1]
        else:
            last = np.take_along_axis(values, np.maximum(self.kept_epoch - 1, 0)[..., None], axis=2)[..., 0]
        return np.where(self.status == "finished", last, np.nan)

    def _eligible(self, values: Array) -> Array:
        """NaN for rates that are not eligible: one bad seed widens an error beyond any difference."""
        return np.where(self.eligible[:, None], values, np.nan)

    # --- which rate -----------------------------------------------------------------------------------------

    @property
    def epochs(self) -> int:
        """Epochs of a whole run."""
        return int(self.val_loss.shape[2])

    @property
    def diverged(self) -> Array:
        """Runs that turned non-finite or were given up, ``(K, S)``."""
        return np.isin(self.status, (STATUSES[DIVERGED], STATUSES[STOPPED]))

    @property
    def no_better(self) -> Array:
        """Runs that finished with a validation loss (or metric) worse than at their initial weights, ``(K, S)``."""
        final = self.final_cost
        return np.asarray((self.status == "finished") & ((final > self.start_cost) | np.isnan(final)))

    @property
    def outcome(self) -> Array:
        """`status`, with "no better than untrained" where a run finished so, ``(K, S)`` of str."""
        return np.where(self.no_better, NO_BETTER, self.status)

    @property
    def eligible(self) -> Array:
        """Rates of which every seed has finished, and no worse than with its initial weights, ``(K,)``."""
        found: Array = ((self.status == "finished") & ~self.no_better).all(axis=1)
        return found

    @property
    def final_loss(self) -> Array:
        """Validation loss of the weights that a run ends with, ``(K, S)``; NaN for runs that have not finished."""
        return self._final(self.val_loss)

    @property
    def mean_val_loss(self) -> Array:
        """Final validation loss, mean over seeds, ``(K,)``; NaN for rates that are not eligible."""
        means: Array = self._eligible(self.final_loss).mean(axis=1)
        return means

    @property
    def mean_train_loss(self) -> Array:
        """Training loss of the epoch that a run ends with, mean over seeds, ``(K,)``; NaN for rates not eligible."""
        means: Array = self._eligible(self._final(self.train_loss)).mean(axis=1)
        return means

    @property
    def val_error(self) -> Array:
        """Standard error of `mean_val_loss` over seeds; NaN with a single seed."""
        return statistics.standard_error(self._eligible(self.final_loss))

    @property
    def train_error(self) -> Array:
        """Standard error of `mean_train_loss` over seeds; NaN with a single seed."""
        return statistics.standard_error(self._eligible(self._final(self.train_loss)))

    @cached_property
    def comparison(self) -> statistics.Comparison:
        """All rates compared with the best, by `final_cost`."""
        known = (self.eliminated == 0) & ~(self.status == "open").any(axis=1)
        start = float(self.start_cost.mean())
        return statistics.compare(self.learning_rates, self.final_cost, self.eligible, start, known)

    @property
    def best_index(self) -> int | None:
        """Number of the best rate, or None where no rate is eligible."""
        return self.comparison.best

    @property
    def best_lr(self) -> float | None:
        """The eligible rate with the lowest validation loss after the last epoch, smoothed over neighbouring rates.

        The mean over seeds is smoothed as a logarithm: half of it, and a quarter of each neighbour's, where a neighbour
        that is not eligible counts as untrained. So a single lucky rate does not win.
        """
        return None if self.best_index is None else float(self.learning_rates[self.best_index])

    @property
    def lowest_index(self) -> int | None:
        """Number of the rate with the best mean as it is, which may have been lucky; or None."""
        means = self._eligible(self.final_cost).mean(axis=1)
        return int(np.nanargmin(means)) if np.isfinite(means).any() else None

    @property
    def difference(self) -> Array:
        """By how much the smoothed log loss exceeds that of the best, mean of differences paired by seed, ``(K,)``.

        0.05 is about 5 % of the loss. (Losses that may be negative are first counted from below the lowest of them.)
        """
        return self.comparison.difference

    @property
    def difference_error(self) -> Array:
        """Standard error of `difference`, of the mean variance of a rate and its neighbours; NaN with a single seed."""
        return self.comparison.error

    @property
    def in_interval(self) -> Array:
        """Rates as good as the best, ``(K,)`` of bool: see the class."""
        return statistics.interval(self.comparison)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Lowest and highest rate as good as the best."""
        rates = self.learning_rates[self.in_interval]
        return (float(rates[0]), float(rates[-1])) if rates.size else None

    @property
    def recommended_lr(self) -> float | None:
        """The best rate: on other seeds it does better than the centre of the interval (docs/explanation/sweeps.md)."""
        return self.best_lr

    @property
    def edge(self) -> str:
        """A warning if the best rate is the lowest or highest of those swept; otherwise empty."""
        best, k = self.best_index, len(self.learning_rates)
        if best is None or k == 1 or 0 < best < k - 1 or self.missing or self.in_interval.all():
            return ""
        side, where = ("lowest", "downwards") if best == 0 else ("highest", "upwards")
        return f"the best learning rate, {self.best_lr:.3g}, is the {side} of those swept: extend the sweep {where}"

    @property
    def best_by_epoch(self) -> Array:
        """The best rate after each epoch, chosen as `best_lr`, among all alive then, ``(epochs,)``; NaN without any."""
        costs = self.cost
        if self.kept_epoch is not None:  # where a callback has ended a run, its end holds
            over = (self.status == "finished")[..., None] & (np.arange(self.epochs) >= self.epochs_done[..., None])
            costs = np.where(over, self.final_cost[..., None], costs)
        return statistics.best_by_epoch(self.learning_rates, costs, self.start_cost, self.eliminated)

    @property
    def divergence_boundary(self) -> tuple[float | None, float] | None:
        """(highest rate below which no seed diverged, lowest rate at which one did); None where none did.

        The first is None where the lowest rate itself diverged.
        """
        return statistics.boundary(self.learning_rates, self.diverged)

    @property
    def divergence_distance(self) -> float | None:
        """Decades (powers of ten) from the best rate up to the lowest at which a seed diverged; None where none did."""
        boundary = self.divergence_boundary
        return None if boundary is None or self.best_lr is None else math.log10(boundary[1] / self.best_lr)

    @property
    def sensitivity(self) -> float | None:
        """Mean over log lr of ``min(J, J0) - J*``: what a wrong rate costs (Wortsman et al. 2023, section 2.2).

        J: final validation loss (or cost, by the metric), J0 where a run diverged; J*: the lowest. By the trapezoidal
        rule over log lr, mean over seeds. None where rates were eliminated or interrupted: their loss is not known.
        """
        k, final = self.lowest_index, self.final_cost
        lowest = None if k is None else float(self._eligible(final).mean(axis=1)[k])
        return statistics.sensitivity(self.learning_rates, final, self.diverged, self.start_cost, lowest)

    @property
    def missing(self) -> int:
        """Number of runs that an interrupted sweep has not finished."""
        return int(((self.status == "open") & (self.eliminated == 0)[:, None] & ~self._given_up).sum())

    @property
    def _given_up(self) -> Array:
        """Rates whose remaining runs halving has not continued, since a seed has no loss, ``(K, 1)``."""
        lost = np.isin(self.status, STATUSES[DIVERGED:]).any(axis=1, keepdims=True)
        return np.asarray(lost & (self.halving is not None))

    # --- how long -------------------------------------------------------------------------------------------

    @property
    def seconds_to_target(self) -> Array:
        """Training time until the validation loss is at most `target_loss`, ``(K, S)``; NaN where it never is."""
        return statistics.seconds_to(self.target_loss, self.val_loss, self.epoch_seconds)

    @property
    def samples_per_second(self) -> Array:
        """Training rows a second, ``(K, S)``; NaN where no epoch was finished."""
        each = np.nansum(self.epoch_seconds, axis=2)
        speed: Array = np.where(each > 0, self.epochs_done * self.n_train / each, np.nan)
        return speed

    @property
    def gflops(self) -> Array:
        """Floating-point operations of training a second, in 1e9, ``(K, S)``."""
        speed: Array = self.samples_per_second * (self.flops_per_row / 1e9)
        return speed

    @property
    def profile(self) -> dict[str, Any]:
        """Where the time went: of an epoch, to the target, rates of work, occupancy of the threads, retired runs.

        Medians over runs; times in seconds. `lost_seconds` went to runs that diverged or were stopped,
        `eliminated_seconds` to rates that halving dropped.
        """
        dropped = (self.eliminated > 0)[:, None] & ~self.diverged
        return {
            "wall_seconds": self.wall_seconds,
            "busy_seconds": self.busy_seconds,
            "threads": self.threads,
            "occupancy": min(1.0, self.busy_seconds / max(1e-12, self.threads * self.wall_seconds)),
            "seconds_per_epoch": _median(self.epoch_seconds),
            "seconds_per_run": _median(self.seconds[self.status == "finished"]),
            "seconds_to_target": _median(self.seconds_to_target),
            "reached_target": int(np.isfinite(self.seconds_to_target).sum()),
            "samples_per_second": _median(self.samples_per_second),
            "gflops": _median(self.gflops),
            "lost_seconds": float(self.seconds[self.diverged].sum()),
            "eliminated_seconds": float(self.seconds[dropped].sum()),
        }

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary a run; NaN where a figure is missing."""
        target, speed, gflops, final = self.seconds_to_target, self.samples_per_second, self.gflops, self.val_loss
        outcome, values = self.outcome, self.val_metric
        found = []
        for k, s in np.ndindex(self.status.shape):
            last = int((self.epochs_done if self.kept_epoch is None else self.kept_epoch)[k, s]) - 1
            found.append({
                "learning_rate": float(self.learning_rates[k]),
                "seed": int(self.seeds[s]),
                "status": "eliminated" if self.eliminated[k] and not self.diverged[k, s] else str(outcome[k, s]),
                "epochs": int(self.epochs_done[k, s]),
                "train_loss": float(self.train_loss[k, s, last]) if last >= 0 else float("nan"),
                "val_loss": float(final[k, s, last]) if last >= 0 else float("nan"),
                **({} if values is None else {f"val_{self.metric}": values[k, s, last] if last >= 0 else float("nan")}),
                "seconds": float(self.seconds[k, s]),
                "seconds_to_target": float(target[k, s]),
                "samples_per_second": float(speed[k, s]),
                "gflops": float(gflops[k, s]),
            })  # fmt: skip
        return found


def _without_rate(spec: RunSpec) -> str:
    fields = {f.name: getattr(spec.optimizer, f.name) for f in dataclasses.fields(spec.optimizer)}
    shown = ", ".join(f"{name}={value!r}" for name, value in fields.items() if name != "lr" and value is not None)
    return f"{type(spec.optimizer).__name__}({shown})"


def _median(values: Array) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else None
