"""What a model of a table goes by: how much each column matters for its errors, and what it adds to an output."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp.tables import apply
from fastbp.tables.prepared import Part
from fastbp.tables.target import CLASSES, QUANTITIES
from fastbp.types import Array
from fastbp.validation import check_positive_int


def importance(model: Any, rows: Part, repeats: int, seed: int) -> dict[str, float]:
    """The increase of the error when the inputs of a column are shuffled among the rows (Breiman 2001)."""
    repeats = check_positive_int("repeats", repeats)
    rng = np.random.default_rng(seed)

    def error(X: Array) -> float:
        found = apply.scores(model, Part(X, rows.y, rows.weight))
        return float(found["rmse"] if model.target.kind == QUANTITIES else found["log_loss"])

    before, X, found = error(rows.X), rows.X.copy(), {}
    for name, span in model.encoder.spans.items():
        after = []
        for _ in range(repeats):
            X[:, span] = rows.X[rng.permutation(len(X)), span]
            after.append(error(X))
        X[:, span] = rows.X[:, span]
        found[name] = float(np.mean(after)) - before
    return dict(sorted(found.items(), key=lambda one: -one[1]))


def attribution(model: Any, X: Array, output: Any) -> dict[str, Array]:
    """Gradient times input of one output, added up over the inputs of each column."""
    pushed = np.zeros((len(X), model.net.sizes[-1]))
    sign = 1.0
    if model.target.kind == CLASSES:
        classes = model.classes
        if output is not None and output not in classes:
            raise ValueError(f"output must be one of the classes {', '.join(map(str, classes))}, got {output!r}")
        chosen = (
            np.asarray(model.net.predict(X), np.int64) if output is None else np.full(len(X), classes.index(output))
        )
        if pushed.shape[1] == 1:  # one logit for two classes
            pushed[:, 0] = 2.0 * chosen - 1.0
        else:
            pushed[np.arange(len(X)), chosen] = 1.0
    else:
        names = list(model.target.names)
        if output is not None and output not in names:
            raise ValueError(f"output must be one of the targets {', '.join(names)}, got {output!r}")
        k = 0 if output is None else names.index(output)
        pushed[:, k] = 1.0
        sign = model.target.scales[k] if model.target.scales else 1.0
    gradient = model.net.backprop(X, output_gradient=pushed).inputs
    parts = sign * np.asarray(gradient, np.float64) * X
    return {name: parts[:, span].sum(axis=1) for name, span in model.encoder.spans.items()}
