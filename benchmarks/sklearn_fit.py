"""Whole `fit` of the estimators beside scikit-learn's own, with the same parameters: times, and scores over seeds.

    python benchmarks/sklearn_fit.py                     # all cases and solvers: several minutes
    python benchmarks/sklearn_fit.py iris digits --solver lbfgs
    python benchmarks/sklearn_fit.py --scores 10         # scores on held-out rows over ten seeds instead

Fits take turns, and the median of five counts. Each comes after 0.3 s of idling and an untimed fit of its own kind, for
threads of a BLAS spin on for a while. scikit-learn is timed with one thread of its BLAS and with all, and the better
median counts. Needs the extras `sklearn` and `bench`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from time import perf_counter, sleep
from typing import Any, NamedTuple

import click
import numpy as np
import sklearn.neural_network as theirs
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import fastbp.sklearn as ours

SOLVERS = "lbfgs", "sgd", "adam"
IDLE_SECONDS = 0.3


class Case(NamedTuple):
    """Data, and the parameters beside those of the solver."""

    load: Callable[[], Any]
    parameters: dict[str, Any]
    kind: str = "MLPClassifier"
    solvers: tuple[str, ...] = SOLVERS


def _classes(n: int, n_in: int, n_out: int) -> Callable[[], Any]:
    informative = min(n_in, 20)
    return lambda: datasets.make_classification(
        n, n_in, n_informative=informative, n_redundant=0, n_classes=n_out, n_clusters_per_class=1, random_state=0
    )


def _numbers(n: int, n_in: int, n_out: int) -> Callable[[], Any]:
    return lambda: datasets.make_regression(n, n_in, n_targets=n_out, noise=1.0, random_state=0)


def _real(name: str) -> Callable[[], Any]:
    return lambda: getattr(datasets, f"load_{name}")(return_X_y=True)


CASES = {
    "iris": Case(_real("iris"), {}),
    "wine": Case(_real("wine"), {}),
    "breast_cancer": Case(_real("breast_cancer"), {}),
    "digits": Case(_real("digits"), {}),
    "diabetes": Case(_real("diabetes"), {}, "MLPRegressor"),
    # The sizes of the benchmark, see `fastbp/bench/workloads.py`; so many epochs that a fit takes about a second.
    "tiny": Case(_classes(1_600, 4, 3), {"hidden_layer_sizes": 16, "batch_size": 16, "max_iter": 20}),
    "digits-deep": Case(_real("digits"), {"hidden_layer_sizes": (128, 64), "batch_size": 64, "max_iter": 20}),
    "mnist": Case(_classes(12_800, 784, 10), {"hidden_layer_sizes": 128, "batch_size": 128, "max_iter": 4}),
    "mnist-deep": Case(_classes(12_800, 784, 10), {"hidden_layer_sizes": (256, 128), "batch_size": 128, "max_iter": 3}),
    "large": Case(_classes(1_024, 784, 10), {"hidden_layer_sizes": (1024, 1024), "batch_size": 512, "max_iter": 3}),
    "online": Case(
        _classes(2_000, 20, 4), {"hidden_layer_sizes": 40, "batch_size": 1, "max_iter": 3}, solvers=("sgd", "adam")
    ),
    "rl": Case(
        _numbers(10_240, 8, 2),
        {"hidden_layer_sizes": (64, 64), "activation": "tanh", "batch_size": 256, "max_iter": 10},
        "MLPRegressor",
    ),
    "simplechains": Case(
        _numbers(10_000, 4, 4),
        {"hidden_layer_sizes": (32, 16), "activation": "tanh", "batch_size": 10_000, "max_iter": 50},
        "MLPRegressor",
    ),
}


def rows_of(case: Case) -> tuple[Any, Any]:
    """X and y, standardised where they are numbers."""
    X, y = case.load()
    X = StandardScaler().fit_transform(X)
    return X, (y if case.kind == "MLPClassifier" else (y - y.mean(axis=0)) / y.std(axis=0))


def timed(make: Callable[[], Any], X: Any, y: Any) -> float:
    """Seconds of one fit."""
    sleep(IDLE_SECONDS)
    make().fit(X, y)
    start = perf_counter()
    make().fit(X, y)
    return perf_counter() - start


def compare(case: Case, solver: str, repeats: int) -> dict[str, Any]:
    """Medians of both, in seconds, and the ratio."""
    X, y = rows_of(case)
    parameters = {**case.parameters, "solver": solver, "random_state": 0}
    own, its = getattr(ours, case.kind), getattr(theirs, case.kind)
    times: dict[str, list[float]] = {"fastbp": [], "all": [], "one": []}
    for _ in range(repeats):
        times["fastbp"].append(timed(lambda: own(**parameters), X, y))
        for name, limit in (("one", 1), ("all", None)):
            with threadpool_limits(limit):
                times[name].append(timed(lambda: its(**parameters), X, y))
    medians = {name: float(np.median(found)) for name, found in times.items()}
    best = min(medians["one"], medians["all"])
    return {"fastbp": medians["fastbp"], "scikit-learn": best, "times": best / medians["fastbp"]}


def scores(case: Case, solver: str, seeds: int) -> tuple[Any, Any]:
    """Scores of both on held-out rows, by seed."""
    X, y = rows_of(case)
    parameters, found = {**case.parameters, "solver": solver}, []
    for seed in range(seeds):
        parts = train_test_split(X, y, random_state=seed)
        found.append([
            getattr(home, case.kind)(**parameters, random_state=seed).fit(parts[0], parts[2]).score(parts[1], parts[3])
            for home in (ours, theirs)
        ])  # fmt: skip
    return np.array(found).T


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(CASES)))
@click.option("--solver", "solvers", multiple=True, type=click.Choice(SOLVERS), help="All by default.")
@click.option("--repeats", default=5, show_default=True, help="Fits of each, whose median counts.")
@click.option("--scores", "seeds", default=0, help="Scores over so many seeds, instead of times.")
def main(names: tuple[str, ...], solvers: tuple[str, ...], repeats: int, seeds: int) -> None:
    """Print a table of cases and solvers."""
    warnings.simplefilter("ignore")  # of convergence: the same epochs are what is compared
    pairs = [(name, one) for name in names or CASES for one in solvers or SOLVERS if one in CASES[name].solvers]
    ratios = []
    if seeds:
        click.echo("| data | solver | fastbp | scikit-learn | difference |\n|---|---|---|---|---|")
    else:
        click.echo("| data | solver | fastbp, ms | scikit-learn, ms | times as fast |\n|---|---|---|---|---|")
    for name, solver in pairs:
        if seeds:
            own, its = scores(CASES[name], solver, seeds)
            error = [one.std(ddof=1) / np.sqrt(seeds) for one in (own, its, own - its)]
            click.echo(
                f"| {name} | {solver} | {own.mean():.4f} ± {error[0]:.4f} | {its.mean():.4f} ± {error[1]:.4f} | "
                f"{(own - its).mean():+.4f} ± {error[2]:.4f} |"
            )
            continue
        found = compare(CASES[name], solver, repeats)
        ratios.append(found["times"])
        click.echo(
            f"| {name} | {solver} | {found['fastbp'] * 1e3:.1f} | {found['scikit-learn'] * 1e3:.1f} | "
            f"{found['times']:.1f} |"
        )
    if ratios:
        click.echo(f"\nat least {min(ratios):.1f}, geometric mean {np.exp(np.log(ratios).mean()):.1f} times as fast")


if __name__ == "__main__":
    main()
