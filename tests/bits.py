"""The bits that a change of the sources must not change: three hundred small trainings, recorded and compared.

    python -m tests.bits --out before.json                   # in the one checkout
    python -m tests.bits --out after.json                    # in the other, on the same machine
    python -m tests.bits --compare before.json after.json    # names the cases that differ, and exits 1 if any does

Bits depend on the type of CPU and on the version, so that no test can hold them: this is run by hand. It uses public
names only, and so runs in checkouts whose modules are elsewhere: copy it to those that lack it. `--only TEXT` records
some of the cases.
"""

from __future__ import annotations

import argparse
import functools
import json
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

import fastbp
from fastbp import LBFGS, MLP, SGD, Adam, activations, callbacks, datasets, initializers, optimizers, schedules
from fastbp.reference import NumpyMLP

Record = dict[str, Any]


def _tasks() -> dict[str, tuple[Any, Any, int]]:
    """Rows, targets and outputs by kind of target."""
    rng = np.random.default_rng(12)
    X = rng.standard_normal((203, 9)).astype(np.float32)
    scores = X @ rng.standard_normal((9, 4)).astype(np.float32)
    classes, odds = scores.argmax(axis=1), np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    many = rng.standard_normal((6000, 4)).astype(np.float32)
    digits = datasets.load_digits()
    return {
        "classes": (X, classes, 4),
        "probabilities": (X, odds, 4),
        "ignored": (X, np.where(np.arange(203) % 5, classes, -100), 4),
        "binary": (X, np.asarray(scores[:, 0] > 0, np.int64), 1),
        "multi-label": (X, np.asarray(scores > 0, np.int64), 4),
        "real": (X, scores[:, :2] / 3, 2),
        "one real": (X, scores[:, 0] / 3, 1),
        "counts": (X, rng.poisson(np.exp(scores[:, 0] / 3)), 1),
        "float64": (X.astype(np.float64), classes, 4),
        "uint8": (rng.integers(0, 256, (203, 9)).astype(np.uint8), classes, 4),
        "int64": (rng.integers(-9, 10, (203, 9)), classes, 4),
        "columns first": (np.asfortranarray(X), classes, 4),
        "strided": (np.repeat(X, 2, axis=1)[:, ::2], classes, 4),
        "time stamps": (np.column_stack([1.7e9 + np.arange(203.0), X[:, 1:]]), 1e6 + scores[:, 0] * np.float64(1), 1),
        "many rows": (many, many[:, :3].argmax(axis=1), 3),
        "digits": (digits.X, digits.y, 10),
    }


TASKS = _tasks()
X, Y, _ = TASKS["classes"]


def digest(*arrays: Any) -> str:
    """A hash of arrays by dtype, shape and bytes."""
    total = blake2b(digest_size=16)
    for array in map(np.ascontiguousarray, arrays):
        total.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return total.hexdigest()


def hexes(values: Any) -> list[str]:
    return [float(value).hex() for value in np.ravel(values)]


def state(net: Any, samples: Any, history: Any = None) -> Record:
    """All that a training leaves, but for its duration."""
    found: Record = {"weights": digest(*net.weights, *net.biases), "predictions": digest(net.predict(samples))}
    found["outputs"] = digest(net.forward(samples))
    if isinstance(net, MLP):
        moments = [array for one in net.optimizer_state()["moments"] for part in one.values() for array in part]
        found |= {"moments": digest(*moments), "one row": digest(net.forward(samples[:1]), net.forward(samples[:3]))}
    if history is not None:
        found |= {name: hexes(getattr(history, name)) for name in ("loss", "val_loss", "val_score", "lr")}
        found["stop"] = getattr(history, "stop_reason", "")
    return found


def made(task: str = "classes", hidden: tuple[int, ...] = (13, 8), scale: str = "", kind: Any = MLP, **net: Any) -> Any:
    """A network for the rows of a task; standardised by "X", or by "Xy"."""
    samples, targets, n_out = TASKS[task]
    found = kind([samples.shape[1], *hidden, n_out], **{"seed": 3, **net})
    if scale:
        found.standardize(samples, targets if scale == "Xy" else None)
    return found


def trained(task: str = "classes", net: Mapping[str, Any] = MappingProxyType({}), **options: Any) -> Record:
    samples, targets, _ = TASKS[task]
    fitted = made(task, **net)
    history = fitted.fit(samples, targets, **{"epochs": 3, "batch_size": 16, **options})
    return state(fitted, samples, history) | {"scores": hexes(list(fitted.evaluate(samples, targets).values()))}


def chunks(weighted: bool = False) -> Iterator[tuple[Any, ...]]:
    for start, end in ((0, 40), (40, 47), (47, 203)):
        yield X[start:end], Y[start:end], *([np.linspace(0.5, 2, end - start)] if weighted else [])


def chunked(source: Any, once: bool = False, **options: Any) -> Record:
    net = made(dropout=0.2)
    return state(net, X, net.fit(source() if once else source, **{"epochs": 3, "batch_size": 16, **options}))


def mapped(dtype: str) -> Record:
    """A memory map, and how a network that read it was kept: as a file, a pickle, a copy, in the other dtype."""
    with tempfile.TemporaryDirectory() as folder:
        (X * 50 + 128).clip(0, 255).astype(dtype).tofile(Path(folder, "X"))
        samples, net = np.memmap(Path(folder, "X"), dtype, "r", shape=X.shape), made()
        found = state(net, X, net.fit(samples, Y, epochs=2))
        net.save(Path(folder, "net.safetensors"))
        others = [fastbp.load(Path(folder, "net.safetensors")), pickle.loads(pickle.dumps(net)), net.copy()]
        found["kept"] = [state(other, X) for other in [*others, net.astype("float64")]]
        del samples
        return found


def resumed(**options: Any) -> Record:
    """A training, and the same from a checkpoint in its middle; both have to be equal."""
    found: list[Record] = []
    with tempfile.TemporaryDirectory() as folder:
        written = [callbacks.Checkpoint(folder, every_epochs=2, keep=9, best="loss")]
        for add in ({"callbacks": written}, {"resume": Path(folder, "epoch-000002.safetensors")}):
            net = made(dropout=0.2, seed=len(found))
            found.append(state(net, X, net.fit(X, Y, **{"epochs": 5, **options, **add})))
        best = state(fastbp.load(Path(folder, "best.safetensors")), X)
    return {"whole": found[0], "equal": found[0] == found[1], "best": best}


def steps(optimizer: Any, rows: int, apart: bool = False, **options: Any) -> Record:
    """`train_step` in a loop, or `backprop` and `update`."""
    net, seen = made(**options), []
    for start in range(0, 60, rows):
        batch = X[start : start + rows], Y[start : start + rows]
        if not apart:
            seen.append(net.train_step(*batch, optimizer))
            continue
        gradient = net.backprop(*batch)
        seen += [gradient.loss, digest(*gradient.weights, *gradient.biases, gradient.inputs)]
        optimizer.update(net, gradient)
    return state(net, X) | {"loss": [one if isinstance(one, str) else one.hex() for one in seen]}


def gradients() -> Record:
    net = made(activation="tanh", dtype="float64")
    given, weighted = net.backprop(X, output_gradient=np.ones((203, 4))), net.backprop(X, Y, sample_weight=Y + 1.0)
    parts = [digest(*one.weights, *one.biases, one.inputs) for one in (given, weighted)]
    return {"parts": parts, "error": hexes(fastbp.check_gradients(net, X[:20], Y[:20])), **state(net, X)}


def diverged() -> Record:
    net = made("real", loss="mse")
    try:
        net.fit(X, TASKS["real"][1], epochs=50, optimizer=SGD(lr=50.0))
    except fastbp.DivergenceError as error:
        return state(net, X) | {"error": str(error)}
    raise AssertionError("it has not diverged")


def swept(**options: Any) -> Record:
    net = made(dropout=0.1)
    found = fastbp.lr_sweep(net, X, Y, [1e-4, 3e-3, 3e-2, 0.3, 1e30], **{"seeds": 2, "epochs": 4, **options})
    arrays = digest(found.train_loss, found.val_loss, found.start_loss, found.eliminated, found.epochs_done)
    rates = hexes([found.best_lr, found.recommended_lr, *(found.interval or ())])
    return {"arrays": arrays, "rates": rates, "status": found.status.tolist(), "loss": hexes(found.train_loss[1])}


def ranged(**options: Any) -> Record:
    found = fastbp.lr_range_test(made(), X, Y, n_steps=60, seeds=[0, 1], fresh=False, **options)
    suggested = {name: hexes([one.value, one.low, one.high]) for name, one in found.suggestions.items()}
    return {"loss": hexes(found.losses), "smoothed": digest(found.smoothed), "stop": found.stopped, **suggested}


def stable(**options: Any) -> Record:
    found = fastbp.lr_stability(made(activation="tanh"), X, Y, **options)
    return {name: hexes(getattr(found, name)) for name in ("eigenvalues", "lines", "losses", "products")}


def watched() -> Record:
    look, net = callbacks.LayerStatistics(X[:50], Y[:50]), made()
    with tempfile.TemporaryDirectory() as folder:
        found = state(net, X, net.fit(X, Y, epochs=3, callbacks=[look, callbacks.StopGradientNorm(1e-3)]))
        look.to_csv(Path(folder, "layers.csv"))
        return found | {"layers": Path(folder, "layers.csv").read_text()}


def drawn() -> Record:
    sets = [datasets.make_classification(90, 5, 3, seed=1), datasets.load_digits()]
    parts = [part for one in sets for part in datasets.train_test_split(one.X, one.y, 0.2, seed=1)]
    return {"rows": digest(*parts)}


# fmt: off
OPTIONS: list[tuple[str, Record]] = [
    ("sgd", {"lr": 0.1, "weight_decay": 0.03}), ("sgd", {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.03}),
    ("sgd", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}), ("sgd", {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    ("sgd", {"lr": 0.1, "momentum": 0.9, "clip_norm": 0.1}), ("sgd", {"lr": 0.1, "clip_value": 0.01}),
    ("adam", {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    ("adam", {"lr": 0.02, "amsgrad": True}), ("adam", {"lr": 0.02, "clip_norm": 0.3, "clip_value": 0.02}),
    ("adamw", {"lr": 0.02, "weight_decay": 0.3, "amsgrad": True}),
    ("nadam", {"lr": 0.02, "weight_decay": 0.1, "momentum_decay": 0.1, "decoupled_weight_decay": True}),
    ("radam", {"lr": 0.02, "betas": (0.5, 0.6), "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("adamax", {"lr": 0.02, "betas": (0.8, 0.95), "weight_decay": 0.1}),
    ("lion", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.3}),
    ("rmsprop", {"lr": 0.005, "alpha": 0.9, "momentum": 0.8, "weight_decay": 0.1}),
    ("rmsprop", {"lr": 0.005, "alpha": 0.9, "centered": True, "weight_decay": 0.1}),
    ("rmsprop", {"lr": 0.005, "centered": True, "momentum": 0.8}),
    ("adagrad", {"lr": 0.1, "lr_decay": 0.05, "weight_decay": 0.1, "initial_accumulator_value": 0.3}),
    ("adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1}),
    ("rprop", {"lr": 0.02, "etas": (0.4, 1.3), "step_sizes": (1e-3, 0.2)}),
]
RECIPES: Record = {name: optimizers.get(name) for name in optimizers.OPTIMIZERS}
RECIPES |= {f"{name} {given}": optimizers.OPTIMIZERS[name](**given) for name, given in OPTIONS}
HELD: Record = {"validation_data": (X[:50], Y[:50][::-1])}
STOP = [callbacks.EarlyStopping(patience=2)]
WARM = schedules.Warmup(1, schedules.ReduceOnPlateau(0.5, patience=0, monitor="val_loss"))
SCHEDULES: Record = {
    "Constant": schedules.Constant(), "Step": schedules.Step(1, 0.5), "MultiStep": schedules.MultiStep([1, 2.5], 0.3),
    "Exponential": schedules.Exponential(0.8), "Polynomial": schedules.Polynomial(3, 2.0, 0.1),
    "InverseTime": schedules.InverseTime(0.5), "Cosine": schedules.Cosine(3, 0.1),
    "Cosine, restarts": schedules.Cosine(1, restarts=True, growth=2), "OneCycle": schedules.OneCycle(4),
    "OneCycle, three phases": schedules.OneCycle(4, anneal="linear", three_phase=True, momentum=(0.7, 0.9)),
    "Warmup": schedules.Warmup(1.5, schedules.Cosine(2)), "a function": lambda step: 0.01 / (1 + step / 10),
    "ReduceOnPlateau": schedules.ReduceOnPlateau(0.5, patience=0, threshold=0.9), "Warmup, ReduceOnPlateau": WARM,
}
LOSSES: dict[str, tuple[Any, ...]] = {
    "cross_entropy": ("classes", "cross_entropy"), "poisson": ("counts", "poisson"),
    "binary_cross_entropy": ("binary", "binary_cross_entropy"), "mse": ("real", "mse"),
    "multi-label": ("multi-label", "binary_cross_entropy"), "mae": ("real", "mae"),
    "probabilities": ("probabilities", "cross_entropy"), "huber": ("real", "huber"),
    "label smoothing": ("classes", fastbp.CrossEntropy(label_smoothing=0.1)), "one real": ("one real", "mse"),
    "ignored labels": ("ignored", fastbp.CrossEntropy(ignore_index=-100)), "delta": ("real", fastbp.Huber(delta=0.2)),
    "output activation": ("real", "mse", "tanh"),
}
NETS: Record = {
    "dropout": {"dropout": [0.2, 0.5]}, "input noise": {"input_noise": 0.3}, "l1": {"l1": 1e-3}, "l2": {"l2": 1e-2},
    "max norm": {"max_norm": 0.8}, "two activations": {"activation": ["gelu", "tanh"]},
    "all": {"dropout": 0.1, "input_noise": 0.1, "l1": 1e-4, "l2": 1e-3, "max_norm": 1.5},
} | {f"init {name}": {"init": name} for name in initializers.INITIALIZERS}
FITS: Record = {
    "rows weighted": {"sample_weight": np.linspace(0, 2, 203)}, "classes weighted": {"class_weight": {1: 3.0}},
    "balanced": {"class_weight": "balanced", "sample_weight": np.linspace(0.1, 2, 203)}, "in order": {"shuffle": False},
    "validation data": HELD, "validation weighted": {"validation_data": (X[:50], Y[:50], np.arange(50.0))},
    "validation split": {"validation_split": 0.2}, "no steps": {"epochs": 1, "optimizer": SGD(0.0)},
    "early stopping": {"callbacks": STOP, "epochs": 30, "optimizer": Adam(lr=0.05), **HELD},
} | {f"batch {rows}": {"batch_size": rows} for rows in (1, 2, 3, 4, 5, 33, 203)}
SHAPES: dict[str, tuple[str, Record, Record]] = {
    "wide": ("digits", {"hidden": (256, 128)}, {"epochs": 1, "batch_size": 64}),
    "blocks": ("many rows", {"hidden": (8,)}, {"batch_size": 2500}),
    "few rows": ("digits", {"hidden": (64,)}, {"epochs": 1, "batch_size": 2}),
}
SCALED = {"classes": "cross_entropy", "uint8": "cross_entropy", "real": "huber", "time stamps": "mse"}
STEPS: Record = {"sgd": SGD(0.1, momentum=0.9), "adam": Adam(lr=0.01), "clipped": Adam(clip_norm=0.5)}

CASES: dict[str, Callable[[], Record]] = {"datasets": drawn, "gradients": gradients, "divergence": diverged}


def add(prefix: str, function: Callable[..., Record], rows: dict[Any, Record]) -> None:
    """A case for every row: its name, and what the function gets."""
    CASES.update({f"{prefix} {name}": functools.partial(function, **options) for name, options in rows.items()})


for dtype in ("float32", "float64"):
    add(f"{dtype} optimizer", trained, {n: {"net": {"dtype": dtype}, "optimizer": one} for n, one in RECIPES.items()})
    add(f"{dtype} activation", trained, {
        n: {"net": {"dtype": dtype, "activation": n}} for n in activations.ACTIVATIONS})
    add(f"{dtype} net", trained, {n: {"net": {"dtype": dtype, **net}} for n, net in NETS.items()})
    add(f"{dtype} fit", trained, {n: {"net": {"dtype": dtype}, **options} for n, options in FITS.items()})
    for kind in (MLP, NumpyMLP):
        add(f"{dtype} {kind.__name__} loss", trained, {
            n: {"task": task, "net": {"kind": kind, "dtype": dtype, "loss": loss, "output_activation": (*out, None)[0]}}
            for n, (task, loss, *out) in LOSSES.items()})
    add(f"{dtype} threads", trained, {
        f"{threads}, {n}": {"task": task, "net": {"dtype": dtype, "dropout": 0.1, **net}, "threads": threads, **options}
        for n, (task, net, options) in SHAPES.items() for threads in (1, 2, None)})
add("NumPy optimizer", trained, {n: {"net": {"kind": NumpyMLP}, "optimizer": one} for n, one in RECIPES.items()})
add("NumPy net", trained, {n: {"net": {"kind": NumpyMLP, **net}} for n, net in NETS.items()})
add("schedule", trained, {
    n: {"epochs": 4, "schedule": one, "optimizer": SGD(0.1, momentum=0.9), **HELD} for n, one in SCHEDULES.items()})
add("X", trained, {task: {"task": task} for task in ("float64", "uint8", "int64", "columns first", "strided")})
add("scaled", trained, {
    task: {"task": task, "net": {"loss": loss, "scale": "X" if loss == "cross_entropy" else "Xy"}}
    for task, loss in SCALED.items()})
add("layers", trained, {"none": {"net": {"hidden": ()}}, "long steps": {
    "task": "digits", "net": {"hidden": (1500, 1200)}, "batch_size": 700, "epochs": 1}})
add("lbfgs", trained, {
    n: {"net": {"activation": "tanh", "dtype": dtype}, "optimizer": one, "epochs": 8, "batch_size": 32}
    for n, dtype, one in (("default", "float32", "lbfgs"), ("options", "float64", LBFGS(weight_decay=1e-3, memory=4)))})
add("mapped", mapped, {dtype: {"dtype": dtype} for dtype in ("float32", "float64", "uint8")})
add("chunks", chunked, {
    "listed": {"source": list(chunks())}, "weighted": {"source": functools.partial(chunks, True), **HELD},
    "once": {"source": chunks, "once": True, "epochs": 1},
    "by steps": {"source": chunks, "steps_per_epoch": 5, "schedule": schedules.Cosine(3)}})
add("resumed", resumed, {
    "plain": {}, "in order": {"shuffle": False, "optimizer": "nadam"}, "plateau": {"schedule": WARM, **HELD}})
add("steps", steps, {f"{n}, {rows}{', apart' * apart}": {"optimizer": one, "rows": rows, "apart": apart}
    for n, one in STEPS.items() for rows in (1, 2, 3, 4, 20) for apart in (False, True)})
add("sweep", swept, {
    "1 thread": {"threads": 1}, "2 threads": {"threads": 2}, "halving": {"halving": 2, "optimizer": SGD(clip_norm=1.0)},
    "schedule": {"schedule": schedules.Cosine(4), **HELD}})
add("range test", ranged, {"default": {}, "linear": {"ramp": "linear", "optimizer": "sgd", **HELD}})
add("stability", stable, {
    "sgd": {"optimizer": SGD(0.1, momentum=0.9)}, "adam": {"epochs": 1}, "lanczos": {"method": "lanczos"}})
add("watched", watched, {"by all": {}})
# fmt: on


def record(only: str = "") -> dict[str, Record]:
    """The outputs of all cases (whose names hold a text), through JSON; of one that fails, its error."""
    found: dict[str, Record] = {}
    for name, case in CASES.items():
        if only in name:
            try:
                found[name] = case()
            except Exception as error:
                found[name] = {"error": f"{type(error).__name__}: {error}"}
                print(f"{name}: {found[name]['error']}", file=sys.stderr)
    through: dict[str, Record] = json.loads(json.dumps(found))
    return through


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the outputs of all cases to this file")
    parser.add_argument("--only", default="", metavar="TEXT", help="of the cases whose names hold this text")
    parser.add_argument("--compare", type=Path, nargs=2, metavar="FILE", help="compare two such files")
    options = parser.parse_args()
    if options.compare:
        old, new = (json.loads(path.read_text()) for path in options.compare)
        different = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        for name in different:
            first, second = old.get(name, {}), new.get(name, {})
            parts = [part for part in {**first, **second} if first.get(part) != second.get(part)]
            print(f"{name}: {', '.join(parts) if first and second else 'only in one'}")
        print(f"{len(different)} of {len({**old, **new})} cases differ")
        return int(bool(different))
    started = time.perf_counter()
    found = record(options.only)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    failed = sum(list(one) == ["error"] for one in found.values())
    print(f"{len(found)} cases in {time.perf_counter() - started:.1f} s, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
