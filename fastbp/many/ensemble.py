"""`Ensemble`: networks of different seeds, trained side by side, whose predictions are put together."""

from __future__ import annotations

import os
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.arrays import numeric
from fastbp.data import columns, sample_weights
from fastbp.history import History
from fastbp.io.files import damaged
from fastbp.io.overview import Overview
from fastbp.many import collection, members
from fastbp.many import fit_many as many
from fastbp.many.training import Training
from fastbp.many.variants import variant
from fastbp.network import MLP
from fastbp.numerics import own, quiet
from fastbp.types import Array
from fastbp.validation import check_choice, check_flag, check_positive_int

KIND = "fastbp ensemble"
# Below which no probability counts in the log loss.
TINY = 1e-15


class Ensemble:
    """Several networks like one, of other seeds, whose predictions are put together.

    Parameters
    ----------
    net : MLP
        What they are like: its configuration and its scaling; it is only read.
    size : int
        How many: member k has the seed ``net.seed + k``.
    bagging : bool
        Train each member on as many rows as there are, drawn with replacement by its seed (Breiman 1996), instead of
        on all of them.
    combine : {"mixture", "mean"}
        Of classes: the mean of the members' probabilities, or the probabilities of their mean logits. Numbers have a
        mean alone.

    Attributes
    ----------
    nets : list of MLP
        The members.

    Examples
    --------
    >>> ensemble = fastbp.Ensemble(net, size=3)
    >>> histories = ensemble.fit(X, y, epochs=5)
    >>> ensemble.predict_proba(X).shape, len(histories)
    ((60, 3), 3)
    """

    def __init__(self, net: MLP, size: int = 10, *, bagging: bool = False, combine: str = "mixture") -> None:
        if not isinstance(net, MLP):
            raise TypeError(f"net must be a fastbp.MLP, got {type(net).__name__}")
        self.bagging = check_flag("bagging", bagging)
        self.combine = check_choice("combine", combine, ["mixture", "mean"])
        seeds = ((net.seed + k) % 2**64 for k in range(check_positive_int("size", size)))
        self.nets = [variant(net, seed, {}) for seed in seeds]

    def __len__(self) -> int:
        return len(self.nets)

    def __repr__(self) -> str:
        return f"<fastbp.Ensemble of {len(self)}: {self.nets[0]!r}>"

    def overview(self) -> Overview:
        """How its members were trained."""
        together = "the mean of their logits" if self.combine == "mean" else "the mean of what they predict"
        title = f"Ensemble of {len(self)}, {together}" + ", bagged" * self.bagging
        return members.overview(title, "member", dict(enumerate(self.nets)))

    def __str__(self) -> str:
        return self.overview().text()

    def _repr_html_(self) -> str:
        """What a notebook shows: a table of the members."""
        return self.overview().html()

    @own
    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, **training: Any) -> list[History]:
        """Train all members side by side; returns their histories.

        Parameters
        ----------
        X, y : array-like
            As `MLP.fit` takes them.
        **training
            How, as `fit_many` takes it. With bagging, `validation_split` would hold out rows that are trained on, too:
            give validation_data.

        Raises
        ------
        ValueError, TypeError
            If an argument is not as described.
        NetworksFailed, SweepInterrupted
            As in `fit_many`.
        """
        plan, rows = Training.of(training), None
        if self.bagging:
            if plan.arguments.get("validation_split"):
                raise ValueError("with bagging a row may be on both sides of validation_split: give validation_data")
            n = len(np.asarray(y))
            rows = [np.random.default_rng(net.seed).integers(0, n, n) for net in self.nets]
        todo = plan.tasks(self.nets, X, y, rows, "member {}".format)
        completed = plan.train(todo)
        histories: list[Any] = [task.history if task.finished else None for task in todo]
        if not completed:
            raise many.interrupted(todo, plan.journal, histories)
        many.raise_failures(todo, "member {}".format, histories)
        return histories

    def members(self, X: npt.ArrayLike) -> Array:
        """What each member says, ``(size, n, ...)``: its probabilities of classes, or its predictions of numbers."""
        classes = self.nets[0].loss.link.classifies
        return np.stack([net.predict_proba(X) if classes else net.predict(X) for net in self.nets])

    @quiet
    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """Probabilities, as `MLP.predict_proba` has them.

        Raises
        ------
        ValueError
            The networks are no classifiers.
        """
        link = self.nets[0].loss.link
        if not link.classifies:
            raise ValueError("predict_proba is for classifiers: use predict")
        if self.combine == "mixture":
            found: Array = self.members(X).mean(axis=0)
            return found
        outputs = np.stack([net.forward(X) for net in self.nets]).mean(axis=0)
        return link.probabilities(outputs)

    @quiet
    def predict(self, X: npt.ArrayLike) -> Array:
        """The most probable classes, or the mean of the predicted numbers."""
        link = self.nets[0].loss.link
        if not link.classifies:
            found: Array = self.members(X).mean(axis=0)
            return found
        p = self.predict_proba(X)
        return np.asarray(p.argmax(axis=1) if link.one_class else (p > 0.5).astype(np.int64))

    @quiet
    def spread(self, X: npt.ArrayLike) -> Array:
        """Standard deviation over the members of what `members` has: how far they disagree."""
        found: Array = self.members(X).std(axis=0, ddof=1 if len(self) > 1 else 0)
        return found

    @quiet
    def evaluate(
        self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None
    ) -> dict[str, float]:
        """``{"loss", "accuracy"}`` of classes, the loss being the log loss; of numbers ``{"loss", "r2"}``, the mean
        squared error in the units of y. Arguments and errors are those of `MLP.evaluate`.
        """
        net = self.nets[0]
        link = net.loss.link
        checked = net.session.check_batch(columns.by_name(X, net.feature_names), y, sample_weight, scan=True)
        sample_weights.check_total(checked.weights)
        w = np.ones(len(checked.X)) if checked.weights is None else checked.weights
        # As given where numbers are standardised; with class 0, of weight 0, where labels are ignored.
        targets = np.asarray(checked.y) if link.classifies else np.asarray(numeric(y, "y"))
        wide = targets.reshape(len(w), -1)
        if not link.classifies:
            predicted = self.predict(X).reshape(wide.shape)
            squares = np.square(predicted.astype(np.float64) - wide).mean(axis=1)
            return {"loss": float(w @ squares / w.sum()), "r2": link.score(predicted, wide, w)}
        p = np.maximum(self.predict_proba(X).astype(np.float64), TINY).reshape(len(targets), -1)
        if link.one_class:
            rows = -np.log(p[np.arange(len(p)), targets]) if targets.ndim == 1 else -(np.log(p) * targets).sum(axis=1)
            score = link.score(p, targets, w)
        else:
            rows = -(wide * np.log(p) + (1 - wide) * np.log(np.maximum(1 - p, TINY))).mean(axis=1)
            score = link.score(p - 0.5, wide, w)
        return {"loss": float(w @ rows / w.sum()), net.loss.score_name: score}

    def save(self, path: str | PathLike[str]) -> None:
        """Write all members to one safetensors file, whole or not at all."""
        collection.save(path, KIND, self.nets, self.about)

    @property
    def about(self) -> dict[str, Any]:
        """What a file tells of it, beside its members."""
        return {"bagging": self.bagging, "combine": self.combine}

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Ensemble:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            The file holds no ensemble, or is damaged.
        OSError
            There is no such file, or it cannot be read.
        """
        nets, about = collection.load(path, KIND)
        with damaged(os.fspath(path), "does not describe an ensemble"):
            made = object.__new__(cls)
            made.bagging = check_flag("bagging", about["bagging"])
            made.combine = check_choice("combine", about["combine"], ["mixture", "mean"])
            made.nets = nets
            if not nets:
                raise ValueError("it has no members")
            return made
