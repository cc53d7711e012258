"""Exceptions of our own: what they say, and that they come back from another process as they were."""

from __future__ import annotations

import ast
import copy
import importlib
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp.errors import DivergenceError, SweepInterrupted
from fastbp.history import History

ROOT = Path(fastbp.__file__).parent
# What an exception is made of, where it is more than a text.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "DivergenceError": (3, 40, 0.5, History("accuracy")),
    "TableError": ("rows.csv", ["line 3: what is wrong", "and how to mend it"]),
    "NetworksFailed": ("network 1 failed", {1: ValueError("what is wrong")}, [History("accuracy")]),
    "SweepInterrupted": ("3 of 8 runs had finished", {"rate": np.arange(3.0)}),
}


def exceptions() -> list[type[BaseException]]:
    """Every exception class that a module of fastbp defines, found in the sources."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        names = [node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
        if names:
            module = importlib.import_module(".".join(["fastbp", *path.relative_to(ROOT).with_suffix("").parts]))
            found += [getattr(module, name) for name in names if hasattr(module, name)]
    return [kind for kind in found if issubclass(kind, BaseException)]


EXCEPTIONS = exceptions()


def same(one: BaseException, other: BaseException) -> bool:
    one_vars, other_vars = ({**vars(error), "history": None} for error in (one, other))
    return type(one) is type(other) and str(one) == str(other) and repr(one_vars) == repr(other_vars)


@pytest.mark.parametrize("kind", EXCEPTIONS, ids=lambda kind: kind.__name__)
def test_exceptions_survive_pickling(kind: type[BaseException]) -> None:
    error = kind(*ARGUMENTS.get(kind.__name__, ("what is wrong: and how to mend it",)))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert same(pickle.loads(pickle.dumps(error, protocol)), error)
    assert same(copy.copy(error), error)
    assert same(copy.deepcopy(error), error)


def test_the_search_finds_them() -> None:
    assert {DivergenceError, SweepInterrupted} < set(EXCEPTIONS)
    assert ARGUMENTS.keys() <= {kind.__name__ for kind in EXCEPTIONS}


def interrupt() -> None:
    net = fastbp.MLP([4, 3, 2], seed=0)
    X, y = np.random.default_rng(0).random((20, 4)), np.arange(20) % 2
    raise SweepInterrupted("1 of 1 runs had finished", fastbp.lr_sweep(net, X, y, [0.01], seeds=1, epochs=1))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_interrupted_sweep_breaks_no_pool() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.raises(SweepInterrupted, match=r"^1 of 1 runs had finished$") as caught:
            pool.submit(interrupt).result()
        assert caught.value.result.val_loss.shape == (1, 1, 1)
        assert pool.submit(abs, -3).result() == 3
