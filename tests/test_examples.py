"""The Examples in the docstrings of what users call: each is there, and says what happens."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peers import needs_heavy

import fastbp
from fastbp import callbacks, optimizers, schedules


def of(module: Any, base: type) -> list[Any]:
    """The public classes of a module that are of a kind."""
    found = [getattr(module, name) for name in dir(module) if not name.startswith("_")]
    return [one for one in found if inspect.isclass(one) and issubclass(one, base) and one is not base]


DOCUMENTED = [
    fastbp.MLP,
    fastbp.MLP.fit,
    fastbp.lr_sweep,
    fastbp.lr_range_test,
    *of(optimizers, optimizers.Optimizer),
    *of(schedules, schedules.Schedule),
    *(one for one in of(callbacks, callbacks.Watcher) if one is not callbacks.MLflow),
    pytest.param(callbacks.MLflow, marks=[needs_heavy("mlflow"), pytest.mark.filterwarnings("ignore")]),
]


@pytest.mark.parametrize("documented", DOCUMENTED, ids=lambda one: one.__qualname__)
@pytest.mark.filterwarnings("ignore:the best learning rate")
def test_the_examples_run(documented: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    y = np.arange(60) % 3
    X = (np.random.default_rng(0).standard_normal((60, 4)) + y[:, None]).astype(np.float32)
    names = {"fastbp": fastbp, "np": np, "X": X, "y": y, "net": fastbp.MLP([4, 8, 3], seed=0)}
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(documented), names, documented.__qualname__, None, None)
    assert test.examples, "an Examples section is missing"
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append)
    assert not said, "".join(said)
