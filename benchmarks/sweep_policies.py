"""Trainings and policies of `sweep_truth.py`: cases whose best rate is known, and what each policy makes of a sweep."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.base import BaseEstimator
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - the import makes it available
from sklearn.model_selection import HalvingGridSearchCV, PredefinedSplit

import fastbp
from fastbp.many import halving, statistics
from fastbp.many.ledger import FINISHED, Ledger

FIRST, TRUTH, REPEATS = 10_000, 240, 40
EPOCHS, HIDDEN, BATCH = 32, 32, 32
HORIZONS = (5, 10, 32)
OPTIMIZERS = {
    "Adam": ("adam", np.geomspace(1e-4, 1.0, 17)),
    "SGD": (fastbp.SGD(momentum=0.9), np.geomspace(1e-3, 10.0, 17)),
}
SEEDS = 5
HALVING = 3


def problems() -> Iterator[tuple[str, Any, Any, bool]]:
    """Name, samples, targets, and whether these are classes."""
    X, y = fastbp.datasets.load_digits()
    some = np.random.default_rng(0).permutation(len(X))[:500]
    yield "digits", X[some], y[some], True
    yield "wine", *datasets.load_wine(return_X_y=True), True
    yield "breast cancer", *datasets.load_breast_cancer(return_X_y=True), True
    yield "diabetes", *datasets.load_diabetes(return_X_y=True), False
    yield "moons", *datasets.make_moons(400, noise=0.25, random_state=0), True
    yield "friedman1", *datasets.make_friedman1(400, noise=1.0, random_state=0), False


def network(X: Any, y: Any, classes: bool, seed: int = 0) -> fastbp.MLP:
    """One hidden layer of relu; inputs, and targets that are numbers, are standardised."""
    n_out = int(y.max()) + 1 if classes else 1
    net = fastbp.MLP([X.shape[1], HIDDEN, n_out], loss="cross_entropy" if classes else "mse", seed=seed)
    net.standardize(X, None if classes else y)
    return net


# --- the trainings ----------------------------------------------------------------------------------------------------


@dataclass
class Case:
    """All trainings of a data set with an optimiser: losses by rate, seed and epoch."""

    data: str
    optimizer: str
    rates: Any  # (K,)
    losses: Any  # (K, S, epochs)
    start: Any  # (S,)

    def until(self, epochs: int) -> Case:
        """The same with shorter trainings: at a constant rate their losses are the first of the longer."""
        return Case(self.data, self.optimizer, self.rates, self.losses[:, :, :epochs], self.start)

    @cached_property
    def means(self) -> Any:
        """The truth: mean final loss of the fresh seeds by rate; infinite where more than 2 % of them diverge."""
        final, start = self.losses[:, -TRUTH:, -1], self.start[-TRUTH:]
        means = np.where(np.isfinite(final), final, start).mean(axis=1)
        return np.where(np.isnan(final).mean(axis=1) > 0.02, np.inf, means)

    @cached_property
    def best(self) -> int:
        """Number of the truly best rate."""
        return int(np.argmin(self.means))

    @cached_property
    def tolerance(self) -> float:
        """One standard error of the best rate's mean over ten seeds."""
        return float(np.nanstd(self.losses[self.best, -TRUTH:, -1], ddof=1)) / math.sqrt(10)

    def good(self, k: int | None) -> bool:
        """Is a rate within one standard error of the best?"""
        return k is not None and bool(self.means[k] <= self.means[self.best] + self.tolerance)

    def excess(self, k: int | None) -> float:
        """By what share the loss of a rate exceeds the lowest; 5 at most, and where there is no rate."""
        return 5.0 if k is None else min(5.0, float(self.means[k] / self.means[self.best]) - 1.0)

    def sweeps(self, seeds: int) -> Iterator[tuple[Any, Any]]:
        """Losses and start of repeated sweeps, each with seeds of its own."""
        for first in range(0, REPEATS * seeds, seeds):
            yield self.losses[:, first : first + seeds], self.start[first : first + seeds]


def train(progress: Callable[[str], None]) -> dict[str, Any]:
    """All runs, as arrays by name."""
    found = {}
    for name, X, y, classes in problems():
        for optimizer, (description, rates) in OPTIMIZERS.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # the best rate at the edge of the grid, where it is
                sweep = fastbp.lr_sweep(
                    network(X, y, classes), X, y, rates, seeds=range(FIRST, FIRST + REPEATS * 10 + TRUTH),
                    epochs=EPOCHS, optimizer=description, batch_size=BATCH,
                )  # fmt: skip
            found[f"{name}/{optimizer}/losses"] = sweep.val_loss.astype(np.float32)
            found[f"{name}/{optimizer}/start"] = sweep.start_loss
            progress(f"{name}, {optimizer}: {sweep.status.size:,} trainings in {sweep.wall_seconds:.1f} s")
    return found


def cases(path: Path | None, progress: Callable[[str], None]) -> list[Case]:
    """The trainings, from a file if there is one."""
    if path is not None and path.exists():
        with np.load(path) as file:
            stored = {name: file[name] for name in file.files}
    else:
        stored = train(progress)
        if path is not None:
            np.savez_compressed(path, **stored)
    names = dict.fromkeys(name.rpartition("/")[0] for name in stored)
    return [
        Case(*name.split("/"), OPTIMIZERS[name.split("/")[1]][1], stored[f"{name}/losses"].astype(float),
             stored[f"{name}/start"])
        for name in names
    ]  # fmt: skip


# --- policies: each takes losses (K, S, epochs) and start (S,), and returns what it advises ---------------------------


def eligible(losses: Any, start: Any) -> Any:
    """Rates of which every seed ends no worse than it began."""
    return (losses[:, :, -1] <= start).all(axis=1)


def advised(rates: Any, losses: Any, start: Any) -> statistics.Comparison:
    """What `lr_sweep` makes of these losses."""
    return statistics.compare(rates, losses[:, :, -1], eligible(losses, start), float(start.mean()))


def lowest(losses: Any, start: Any) -> int | None:
    """The rate with the lowest mean: what was the best before."""
    means = np.where(eligible(losses, start), losses[:, :, -1].mean(axis=1), np.inf)
    return int(np.argmin(means)) if np.isfinite(means).any() else None


def one_error(losses: Any, start: Any) -> Any:
    """The interval as it was: rates whose paired difference from the lowest is within one standard error."""
    best, final = lowest(losses, start), losses[:, :, -1]
    inside = np.zeros(len(losses), bool)
    if best is None:
        return inside
    paired = np.where(eligible(losses, start)[:, None], final, np.nan) - final[best]
    near = paired.mean(axis=1) <= paired.std(axis=1, ddof=1) / math.sqrt(paired.shape[1])
    nothing = np.full(len(near), np.nan)
    near[best] = True
    return statistics.interval(statistics.Comparison(best, nothing, nothing, nothing, near))


class Recorded:
    """Trains nothing: all losses are known. Notes how many epochs each run would have taken."""

    busy_seconds, n_threads = 0.0, 1

    def __init__(self, runs: int) -> None:
        self.done = np.zeros(runs, int)

    def train(self, which: Any, end: int) -> bool:
        """Done already."""
        self.done[which] = end
        return True


def halved(rates: Any, losses: Any, start: Any) -> tuple[int | None, Any, float]:
    """`lr_sweep(halving=3)`: the advice, which rates were not eliminated, and the epochs that it took."""
    n_rates, seeds, epochs = losses.shape
    ledger = Ledger(np.repeat(rates, seeds), list(range(seeds)) * n_rates, epochs)
    ledger.val_loss[:] = losses.reshape(-1, epochs)
    ledger.start_loss[:] = np.tile(start, n_rates)
    ledger.status[:] = FINISHED
    runner = Recorded(len(ledger))
    eliminated, _ = halving.halve(runner, ledger, seeds, halving.rungs(n_rates, epochs, HALVING), lambda which: None)
    alive = eliminated == 0
    cost = (np.isfinite(ledger.val_loss) & (np.arange(epochs) < runner.done[:, None])).sum()
    known = eligible(losses, start) & alive
    found = statistics.compare(rates, losses[:, :, -1], known, float(start.mean()), alive)
    return found.best, alive, float(cost)


def plainly_halved(rates: Any, losses: Any, start: Any) -> tuple[int | None, Any, float]:
    """Successive halving as it was: the best third goes on, whatever the errors, from the first epoch on."""
    n_rates, _, epochs = losses.shape
    ends, alive, cost, done = [epochs], np.ones(n_rates, bool), 0.0, 0
    while HALVING ** len(ends) <= n_rates and ends[0] > 1:
        ends.insert(0, max(1, ends[0] // HALVING))
    for end in ends:
        cost += np.isfinite(losses[alive, :, done:end]).sum()
        done = end
        means = np.where(alive, losses[:, :, end - 1].mean(axis=1), np.nan)
        if end < epochs:
            going_on = np.argsort(means)[: -(-int(alive.sum()) // HALVING)]  # NaN comes last
            alive = np.isin(np.arange(n_rates), going_on[np.isfinite(means[going_on])])
    final = np.where(alive & np.isfinite(losses[:, :, -1]).all(axis=1), losses[:, :, -1].mean(axis=1), np.inf)
    return (int(np.argmin(final)) if np.isfinite(final).any() else None), alive, cost


# --- other people's ---------------------------------------------------------------------------------------------------


class Lookup(BaseEstimator):  # type: ignore[misc]
    """An estimator for scikit-learn whose score is the recorded loss: rows are seeds, a fold is one of them."""

    def __init__(self, case: Any = None, rate: int = 0, epochs: int = 1) -> None:
        self.case, self.rate, self.epochs = case, rate, epochs

    def fit(self, X: Any, y: Any = None) -> Lookup:
        """Nothing to do."""
        return self

    def score(self, X: Any, y: Any = None) -> float:
        """The recorded loss, negated; what diverged counts as ten times its start."""
        losses, start = self.case
        seed = int(X[0, 0])
        value = losses[self.rate, seed, self.epochs - 1]
        return -float(value if np.isfinite(value) else 10.0 * start[seed])


def sklearn_halving(rates: Any, losses: Any, start: Any) -> int:
    """`HalvingGridSearchCV` of scikit-learn over the grid, with epochs as its resource and seeds as its folds."""
    seeds, epochs = losses.shape[1:]
    rows = np.arange(seeds, dtype=float)[:, None]
    search = HalvingGridSearchCV(
        Lookup((losses, start)), {"rate": list(range(len(rates)))}, resource="epochs", max_resources=epochs, factor=3,
        cv=PredefinedSplit(np.arange(seeds)), refit=False, random_state=0,
    )  # fmt: skip
    search.fit(rows, np.zeros(seeds))
    return int(search.best_params_["rate"])


def tpe(rates: Any, losses: Any, start: Any) -> int:
    """Optuna's TPE over log rate, at the nearest rate of the grid: as many trials as rates, each a mean over seeds."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    final = np.where(np.isfinite(losses[:, :, -1]), losses[:, :, -1], 10.0 * start)

    def nearest(rate: float) -> int:
        return int(np.argmin(np.abs(np.log(rates / rate))))

    def objective(trial: Any) -> float:
        rate = trial.suggest_float("lr", float(rates[0]), float(rates[-1]), log=True)
        return min(1e30, float(final[nearest(rate)].mean()))

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=int(1e6 * start[0]) % 2**31))
    study.optimize(objective, n_trials=len(rates))
    return nearest(study.best_params["lr"])
