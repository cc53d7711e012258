"""`LearningRateSearchCV` beside `GridSearchCV` of the same estimator and of scikit-learn's own: seconds of a search.

    python benchmarks/sklearn_search.py

13 rates, 5 folds, refit included. All take turns; medians of three rounds after one that starts the processes.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier as Theirs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp.sklearn import LearningRateSearchCV, MLPClassifier

RATES, FOLDS, ROUNDS, JOBS = np.geomspace(1e-4, 1.0, 13), 5, 3, 2
SETS: dict[str, tuple[Callable[..., Any], int]] = {
    "iris": (load_iris, 30), "breast cancer": (load_breast_cancer, 30), "digits": (load_digits, 10),
}  # fmt: skip


def searches(epochs: int) -> dict[str, Callable[[], Any]]:
    """Makers of the three, by name."""

    def pipeline(kind: Any) -> Any:
        net = kind((32,), batch_size=32, max_iter=epochs, tol=0.0, n_iter_no_change=epochs, random_state=0)
        return make_pipeline(StandardScaler(), net)

    def grid(kind: Any) -> Any:
        name = f"{kind.__name__.lower()}__learning_rate_init"
        return GridSearchCV(pipeline(kind), {name: RATES}, cv=FOLDS, n_jobs=JOBS)

    return {
        "LearningRateSearchCV": lambda: LearningRateSearchCV(pipeline(MLPClassifier), RATES, cv=FOLDS, threads=JOBS),
        "GridSearchCV, fastbp": lambda: grid(MLPClassifier),
        "GridSearchCV, scikit-learn": lambda: grid(Theirs),
    }


def main() -> None:
    """Print a table."""
    warnings.simplefilter("ignore")
    names = list(searches(1))
    print(f"| data | epochs | {' | '.join(names)} | times faster |\n|---|---|{'---|' * (len(names) + 1)}")
    first: list[float] = []
    for data, (load, epochs) in SETS.items():
        X, y = load(return_X_y=True)
        seconds: dict[str, list[float]] = {name: [] for name in names}
        best = {}
        for _ in range(1 + ROUNDS):
            for name, make in searches(epochs).items():
                search = make()
                started = time.perf_counter()
                best[name] = search.fit(X, y).best_score_
                seconds[name].append(time.perf_counter() - started)
        assert best["LearningRateSearchCV"] == best["GridSearchCV, fastbp"], "the same bits"
        first = first or [seconds[name][0] for name in names]
        took = [statistics.median(seconds[name][1:]) for name in names]
        faster = " and ".join(f"{one / took[0]:.1f}" for one in took[1:])
        print(f"| {data} | {epochs} | {' | '.join(f'{one:.3g} s' for one in took)} | {faster} |", flush=True)
    begun = ", ".join(f"{one:.2g} s" for one in first)
    print(f"\nThe first search of each, which loads libraries and starts processes: {begun}.")


if __name__ == "__main__":
    main()
