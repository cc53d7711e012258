"""Cross-validation: all folds trained side by side, scores with their error, and predictions for every row."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.io.figures import new_figure
from fastbp.io.overview import Overview, figure_text
from fastbp.io.tabular import Columns, Tabular
from fastbp.many import fit_many as many
from fastbp.many import folds as _folds
from fastbp.many.metrics import Metric
from fastbp.many.training import Training
from fastbp.many.variants import scaled_by, variant
from fastbp.network import MLP
from fastbp.numerics import own
from fastbp.types import Array
from fastbp.validation import check_positive_int


@dataclasses.dataclass(eq=False, repr=False)
class CrossValidation(Tabular):
    """What `cross_validate` has found.

    Attributes
    ----------
    scores : dict of str to array, (runs,)
        Of each metric, by fold, repetition after repetition.
    larger : dict of str to bool
        Whether a larger value of a metric is better.
    predictions : array, (n,) or (n, n_out)
        Of each row by the networks that were not trained on it: the class with the largest mean probability, or the
        mean of the numbers; -1 and NaN for rows that are in no test fold.
    probabilities : array, (n, n_classes), or None
        The same of classes: mean probabilities.
    folds : list of (array, array)
        Row numbers that were trained on, and tested on.
    nets : list of MLP
        Of each fold.
    notes : list of str
        What a reader should know.
    """

    scores: dict[str, Array]
    larger: dict[str, bool]
    predictions: Array
    probabilities: Array | None
    folds: list[tuple[Array, Array]]
    nets: list[MLP]
    notes: list[str]

    @property
    def mean(self) -> dict[str, float]:
        """Of each metric."""
        return {name: float(values.mean()) for name, values in self.scores.items()}

    @property
    def error(self) -> dict[str, float]:
        """Standard error of each mean; the training rows that folds share are allowed for (Nadeau and Bengio 2003)."""
        ratio = float(np.mean([len(test) / len(train) for train, test in self.folds]))
        return {
            name: float(np.sqrt(values.var(ddof=1) * (1.0 / len(values) + ratio))) if len(values) > 1 else float("nan")
            for name, values in self.scores.items()
        }

    def columns(self) -> Columns:
        """A line a fold."""
        sizes = {"train": [len(train) for train, _ in self.folds], "test": [len(test) for _, test in self.folds]}
        return {"fold": list(range(1, len(self.folds) + 1)), **sizes, **self.scores}

    def document(self) -> dict[str, Any]:
        """Means, errors, the folds' scores and the notes."""
        return {"mean": self.mean, "error": self.error, **self.columns(), "notes": self.notes}

    def draw(self) -> Any:
        """The scores of the folds, and their mean."""
        figure = new_figure(7, 2 + 2 * len(self.scores))
        axes = np.atleast_1d(figure.subplots(len(self.scores), sharex=True))
        for ax, (name, values) in zip(axes, self.scores.items(), strict=True):
            ax.plot(range(1, len(values) + 1), values, "o")
            ax.axhline(self.mean[name], color="0.5")
            ax.set(ylabel=name)
        axes[-1].set(xlabel="fold")
        return figure

    def __repr__(self) -> str:
        said = ", ".join(f"{name} {self.mean[name]:.4g} +- {self.error[name]:.1g}" for name in self.scores)
        return f"<fastbp.CrossValidation of {len(self.folds)} folds: {said}>"

    def overview(self) -> Overview:
        """Means with their errors, the worst and the best fold, and the notes."""
        rows = [
            (name, f"{self.mean[name]:.4g}", figure_text(self.error[name], "{:.1g}"), *map("{:.4g}".format, ends))
            for name, values in self.scores.items()
            for ends in [sorted((values.min(), values.max()), reverse=not self.larger[name])]
        ]
        tested = [len(test) for _, test in self.folds]
        size = f"{min(tested)}" if min(tested) == max(tested) else f"{min(tested)} to {max(tested)}"
        title = (
            f"{len(self.folds)} folds, each tested on {size} rows: {repr(self.nets[0]).strip('<>')[len('fastbp.') :]}"
        )
        return Overview(title, ("score", "mean", "+-", "worst fold", "best fold"), rows, self.notes)

    def __str__(self) -> str:
        return self.overview().text()


@own
def cross_validate(
    net: MLP,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    folds: Any = 5,
    repeats: int = 1,
    groups: npt.ArrayLike | None = None,
    metrics: Any = None,
    **training: Any,
) -> CrossValidation:
    """Train a network like `net` on all folds but one, for each of them, and score it on that one.

    Run k begins as ``MLP(..., seed=net.seed + k)``; `net` itself is only read. A network that standardises its data
    does so by the training rows of each fold. Early stopping looks at an inner split of the training rows, a fifth
    unless `validation_split` says how many, never at the test fold.

    Parameters
    ----------
    net : MLP
    X, y : array-like
        As `MLP.fit` takes them.
    folds : int, splitter or iterable
        How many: of classes each has its share, rows of a group stay together, drawn by ``net.seed``. Or a splitter of
        scikit-learn, or pairs of row numbers to train and to test on.
    repeats : int
        So many times, with other folds.
    groups : array-like, (n,), optional
        Rows with one value there are never on both sides.
    metrics : str, callable, or sequence of them, optional
        "loss", "accuracy", "balanced_accuracy", "r2", "rmse", "mae", or ``f(y, predictions)``; by default the loss and
        what `MLP.evaluate` reports.
    **training
        How to train: epochs, batch_size, optimizer, schedule, sample_weight, class_weight, validation_split, shuffle,
        drop_last, callbacks, precision, as `MLP.fit` takes them; threads, journal, executor, progress, as `fit_many`
        does.

    Returns
    -------
    CrossValidation

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described.
    NetworksFailed
        If the network of a fold diverged.
    SweepInterrupted
        On Ctrl-C; with a journal, the same call does only what is missing.

    Examples
    --------
    >>> found = fastbp.cross_validate(net, X, y, folds=3, epochs=5)
    >>> found.scores["accuracy"].shape, found.predictions.shape == y.shape
    ((3,), True)
    """
    if not isinstance(net, MLP):
        raise TypeError(f"net must be a fastbp.MLP, got {type(net).__name__}")
    plan = Training.of(training, refused=("validation_data",), why="each fold is tested on rows of its own")
    turns, wanted = check_positive_int("repeats", repeats), _metrics(metrics, net)
    targets = np.asarray(y)
    link = net.loss.link
    by_class = link.classifies and (targets.ndim == 1 or (targets.ndim == 2 and targets.shape[1] == 1))
    pairs = _folds.of(folds, X, targets.ravel() if by_class else targets, groups, turns, net.seed, by_class=by_class)
    notes = plan.split_for_callbacks()
    nets = [variant(net, (net.seed + number) % 2**64, {}) for number in range(len(pairs))]
    for one, (train, _) in zip(nets, pairs, strict=True):
        scaled_by(one, X, y, train)
    if net.scaling is not None:
        notes.append("each fold standardises by its own training rows")
    todo = plan.tasks(nets, X, y, [train for train, _ in pairs], "fold {}".format)
    weight = plan.arguments.get("sample_weight")
    for number, (_, test) in enumerate(pairs):
        if weight is not None and not np.asarray(weight)[test].any():
            raise ValueError(f"fold {number}: the weights of all rows to test on are 0")
    done = plan.train(todo)
    if not done:
        raise many.interrupted(todo, plan.journal, None)
    many.raise_failures(todo, "fold {}".format, None)
    scores = {one.name: np.empty(len(pairs)) for one in wanted}
    outputs: Array | None = None
    seen = np.zeros(len(targets))
    for number, (_, test) in enumerate(pairs):
        rows = X.iloc[test] if hasattr(X, "iloc") else np.asarray(X)[test]
        own_weight = None if weight is None else np.asarray(weight)[test]
        for metric in wanted:
            scores[metric.name][number] = metric.of(nets[number], rows, targets[test], own_weight)
        found = nets[number].predict_proba(rows) if link.classifies else nets[number].predict(rows)
        if outputs is None:
            outputs = np.zeros((len(targets), *found.shape[1:]))
        outputs[test] += found
        seen[test] += 1
    assert outputs is not None
    shape = (-1, *[1] * (outputs.ndim - 1))
    outputs = np.where((seen > 0).reshape(shape), outputs / np.maximum(seen, 1).reshape(shape), np.nan)
    predictions = outputs
    if link.classifies:
        chosen = outputs.argmax(axis=1) if link.one_class else (outputs > 0.5).astype(np.int64)
        predictions = np.where((seen > 0).reshape(-1, *[1] * (chosen.ndim - 1)), chosen, -1)
    return CrossValidation(
        scores, {one.name: one.larger for one in wanted}, predictions, outputs if link.classifies else None, pairs,
        nets, notes,
    )  # fmt: skip


def _metrics(metrics: Any, net: MLP) -> list[Metric]:
    if metrics is None:
        metrics = ["loss", net.loss.score_name]
    several: Sequence[Any] = metrics if isinstance(metrics, list | tuple) else [metrics]
    found = list(dict.fromkeys(Metric.get(one, net.loss) for one in several))
    if not found:
        raise ValueError('metrics is empty: leave it out, or name one, "loss" for example')
    names = [one.name for one in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(
            f"metrics has two functions of the name {twice!r}: give them names, by def, to tell them apart"
        )
    return found
