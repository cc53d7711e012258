"""`fastbp.explain`: one row forward and back through a network, and the step that descent makes of it, in numbers."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from fastbp import gradients, optimizers
from fastbp.io.documents import plain
from fastbp.io.overview import WIDTH
from fastbp.network import MLP
from fastbp.numerics import own
from fastbp.optimizers import Optimizer
from fastbp.tables.model import TableModel
from fastbp.types import Array
from fastbp.validation import check_positive_int, check_seed
from fastbp.walkthrough import backward, change, forward, text, view, web
from fastbp.walkthrough.descent import Descent, descend
from fastbp.walkthrough.proof import Proof, prove
from fastbp.walkthrough.stages import Stage
from fastbp.walkthrough.subject import Subject, of_network, of_table
from fastbp.walkthrough.trace import Trace, trace

LR = 0.01
UNITS = 32
SEED = 44  # of the small network: the one of the tutorial
KEPT = 2000  # parameters whose step is kept for every learning rate


@dataclass(frozen=True, eq=False)
class Explanation:
    """The story of one row; made by `fastbp.explain`. ``str(...)`` is all of it as text.

    Attributes
    ----------
    stages : sequence of Stage
        In their order, each with a name, a title, formulas, tables, sums written out, and `values`: the numbers with
        all their digits.
    title : str
        The network, and where the row is.
    agrees : bool
        Whether backpropagation, its compiled form and central differences give one gradient.
    """

    title: str
    stages: Sequence[Stage]
    subject: Subject
    numbers: Trace
    view: view.View
    proof: Proof
    descent: Descent | None
    optimizer: Optimizer

    @property
    def agrees(self) -> bool:
        """Whether backpropagation, its compiled form and central differences give one gradient."""
        return self.proof.agrees

    def __str__(self) -> str:
        return "\n".join(line for _, line in text.lines(self.title, self.stages, WIDTH))

    def __repr__(self) -> str:
        return f"<fastbp.Explanation of {self.title}: {len(self.stages)} stages, agrees={self.agrees}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the text."""
        return f'<pre style="background:transparent">{html.escape(str(self))}</pre>'

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON: None for what is not finite."""
        stages = [
            {
                "name": one.name, "title": one.title, "formulas": dict(one.formulas), "notes": list(one.notes),
                "values": plain(one.values),
            }
            for one in self.stages
        ]  # fmt: skip
        return {"title": self.title, "optimizer": repr(self.optimizer), "agrees": self.agrees, "stages": stages}

    def to_html(self, path: str | PathLike[str], *, command: str | None = None) -> None:
        """Write a web page that needs nothing else: the network drawn, a slider for the learning rate, all stages.

        Parameters
        ----------
        path : path
            Written whole or not at all.
        command : str, optional
            What made it, told at its end.
        """
        web.write(self, path, command)


@own
def explain(
    net: MLP | TableModel | None = None,
    x: Any = None,
    y: Any = None,
    *,
    row: int | None = None,
    optimizer: str | Optimizer | None = None,
    units: int = UNITS,
    seed: int | None = None,
    place: str = "",
) -> Explanation:
    """One row through a network and back: forward values, error, deltas, gradients, new weights, each with its formula.

    All numbers are of float64, by the reference network in NumPy; they are held against `MLP.backprop` and against
    central differences. Dropout and noise are off. Nothing is changed.

    Parameters
    ----------
    net : MLP or TableModel, optional
        Without one: a network of two inputs, two hidden units and one output that can be followed by hand.
    x : array-like, (n_in,) or (n, n_in); of a TableModel a table as its `predict` takes it, target included
        The row, or several of which `row` chooses one.
    y : array-like
        The target, or those of all rows, as `MLP.fit` takes them; not with a TableModel.
    row : int, optional
        Which of several rows, from 0.
    optimizer : str or Optimizer, optional
        Whose step is shown: ``SGD(lr=0.01)`` by default. One that the network was trained with goes on from its
        moments.
    units : int
        Layers of up to so many units are shown whole; of wider ones the units with the largest part in the error.
    seed : int, optional
        Of the weights of the small network, without `net`.
    place : str
        Where the row is from, for the title.

    Returns
    -------
    Explanation

    Raises
    ------
    ValueError, TypeError
        There is no such row, it has no target, or a value is not finite.

    Examples
    --------
    >>> story = fastbp.explain(net, X, y, row=7)
    >>> story.agrees
    True
    >>> [stage.name for stage in story.stages][:3]
    ['row', 'forward 1', 'forward 2']
    """
    units = check_positive_int("units", units)
    if net is not None and seed is not None:
        raise ValueError(f"seed={seed!r} draws the small network that is explained without net; leave it out")
    if net is None and not (x is None and y is None and row is None):
        raise ValueError("explain takes no x, y or row without a network: leave them out, or name the network")
    rule = optimizers.SGD(lr=LR) if optimizer is None else optimizers.get(optimizer)
    rule.check_step()
    if net is None:
        net, x, y = small(SEED if seed is None else seed)
    rule.check_network(*_shape(net))
    return _explained(_subject(net, x, y, row, place), rule, units)


def small(seed: int) -> tuple[MLP, Array, Array]:
    """A network to follow by hand, with a row and its target: weights of one digit."""
    net = MLP([2, 2, 1], activation="relu", loss="mse", dtype="float64", seed=check_seed(seed))
    net.set_weights([weight.round(1) for weight in net.weights], net.biases)
    return net, np.array([[1.0, 2.0]]), np.array([[1.0]])


def _shape(net: Any) -> tuple[int, bool]:
    found = getattr(net, "net", net)
    if not isinstance(found, MLP):
        kind = type(net).__name__
        raise TypeError(
            f"explain takes one network, an MLP or a trained TableModel; got {kind}: name one of its members"
        )
    return len(found.sizes) - 1, found.input_scale is not None


def _subject(net: MLP | TableModel, x: Any, y: Any, row: int | None, place: str) -> Subject:
    if isinstance(net, MLP):
        return of_network(net, x, y, row, place)
    if x is None or y is not None:
        raise ValueError("of a TableModel, explain takes x, a table with the column of the target, and no y")
    assert net.target is not None
    return of_table(net, net.frame(x, net.target.names[0]), row, place)


def _explained(subject: Subject, optimizer: Optimizer, units: int) -> Explanation:
    net = subject.net
    twin = net.astype("float64")
    numbers = trace(subject, twin)
    chosen = view.look(subject, numbers, units)
    proof = prove(subject, twin, numbers)
    twin.load_optimizer_state(net.optimizer_state())
    before = gradients.flat(twin.weights, twin.biases, twin.input_scale)
    moved = change.updated(twin, numbers, subject.x, subject.y, optimizer)
    stages = [
        *forward.stages(subject, numbers, chosen), *backward.stages(subject, numbers, chosen),
        change.check(subject, proof), *change.step(subject, numbers, chosen, optimizer, before, moved),
    ]  # fmt: skip
    descent = None
    if moved is not None:
        descent = descend(twin, subject.x, subject.y, optimizer, KEPT)
        stages.append(change.after(numbers, descent, optimizer, before, moved))
    title = repr(net)[len("<fastbp.MLP ") : -1]
    return Explanation(title, stages, subject, numbers, chosen, proof, descent, optimizer)
