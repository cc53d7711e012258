"""The last stages: the gradient proved, the step that an optimiser makes of it, and where such steps lead."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastbp import gradients
from fastbp.network import MLP
from fastbp.numerics import quiet
from fastbp.optimizers import Optimizer
from fastbp.types import Array
from fastbp.walkthrough.descent import STAYS, WORDS, Descent
from fastbp.walkthrough.numbers import shown, signed
from fastbp.walkthrough.proof import DIFFERENCE, Proof
from fastbp.walkthrough.stages import Grid, Stage, Value
from fastbp.walkthrough.subject import Subject
from fastbp.walkthrough.trace import Trace
from fastbp.walkthrough.view import View

LISTED = 40  # parameters that are listed one by one
_SOME = 8  # of larger networks, those with the largest gradient
_ROUNDING = 1e-12
_STEPS = (1, 2, 5, 10, 20, 50)


@dataclass(frozen=True)
class Parameters:
    """Names of the parameters, numbered as `gradients.flat` has them: weights by layer, biases by layer, scales."""

    subject: Subject

    def name(self, number: int) -> str:
        """Such as "x1 -> h2", or "b of h2"."""
        subject, sizes = self.subject, self.subject.net.sizes
        for k, (n_in, n_out) in enumerate(itertools.pairwise(sizes), 1):
            if number < n_in * n_out:
                i, j = divmod(number, n_out)
                return f"{subject.units(k - 1)[i]} -> {subject.units(k)[j]}"
            number -= n_in * n_out
        for k, n_out in enumerate(sizes[1:], 1):
            if number < n_out:
                return f"b of {subject.units(k)[number]}"
            number -= n_out
        return f"s of {subject.inputs[number]}"


@quiet
def updated(twin: MLP, numbers: Trace, x: Array, y: Array, optimizer: Optimizer) -> Array | None:
    """The parameters after one step, as `gradients.flat` has them; None where the gradient is not finite."""
    own = numbers.gradient
    if not np.isfinite(gradients.flat(own.weights, own.biases, own.input_scale)).all():
        return None
    net = twin.copy()
    optimizer.update(net, net.backprop(x, y, training=False))
    return gradients.flat(net.weights, net.biases, net.input_scale)


def check(subject: Subject, proof: Proof) -> Stage:
    """The gradient against the compiled one, and against central differences."""
    names, n = Parameters(subject), len(proof.chosen)
    formulas = [("dJ/dw", "(J(w + h) - J(w - h)) / 2h, all other weights held constant; h = 0.00001")]
    values = {
        "parameters": proof.chosen, "backprop": proof.exact, "difference": proof.numeric, "worst": proof.worst,
        "compiled": proof.compiled,
    }  # fmt: skip
    about = "Each weight is moved a little up and down, and J is computed anew: two runs of the network a weight."
    title = "Check: is this gradient right?"
    if not n:
        notes = ["J or the gradient is not finite: there is nothing to compare"]
        return Stage("check", title, about, formulas, notes=notes, values=values, good=False)
    order = np.arange(n) if n <= LISTED else np.argsort(-np.abs(proof.exact), kind="stable")[:_SOME]
    kinks = set(proof.kinks.tolist())
    limit = DIFFERENCE * np.abs(proof.exact).max()
    rows: list[list[Value]] = []
    for k in order.tolist():
        exact, numeric = float(proof.exact[k]), float(proof.numeric[k])
        word = "kink" if k in kinks else "equal" if abs(exact - numeric) <= limit else "DIFFERS"
        rows.append([names.name(int(proof.chosen[k])), exact, numeric, word])
    whole = f"all {n:,} parameters" if n == proof.of else f"{n:,} of {proof.of:,} parameters, drawn by the seed"
    word = "equal" if proof.agrees else "NOT equal"
    notes = [
        f"{word}: by backpropagation and by differences, {whole}; {_apart_by(proof.worst)}",
        f"net.backprop, compiled, {proof.dtype}: {_apart_by(proof.compiled, proof.dtype)}",
    ]
    if len(kinks):
        notes.append(f"{len(kinks)} at a kink of J, where the slopes to the left and to the right are not the same")
    if n > LISTED:
        notes.insert(0, f"{_SOME} of them shown, those with the largest gradient")
    return Stage("check", title, about, formulas, [Grid(["parameter", "backprop", "difference", ""], rows)], [], notes,
                 values, proof.agrees)  # fmt: skip


def _apart_by(share: float, dtype: str = "float64") -> str:
    if not np.isfinite(share):
        return f"in {dtype} it is not finite: the numbers above are those of float64, in which they are"
    if share == 0.0:
        return "the same to the last bit"
    return f"apart by less than 1e{int(np.floor(np.log10(share))) + 1} of the largest slope"


def step(
    subject: Subject, numbers: Trace, view: View, optimizer: Optimizer, before: Array, after: Array | None
) -> Iterator[Stage]:  # fmt: skip
    """What gradient descent makes of the gradient; nothing where that is not finite."""
    title = f"Update by {optimizer.name}, learning rate {shown(optimizer.lr)}"
    about = "Backpropagation is done: it has changed nothing. Now descent takes a step against the gradient."
    if after is None:
        notes = ["the gradient is not finite: no step can be made of it, and fit would stop with a DivergenceError"]
        yield Stage("update", title, about, notes=notes)
        return
    own = numbers.gradient
    gradient = gradients.flat(own.weights, own.biases, own.input_scale)
    plain = _is_plain(subject.net, optimizer)
    rule = re.search(r"``(w <- [^`]+)``", type(optimizer).__doc__ or "") if plain else None
    name, _, text = (rule[1] if rule else f"new weights <- {optimizer!r}").partition(" <- ")
    formulas = [(f"new {name}".replace("new new", "new"), text)]
    names, n = Parameters(subject), len(before)
    order = np.arange(n) if n <= LISTED else np.sort(np.argsort(-np.abs(gradient), kind="stable")[:_SOME])
    rows: list[list[Value]] = [
        [names.name(k), *(float(one[k]) for one in (before, gradient, after - before, after))] for k in order.tolist()
    ]  # fmt: skip
    grids = [Grid(["parameter", "before", "gradient", "step", "after"], rows)]
    if n > LISTED:
        for k, (weight, bias, layer) in enumerate(zip(*_apart(after, numbers), numbers.layers, strict=True), 1):
            grids.append(view.grid(k, layer.inputs, weight, [("b", bias)], f"new weights, layer {k}"))
    largest = order[np.argsort(-np.abs(gradient[order]), kind="stable")][: 4 if n <= LISTED else 2]
    sgd = optimizer if plain else None
    written = [_written(names.name(k), k, before, gradient, after, sgd) for k in largest.tolist()]
    notes = [f"{_SOME} of {n:,} parameters shown first, those with the largest gradient"] if n > LISTED else []
    yield Stage(
        "update", title, about, formulas, grids, written, [*notes, *_besides(subject.net, optimizer)],
        {"parameters": order, "before": before[order], "gradient": gradient[order], "after": after[order]},
    )  # fmt: skip


def _is_plain(net: MLP, optimizer: Optimizer) -> bool:
    """Whether a step is the learning rate times the gradient, and no more."""
    given = net.regularization
    return (
        optimizer.rule == "sgd" and not (optimizer.weight_decay or optimizer.clips or optimizer.lr_scale)
        and not (given.l1 or given.l2 or given.max_norm)
    )  # fmt: skip


def _written(name: str, k: int, before: Array, gradient: Array, after: Array, sgd: Optimizer | None) -> str:
    if sgd is not None:
        return f"{name}: {shown(before[k])} - {shown(sgd.lr)}*{signed(gradient[k])} = {shown(after[k])}"
    return f"{name}: {shown(before[k])} + {signed(after[k] - before[k])} = {shown(after[k])}"


def _apart(flat: Array, numbers: Trace) -> tuple[list[Array], list[Array]]:
    weights, biases, at = [], [], 0
    for layer in numbers.layers:
        weights.append(flat[at : at + layer.weight.size].reshape(layer.weight.shape))
        at += layer.weight.size
    for layer in numbers.layers:
        biases.append(flat[at : at + layer.bias.size])
        at += layer.bias.size
    return weights, biases


def _besides(net: MLP, optimizer: Optimizer) -> list[str]:
    """What else changes weights, beside this gradient."""
    given, state = net.regularization, net.optimizer_state()
    found = []
    if given.l1 or given.l2:
        found.append(
            f"the penalties l1 = {given.l1:g}, l2 = {given.l2:g} are part of the step, not of the gradient above"
        )
    if given.max_norm:
        found.append(f"after the step, the weights into a unit are held to a norm of {given.max_norm:g}")
    if state.get("steps") and tuple(state["layout"]) == optimizer.state_layout and optimizer.n_moments:
        found.append(f"{optimizer.name} goes on from the moments of {state['steps']:,} steps that the network has made")
    elif optimizer.n_moments:
        found.append(f"{optimizer.name} begins with fresh moments")
    return found


@quiet
def after(numbers: Trace, descent: Descent, optimizer: Optimizer, before: Array, moved: Array) -> Stage:
    """Where steps lead: at this learning rate, and at smaller and larger ones."""
    own = numbers.gradient
    promised = float(gradients.flat(own.weights, own.biases, own.input_scale) @ (moved - before))
    first = float(descent.costs[descent.chosen, 1])
    told = f"J was {shown(numbers.cost)}; after one step it is {shown(first) if np.isfinite(first) else 'not finite'}. "
    told += f"By the slope alone it would have changed by {shown(promised)}"
    told += f"; it has changed by {shown(first - numbers.cost)}." if np.isfinite(first) else "."
    steps = [one for one in _STEPS if one < descent.costs.shape[1]]
    decade = round(1 / np.log10(descent.rates[1] / descent.rates[0]))
    places = [descent.chosen + k * decade for k in range(-2, 3)]
    rows = []
    for k in places:
        costs = [_cost(float(descent.costs[k, one]), numbers.cost) for one in steps]
        rows.append([shown(descent.rates[k]), descent.verdicts[k], *costs])
    notes = [f"{one}: {WORDS[one]}" for one in dict.fromkeys(descent.verdicts[k] for k in places) if WORDS[one]]
    if descent.verdicts[descent.chosen] == STAYS:
        notes = ["no step changes anything: where the gradient is 0, the model stops learning"]
    grid = Grid(["rate", "", *(f"J({one})" for one in steps)], rows, fixed=2)
    return Stage(
        "descent", "Descent: the same step again and again, on this row alone", told, grids=[grid], notes=notes,
        values={"rates": descent.rates, "costs": descent.costs, "verdicts": descent.verdicts},
    )  # fmt: skip


def _cost(value: float, first: float) -> str:
    """A cost; what is rounding alone, beside the first one, is called nearly 0."""
    if not np.isfinite(value):
        return "-"
    if 0.0 < value < _ROUNDING * first:
        return "~0"
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.1e}"
