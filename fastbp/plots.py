"""Pictures of a training and of what a network does: each one call, drawn by matplotlib (extra `plot`).

`learning_curves`, `confusion_matrix`, `calibration`, `predicted_against_true`, `first_layer`; and `evaluation`, those
of them that tell how good a network is on some rows. All of them take a network with arrays, or a table model with a
table, and those of predictions an ensemble, too; they return matplotlib's figure, which shows itself in a notebook, and
save it where a `path` is given.
"""

from __future__ import annotations

import math
from os import PathLike
from typing import Any

import numpy as np

from fastbp.history import History
from fastbp.io.figures import new_figure, save_figure
from fastbp.many.ensemble import Ensemble
from fastbp.network import MLP
from fastbp.tables import apply
from fastbp.tables.model import TableModel
from fastbp.tables.target import QUANTITIES
from fastbp.types import Array
from fastbp.validation import check_flag, check_positive_int

Path = str | PathLike[str]

__all__ = [
    "calibration",
    "confusion_matrix",
    "evaluation",
    "first_layer",
    "learning_curves",
    "predicted_against_true",
]

NAMED = 30  # classes whose names are written beside a matrix
COUNTED = 12  # classes whose rows are counted within it
POINTS = 5000  # of a scatter plot; of more rows some are drawn
UNITS = 64  # of a first layer


def learning_curves(trained: History | MLP | TableModel, path: Path | None = None) -> Any:
    """Losses, score and learning rate by epoch, of the last `fit`.

    Parameters
    ----------
    trained : History, MLP or TableModel
    path : path-like, optional
        Where to save the picture; its ending says in what format.

    Raises
    ------
    ValueError
        There has been no training.
    ImportError
        matplotlib is not installed (extra `plot`).
    """
    history = trained if isinstance(trained, History) else getattr(trained, "history", None)
    if not isinstance(history, History) or not history.loss:
        raise ValueError(f"there is no history to draw in {trained!r}: call fit first")
    return history.plot(path)


def confusion_matrix(
    model: MLP | Ensemble | TableModel, X: Any, y: Any = None, *, normalize: bool = False, path: Path | None = None
) -> Any:
    """How many rows of each class are taken for each.

    Parameters
    ----------
    model : MLP, Ensemble or TableModel
        A classifier with one class a row.
    X : array-like (n, n_in), or a table as `TableModel.evaluate` takes it
    y : array-like (n,)
        The classes, with arrays alone.
    normalize : bool
        Show shares of the rows of each true class instead.
    path : path-like, optional
        Where to save the picture.

    Raises
    ------
    ValueError, TypeError
        The model is no classifier, or X and y are not as it takes them.
    ImportError
        matplotlib is not installed (extra `plot`).
    """
    normalize = check_flag("normalize", normalize)
    true, proba, names = _classes(model, X, y)
    figure = new_figure(6.5, 5.5)
    _draw_confusion(figure.subplots(), true, proba, names, normalize)
    return _saved(figure, path)


def calibration(
    model: MLP | Ensemble | TableModel, X: Any, y: Any = None, *, bins: int = 10, path: Path | None = None
) -> Any:
    """How often what is predicted with some probability comes true; below, how many rows each point stands for.

    Of two classes the probability of the second; of more, that of the class that is predicted. The title tells the
    expected calibration error, the mean distance from the diagonal, each row counting the same (Guo et al. 2017).

    Parameters
    ----------
    model, X, y, path
        As of `confusion_matrix`.
    bins : int
        Ranges of probability of one width.
    """
    bins = check_positive_int("bins", bins)
    true, proba, names = _classes(model, X, y)
    figure = new_figure(6, 6)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    _draw_calibration(upper, lower, true, proba, names, bins)
    return _saved(figure, path)


def predicted_against_true(
    model: MLP | Ensemble | TableModel, X: Any, y: Any = None, *, path: Path | None = None
) -> Any:
    """Predictions of quantities against the true values, one panel an output, with the diagonal where both are equal.

    Parameters
    ----------
    model : MLP, Ensemble or TableModel
        Of quantities.
    X, y, path
        As of `confusion_matrix`; y ``(n,)`` or ``(n, n_out)``.
    """
    true, predicted, names = _quantities(model, X, y)
    figure = _panels(len(names), 5.0, 5.0)
    for k, axes in enumerate(figure.axes):
        _draw_scatter(axes, true[:, k], predicted[:, k], names[k])
    return _saved(figure, path)


def evaluation(model: MLP | Ensemble | TableModel, X: Any, y: Any = None, *, path: Path | None = None) -> Any:
    """Of a classifier the confusion matrix and the calibration, of quantities the predicted against the true ones.

    Parameters
    ----------
    model, X, y, path
        As of `confusion_matrix`.
    """
    if not _classifies(model):
        return predicted_against_true(model, X, y, path=path)
    true, proba, names = _classes(model, X, y)
    figure = new_figure(12, 5.5)
    left, right = figure.subfigures(1, 2)
    _draw_confusion(left.subplots(), true, proba, names, False)
    upper, lower = right.subplots(2, sharex=True, height_ratios=(3, 1))
    _draw_calibration(upper, lower, true, proba, names, 10)
    return _saved(figure, path)


def first_layer(
    model: MLP | TableModel, shape: tuple[int, int] | None = None, *, units: int = UNITS, path: Path | None = None
) -> Any:
    """The weights of the first layer: an image a unit where the inputs are one, else a map of inputs by units.

    Parameters
    ----------
    model : MLP or TableModel
        Trained; of a network that standardises its inputs, the weights are those of the standardised ones.
    shape : (height, width), optional
        Of the image that the inputs are. By default, of a network without names of inputs whose number is a square,
        from 16 on, that square; ``(1, n_in)`` for the map.
    units : int
        How many units to draw at most: those with the longest weights.
    path : path-like, optional
        Where to save the picture.

    Raises
    ------
    ValueError
        `shape` does not hold as many numbers as there are inputs, or the model is not trained.
    ImportError
        matplotlib is not installed (extra `plot`).
    """
    units = check_positive_int("units", units)
    net, names = _net_of(model), _input_names(model)
    weights = net.weights[0].astype(np.float64)
    height, width = _shape_of(shape, len(weights), names)
    chosen = np.sort(np.argsort(-np.linalg.norm(weights, axis=0), kind="stable")[:units])
    limit = float(np.abs(weights).max()) or 1.0
    colours = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    if height == 1:
        figure = new_figure(7, min(12.0, 2.0 + 0.18 * len(weights)))
        axes = figure.subplots()
        image = axes.imshow(weights[:, chosen], aspect="auto", interpolation="nearest", **colours)
        axes.set(xlabel="unit of the first layer", ylabel="input")
        if names is not None and len(names) <= 2 * NAMED:
            axes.set_yticks(range(len(names)), [f"{name:.30}" for name in names], fontsize="small", parse_math=False)
        figure.colorbar(image, ax=axes, label="weight")
    else:
        columns = math.ceil(math.sqrt(len(chosen)))
        rows = math.ceil(len(chosen) / columns)
        figure = new_figure(7, 0.6 + 6.4 * rows / columns * height / width)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes in grid:
            axes.axis("off")
        for axes, k in zip(grid, chosen, strict=False):
            image = axes.imshow(weights[:, k].reshape(height, width), interpolation="nearest", **colours)
        figure.colorbar(image, ax=list(grid), label="weight")
    return _saved(figure, path)


# --- what is drawn ------------------------------------------------------------------------------------------


def _saved(figure: Any, path: Path | None) -> Any:
    if path is not None:
        save_figure(figure, path)
    return figure


def _net_of(model: MLP | TableModel) -> MLP:
    net = model.net if isinstance(model, TableModel) else model
    if not isinstance(net, MLP):
        what = "it is not trained: call fit first" if isinstance(model, TableModel) else f"got {type(model).__name__}"
        raise (ValueError if isinstance(model, TableModel) else TypeError)(
            f"model must be an MLP or TableModel; {what}"
        )
    return net


def _one_of(model: MLP | Ensemble | TableModel) -> MLP:
    """A network that tells what the model predicts: one of an ensemble, whose members are alike."""
    return model.nets[0] if isinstance(model, Ensemble) else _net_of(model)


def _input_names(model: MLP | TableModel) -> list[str] | None:
    if isinstance(model, TableModel):
        return None if model.encoder is None else [str(name) for name in model.encoder.inputs]
    return model.feature_names


def _shape_of(shape: tuple[int, int] | None, n: int, names: list[str] | None) -> tuple[int, int]:
    if shape is None:
        side = math.isqrt(n)
        return (side, side) if side * side == n >= 16 and names is None else (1, n)
    height, width = (check_positive_int(f"shape[{k}]", one) for k, one in enumerate(shape))
    if height * width != n:
        raise ValueError(f"shape={shape!r} holds {height * width} numbers, but the network has {n} inputs")
    return height, width


def _classifies(model: MLP | Ensemble | TableModel) -> bool:
    net = _one_of(model)
    return net.loss.link.classifies and not (net.loss.link.target == "binary" and net.sizes[-1] > 1)


def _classes(model: MLP | Ensemble | TableModel, X: Any, y: Any) -> tuple[Array, Array, list[str]]:
    """Numbers of the true classes ``(n,)``, probabilities ``(n, C)``, and the names of the classes."""
    net = _one_of(model)
    if not _classifies(model):
        raise ValueError(
            f"this picture is for one class a row, but the model has loss={net.loss.name!r} and {net.sizes[-1]} "
            "outputs; plots.predicted_against_true is for quantities"
        )
    if isinstance(model, TableModel):
        _refuse_y(y)
        part, _ = apply.part(model, model.frame(X))
        proba = apply.probabilities(model, part.X)
        return part.y, proba, [str(one) for one in model.classes or ()]
    samples = net.session.check_batch(X, y, None, scan=True)
    true = np.asarray(samples.y)
    proba = np.asarray(model.predict_proba(X), np.float64)
    if proba.ndim == 1:
        proba = np.stack([1.0 - proba, proba], axis=1)
        true = true.reshape(-1) > 0.5
    elif true.ndim == 2:
        true = true.argmax(axis=1)
    true = true.astype(np.int64)
    known = true >= 0  # labels to ignore are below
    names = net.class_labels or range(proba.shape[1])
    return true[known], proba[known], [str(one) for one in names]


def _quantities(model: MLP | Ensemble | TableModel, X: Any, y: Any) -> tuple[Array, Array, list[str]]:
    """True and predicted values ``(n, n_out)``, and the names of the outputs."""
    net = _one_of(model)
    if net.loss.link.classifies:
        raise ValueError(f"the model has loss={net.loss.name!r}: plots.confusion_matrix is for classes")
    if isinstance(model, TableModel):
        _refuse_y(y)
        assert model.target is not None
        assert model.target.kind == QUANTITIES
        part, _ = apply.part(model, model.frame(X))
        return part.y.reshape(len(part), -1), apply.quantities(model, part.X), list(model.target.names)
    net.session.check_batch(X, y, None, scan=True)
    predicted = np.asarray(model.predict(X), np.float64).reshape(-1, net.sizes[-1])
    names = ["y"] if net.sizes[-1] == 1 else [f"output {k}" for k in range(net.sizes[-1])]
    return np.asarray(y, np.float64).reshape(predicted.shape), predicted, names


def _refuse_y(y: Any) -> None:
    if y is not None:
        raise ValueError("a table has its targets in it: leave y out")


def _draw_confusion(axes: Any, true: Array, proba: Array, names: list[str], normalize: bool) -> None:
    n = len(names)
    counts = np.zeros((n, n))
    np.add.at(counts, (true, proba.argmax(axis=1)), 1.0)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)  # colours tell shares, also of rare classes
    image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    if n <= COUNTED:
        for (i, j), share in np.ndenumerate(shares):
            text = f"{share:.2f}" if normalize else f"{int(counts[i, j]):,}"
            axes.text(j, i, text, ha="center", va="center", fontsize="small", color="w" if share > 0.5 else "k")
    if n <= NAMED:
        short = [f"{name:.20}" for name in names]
        axes.set_xticks(range(n), short, rotation=90 if max(map(len, short)) > 2 else 0, parse_math=False)
        axes.set_yticks(range(n), short, parse_math=False)
    accuracy = np.trace(counts) / max(counts.sum(), 1.0)
    axes.set(xlabel="predicted", ylabel="true", title=f"accuracy {accuracy:.2%} of {len(true):,} rows")
    axes.figure.colorbar(image, ax=axes, label="share of the true class")


def _draw_calibration(axes: Any, below: Any, true: Array, proba: Array, names: list[str], bins: int) -> None:
    if len(names) == 2:
        said, happened, what = proba[:, 1], true == 1, f"probability of {names[1]:.30}"
    else:
        said, happened, what = proba.max(axis=1), proba.argmax(axis=1) == true, "probability of the predicted class"
    place = np.minimum((said * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    known = count > 0
    mean = np.bincount(place, said, bins)[known] / count[known]
    share = np.bincount(place, happened, bins)[known] / count[known]
    error = float((count[known] * np.abs(mean - share)).sum() / max(len(true), 1))
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="as it should be")
    axes.plot(mean, share, "o-", label="the model")
    axes.set(ylabel="share that came true", ylim=(-0.03, 1.03), title=f"expected calibration error {error:.3f}")
    axes.legend(fontsize="small", loc="upper left")
    below.bar((np.arange(bins) + 0.5) / bins, count, width=0.9 / bins, color="0.6")
    below.set_xlabel(what, parse_math=False)
    below.set(ylabel="rows", xlim=(0, 1))


def _draw_scatter(axes: Any, true: Array, predicted: Array, name: str) -> None:
    chosen = np.linspace(0, len(true) - 1, min(len(true), POINTS)).astype(np.int64)
    axes.scatter(true[chosen], predicted[chosen], s=9, alpha=0.5, linewidths=0)
    both = np.concatenate([true, predicted])
    ends = [float(both.min()), float(both.max())]
    axes.plot(ends, ends, color="0.5", linestyle="--", linewidth=1)
    rmse = math.sqrt(float(np.mean(np.square(predicted - true))))
    axes.set_xlabel(f"true {name:.30}", parse_math=False)
    axes.set_ylabel(f"predicted {name:.30}", parse_math=False)
    axes.set_title(f"RMSE {rmse:.4g} of {len(true):,} rows")


def _panels(n: int, width: float, height: float) -> Any:
    """A figure with n axes, at most three beside each other."""
    columns = min(n, 3)
    rows = math.ceil(n / columns)
    figure = new_figure(width * columns, height * rows)
    for axes in figure.subplots(rows, columns, squeeze=False).ravel()[n:]:
        axes.remove()
    return figure
