"""Does the advice of sweeps hold? Many fresh seeds are the truth, and repeated sweeps are held against it.

    python benchmarks/sweep_truth.py

Writes docs/sweeps.md, in some minutes. `--runs FILE` keeps the trainings, so that policies can be studied without training
again. The numbers in `fastbp/many/statistics.py` and `halving.py` were chosen with other seeds than those here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np
from sklearn import datasets
from sklearn.base import BaseEstimator
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - the import makes it available
from sklearn.model_selection import HalvingGridSearchCV, PredefinedSplit

import fastbp
from fastbp.many import halving, statistics
from fastbp.many.ledger import DIVERGED, FINISHED, Ledger

TARGET = Path(__file__).parent.parent / "docs" / "sweeps.md"
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
    """Trains nothing: all losses are known."""

    busy_seconds, n_threads = 0.0, 1

    def train(self, which: Any, end: int) -> bool:
        """Done already."""
        return True


def halved(rates: Any, losses: Any, start: Any) -> tuple[int | None, Any, float]:
    """`lr_sweep(halving=3)`: the advice, which rates were trained to the end, and the epochs that it took."""
    n_rates, seeds, epochs = losses.shape
    ledger = Ledger(np.repeat(rates, seeds), list(range(seeds)) * n_rates, epochs)
    ledger.val_loss[:] = losses.reshape(-1, epochs)
    ledger.start_loss[:] = np.tile(start, n_rates)
    ledger.status[:] = np.where(np.isfinite(ledger.val_loss[:, -1]), FINISHED, DIVERGED)
    eliminated, _ = halving.halve(
        Recorded(), ledger, seeds, halving.rungs(n_rates, epochs, HALVING), lambda which: None
    )
    alive = eliminated == 0
    done = np.where(alive, epochs, eliminated)
    cost = sum(np.isfinite(losses[k, :, : done[k]]).sum() for k in range(n_rates))
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
    """Optuna's TPE over log rate, at the nearest rate of the grid: as many trials as rates, each the mean over seeds."""
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


# --- tables -----------------------------------------------------------------------------------------------------------


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """A table in Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def horizons(all_cases: list[Case]) -> list[str]:
    """The truly best rate by the length of the training."""
    rows, down, up = [], 0, 0
    for case in all_cases:
        best = [case.rates[case.until(epochs).best] for epochs in HORIZONS]
        down, up = down + (best[-1] < best[0]), up + (best[-1] > best[0])
        rows.append([case.data, case.optimizer, *(f"{rate:.2g}" for rate in best)])
    return [
        "## Longer trainings want smaller rates",
        "",
        f"The best rate after {HORIZONS[-1]} epochs is smaller than after {HORIZONS[0]} in {down} of {len(rows)} cases, "
        f"and larger in {up}. So a sweep says what `best_by_epoch` shows of it, and halving keeps small rates that have "
        "not had the time to arrive.",
        "",
        *table(["data", "optimiser", *(f"after {epochs}" for epochs in HORIZONS)], rows),
    ]


def best_rates(all_cases: list[Case]) -> list[str]:
    """The smoothed best against the lowest mean."""
    rows = []
    for seeds in (3, 5, 10):
        found = []
        for epochs in HORIZONS:
            for case in (one.until(epochs) for one in all_cases):
                for losses, start in case.sweeps(seeds):
                    picks = (lowest(losses, start), advised(case.rates, losses, start).best)
                    found.append([*(case.excess(k) for k in picks), *(case.good(k) for k in picks)])
        means = 100 * np.mean(found, axis=0)
        rows.append([seeds, *(f"{value:.1f} %" for value in means)])
    head = ["seeds", "excess loss, lowest mean", "smoothed", "within one standard error, lowest mean", "smoothed"]
    return [
        "## The best rate is that of the smoothed losses",
        "",
        f"Mean over {len(all_cases)} cases, trainings of {', '.join(map(str, HORIZONS))} epochs, and {REPEATS} sweeps "
        "each: by how much the true loss of the recommended rate exceeds that of the best, and how often it does so by "
        "less than one standard error (of ten seeds).",
        "",
        *table(head, rows),
    ]


def intervals(all_cases: list[Case]) -> list[str]:
    """Coverage and width."""
    rows = []
    for seeds in (3, 5, 10):
        for epochs in HORIZONS:
            for optimizer in OPTIMIZERS:
                held, before, widths = [], [], []
                for case in (one.until(epochs) for one in all_cases if one.optimizer == optimizer):
                    inside = [
                        (one_error(losses, start), statistics.interval(advised(case.rates, losses, start)))
                        for losses, start in case.sweeps(seeds)
                    ]
                    before.append(sum(bool(old[case.best]) for old, _ in inside))
                    held.append(sum(bool(new[case.best]) for _, new in inside))
                    widths.append(np.median([[old.sum(), new.sum()] for old, new in inside], axis=0))
                old, new = np.mean(widths, axis=0)
                enough = sum(count >= 0.9 * REPEATS for count in held)
                rows.append([
                    seeds, epochs, optimizer, ", ".join(map(str, before)), ", ".join(map(str, held)),
                    f"{enough} of {len(held)}", f"{old:.1f}", f"{new:.1f}", f"{new / old:.2f}",
                ])  # fmt: skip
    head = [
        "seeds", "epochs", "optimiser", f"held the best, of {REPEATS}: one error", "now", "sets with 9 in 10",
        "width: one error", "now", "ratio",
    ]  # fmt: skip
    return [
        "## Intervals hold the best rate",
        "",
        "Rates as good as the best: how many of the sweeps of a data set (in the order of the first table) held the truly "
        "best rate, by the earlier rule of one standard error around the lowest mean and by that of today; and the "
        "median number of rates in an interval, a quarter of a decade each, mean over data sets.",
        "",
        *table(head, rows),
    ]


def halvings(all_cases: list[Case]) -> list[str]:
    """What halving loses and costs."""
    rows, totals = [], np.zeros(4)
    for case in all_cases:
        found = []
        for losses, start in case.sweeps(SEEDS):
            full = float(np.isfinite(losses).sum())
            for halve in (plainly_halved, halved):
                best, alive, cost = halve(case.rates, losses, start)
                found.append([not alive[case.best], cost / full, case.excess(best)])
        plain, ours = np.array(found)[::2].T, np.array(found)[1::2].T
        totals += [plain[0].sum(), ours[0].sum(), plain[1].sum(), ours[1].sum()]
        rows.append([
            case.data, case.optimizer, f"{plain[0].sum():.0f}", f"{ours[0].sum():.0f}", f"{100 * plain[1].mean():.0f} %",
            f"{100 * ours[1].mean():.0f} %", f"{100 * plain[2].mean():.1f} %", f"{100 * ours[2].mean():.1f} %",
        ])  # fmt: skip
    n = REPEATS * len(all_cases)
    head = [
        "data",
        "optimiser",
        f"lost the best, of {REPEATS}: plain",
        "now",
        "cost: plain",
        "now",
        "excess: plain",
        "now",
    ]
    return [
        "## Halving",
        "",
        f"`halving={HALVING}`, {SEEDS} seeds, {EPOCHS} epochs (compared after "
        f"{', '.join(map(str, halving.rungs(17, EPOCHS, HALVING)[:-1]))}), beside successive halving that keeps the best "
        f"third: the truly best rate is lost in {totals[1]:.0f} of {n} sweeps ({100 * totals[1] / n:.1f} %; plain: "
        f"{totals[0]:.0f}), for {100 * totals[3] / n:.0f} % of the epochs of a whole sweep (plain: "
        f"{100 * totals[2] / n:.0f} %). Runs that diverge end at once, and count in neither.",
        "",
        *table(head, rows),
    ]


def others(all_cases: list[Case]) -> list[str]:
    """Beside Optuna and scikit-learn."""
    policies: dict[str, Callable[[Any, Any, Any], int | None]] = {
        "fastbp": lambda rates, losses, start: advised(rates, losses, start).best,
        "fastbp, halving": lambda rates, losses, start: halved(rates, losses, start)[0],
        "scikit-learn's halving": sklearn_halving,
    }
    try:
        import optuna

        policies["Optuna, TPE"] = tpe
        version = f"Optuna {optuna.__version__}"
    except ImportError:
        version = "Optuna is not installed"
    rows, sums = [], np.zeros(len(policies))
    excess: list[list[float]] = [[] for _ in policies]
    for case in all_cases:
        counts = np.zeros(len(policies))
        for losses, start in case.sweeps(SEEDS):
            for number, policy in enumerate(policies.values()):
                pick = policy(case.rates, losses, start)
                counts[number] += case.good(pick)
                excess[number].append(case.excess(pick))
        sums += counts
        rows.append([case.data, case.optimizer, *(f"{count:.0f}" for count in counts)])
    rows.append(["all", "", *(f"{total:.0f} of {REPEATS * len(all_cases)}" for total in sums)])
    rows.append(["mean excess loss", "", *(f"{100 * np.mean(values):.1f} %" for values in excess)])
    return [
        "## Beside Optuna and scikit-learn",
        "",
        f"How many of {REPEATS} searches recommended a rate within one standard error of the best, on the same trainings: "
        f"17 rates and {SEEDS} seeds of {EPOCHS} epochs. TPE has the budget of the whole sweep: 17 trials, each the mean "
        f"of {SEEDS} seeds; scikit-learn's `HalvingGridSearchCV` has {SEEDS} folds, a factor of 3, and epochs as its "
        f"resource. ({version}.)",
        "",
        *table(["data", "optimiser", *policies], rows),
    ]


def range_tests(all_cases: list[Case]) -> list[str]:
    """What range tests suggest, beside the truth."""
    names = ("steepest", "minimum/10", "valley", "lower", "upper")
    rows, falls = [], []
    truth = {(case.data, case.optimizer): case for case in all_cases}
    for data, X, y, classes in problems():
        for optimizer, (description, _) in OPTIMIZERS.items():
            found = {}
            for n_steps in (500, 2000):
                test = fastbp.lr_range_test(
                    network(X, y, classes, FIRST), X, y, n_steps=n_steps, optimizer=description, seeds=10
                )
                found[n_steps] = {name: one for name, one in (test.suggestions | test.bounds).items()}
            falls.append([found[500][name].value / found[2000][name].value for name in names])
            case = truth[data, optimizer]
            spread = max(one.high / one.low for one in found[500].values())
            rows.append([
                data, optimizer, *(f"{case.rates[case.until(epochs).best]:.2g}" for epochs in HORIZONS),
                *(f"{found[500][name].value:.2g}" for name in names), f"{spread:.1f}",
            ])  # fmt: skip
    factors = ", ".join(f"{name} {value:.1f}" for name, value in zip(names, np.median(falls, axis=0), strict=True))
    head = ["data", "optimiser", *(f"best after {epochs}" for epochs in HORIZONS), *names, "largest spread"]
    return [
        "## The range test",
        "",
        f"Suggestions of 500 steps, median of 10 seeds, beside the truly best rates; the largest spread is the highest of "
        f"a seed over the lowest. With 2000 steps they fall by factors of (median): {factors}. A suggestion stands for a "
        "training of as many steps as sum up to the same rates, about 31 here: the best rate of a long training is larger, "
        "and between the bounds.",
        "",
        *table(head, rows),
    ]


@click.command()
@click.option("--runs", type=click.Path(dir_okay=False, path_type=Path), help="Keep the trainings in FILE (.npz).")
def main(runs: Path | None) -> None:
    """Train, hold sweeps against the truth, and write the page."""
    all_cases = cases(runs, click.echo)
    lines = [
        "# Does the advice of sweeps hold?",
        "",
        f"Generated by `python benchmarks/sweep_truth.py` on {date.today()}. Six data sets of some hundred rows, one hidden "
        f"layer of {HIDDEN} relu units, batches of {BATCH}, at most {EPOCHS} epochs, 17 rates a quarter of a decade apart "
        f"(Adam: 0.0001 to 1; SGD with momentum 0.9: 0.001 to 10). A seed draws weights, batches and the fifth that is held "
        f"out. {TRUTH} seeds tell which rate is truly best; {REPEATS} sweeps, each with other seeds, are held against that.",
        "",
    ]
    for part in (horizons, best_rates, intervals, halvings, others, range_tests):
        found = part(all_cases)
        click.echo("\n".join(found))
        lines += found
    TARGET.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
