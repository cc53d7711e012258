"""The comparison tells the truth of other libraries, as far as signatures tell it, and names what there is."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest
from peers import needs, needs_heavy

import fastbp

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "explanation" / "comparison.md").read_text(encoding="utf-8")
LIBRARIES = ["fastbp", "scikit-learn", "PyTorch", "Keras", "JAX + Optax", "SimpleChains.jl"]


def tables() -> list[list[list[str]]]:
    """The cells of the tables of the page, their heads first."""
    found = re.findall(r"(?:^\|.*\|\n)+", PAGE, flags=re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()] for table in found]


def row(name: str) -> dict[str, str]:
    cells = next(line for table in tables() for line in table if line[0] == name)
    return dict(zip(LIBRARIES, cells[1:], strict=True))


def test_every_table_has_all_libraries() -> None:
    assert len(tables()) == 4
    for head, _, *lines in tables():
        assert head[1:] == LIBRARIES
        assert all(len(line) == len(head) and all(line) for line in lines)
    assert "## What fastbp does not do" in PAGE


def test_what_it_names_of_fastbp_is_there() -> None:
    for line in (line for table in tables() for line in table[2:]):
        for name in re.findall(r"`(?:fastbp\.)?(\w+)", line[1]):
            assert hasattr(fastbp, name) or hasattr(fastbp.MLP, name), name
    counted = re.search(r"Adam and (\d+) more, L-BFGS", row("optimisers")["fastbp"])
    assert counted
    assert len(fastbp.optimizers.OPTIMIZERS) == int(counted[1]) + 2


@needs("sklearn")
def test_scikit_learn() -> None:
    from sklearn.neural_network import MLPClassifier

    parameters = inspect.signature(MLPClassifier).parameters
    for missing in ("dropout", "class_weight", "clip_norm", "label_smoothing", "callbacks"):
        assert missing not in parameters
    assert row("dropout, noise on inputs")["scikit-learn"] == "-"
    assert "sample_weight" in inspect.signature(MLPClassifier.fit).parameters
    assert row("weights of rows, of classes")["scikit-learn"] == "rows"


@needs("torch")
def test_pytorch() -> None:
    import torch

    assert hasattr(torch.func, "vmap")
    assert hasattr(torch.optim, "LBFGS")
    assert "label_smoothing" in inspect.signature(torch.nn.CrossEntropyLoss).parameters
    assert not hasattr(torch.nn.Module, "fit")


@needs_heavy("keras", "optax")
@pytest.mark.filterwarnings("ignore")  # of its own packages
def test_keras_and_optax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras, optax = importlib.import_module("keras"), importlib.import_module("optax")
    for name in ("CSVLogger", "TensorBoard", "EarlyStopping", "BackupAndRestore"):
        assert hasattr(keras.callbacks, name)
    assert "class_weight" in inspect.signature(keras.Model.fit).parameters
    assert "label_smoothing" in inspect.signature(keras.losses.CategoricalCrossentropy).parameters
    assert hasattr(optax, "clip_by_global_norm")
    assert hasattr(optax, "smooth_labels")
    assert len([name for name in dir(optax) if name in ("adam", "adamw", "lion", "lbfgs", "sgd", "rmsprop")]) == 6
    versions = re.search(r"Keras ([\d.]+) .*Optax ([\d.]+),", PAGE)
    assert versions
    assert (keras.__version__.split(".")[0], optax.__version__.split(".")[0]) == ("3", "0")
