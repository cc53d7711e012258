"""The packages that tests compare with (extra `peers`), where they are there; a test says that it needs one."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

import pytest

REQUIRED = bool(os.environ.get("FASTBP_REQUIRE_PEERS"))  # nothing may be skipped for the want of one
# Those that are installed for a step of their own, when the others are through -> the variable that requires them.
LATER = {"keras": "FASTBP_REQUIRE_HEAVY"}
os.environ.setdefault("KERAS_BACKEND", "jax")


class _Missing:
    """What stands for all that a missing package has, so that tables of cases can be made without it."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __getattr__(self, name: str) -> _Missing:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Missing()

    def __call__(self, *_: object, **__: object) -> _Missing:
        return _Missing()


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        if os.environ.get(LATER[name]) if name in LATER else REQUIRED:
            raise
        return _Missing()


def needs(*names: str) -> pytest.MarkDecorator:
    """Marks a test that compares with these packages."""
    missing = [name for name in names if isinstance(_load(name), _Missing)]
    return pytest.mark.skipif(bool(missing), reason=f"compares with {', '.join(missing)} (extra peers)")


def needs_heavy(*names: str) -> pytest.MarkDecorator:
    """Marks a test of packages that `.ci/run` installs after all other tests (extra `heavy`): there it never skips."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    required = bool(os.environ.get("FASTBP_REQUIRE_HEAVY"))
    return pytest.mark.skipif(bool(missing) and not required, reason=f"needs {', '.join(missing)} (extra heavy)")


torch = _load("torch")
lr_scheduler = torch.optim.lr_scheduler
sklearn_datasets, sklearn_metrics = _load("sklearn.datasets"), _load("sklearn.metrics")
sklearn_weights = _load("sklearn.utils.class_weight")

# Loaded by the tests that name them: the others need not wait for them.
_LATE = {
    "h5py": "h5py", "jax": "jax", "keras": "keras", "onnx": "onnx", "onnxruntime": "onnxruntime",
    "sklearn_networks": "sklearn.neural_network", "sklearn_pipeline": "sklearn.pipeline",
    "sklearn_preprocessing": "sklearn.preprocessing",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(name)
    return _load(_LATE[name])
