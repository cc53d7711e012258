"""fastbp: backpropagation and gradient descent for feed-forward networks, compiled for the CPU.

The names below are loaded when they are first used (PEP 562): importing the package costs a few milliseconds, and
`fastbp --help` answers without Numba.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fastbp._version import __version__

if TYPE_CHECKING:
    from fastbp import callbacks, datasets, reference, schedules
    from fastbp.activations import Activation
    from fastbp.callbacks import EarlyStopping
    from fastbp.errors import DivergenceError
    from fastbp.gradients import check_gradients
    from fastbp.history import History
    from fastbp.info import warmup
    from fastbp.losses import MAE, MSE, BinaryCrossEntropy, CrossEntropy, Huber, Poisson
    from fastbp.network import MLP, Gradient, Scaling
    from fastbp.optimizers import SGD, Adam, AdamW, RMSprop
    from fastbp.serialization import load_model as load
    from fastbp.sweep.range_test import lr_range_test
    from fastbp.sweep.result import LrSweep
    from fastbp.sweep.runs import lr_sweep
    from fastbp.sweep.stability import lr_stability

__all__ = [
    "MAE",
    "MLP",
    "MSE",
    "SGD",
    "Activation",
    "Adam",
    "AdamW",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "DivergenceError",
    "EarlyStopping",
    "Gradient",
    "History",
    "Huber",
    "LrSweep",
    "Poisson",
    "RMSprop",
    "Scaling",
    "__version__",
    "callbacks",
    "check_gradients",
    "datasets",
    "load",
    "lr_range_test",
    "lr_stability",
    "lr_sweep",
    "reference",
    "schedules",
    "warmup",
]

# Where each name lives; a module's own name stands for the module.
_HOMES = {
    "activations": ("Activation",),
    "callbacks": ("callbacks", "EarlyStopping"),
    "datasets": ("datasets",),
    "errors": ("DivergenceError",),
    "gradients": ("check_gradients",),
    "history": ("History",),
    "info": ("warmup",),
    "losses": ("MAE", "MSE", "BinaryCrossEntropy", "CrossEntropy", "Huber", "Poisson"),
    "network": ("MLP", "Gradient", "Scaling"),
    "optimizers": ("SGD", "Adam", "AdamW", "RMSprop"),
    "reference": ("reference",),
    "schedules": ("schedules",),
    "serialization": ("load",),
    "sweep.result": ("LrSweep",),
    "sweep.runs": ("lr_sweep",),
    "sweep.range_test": ("lr_range_test",),
    "sweep.stability": ("lr_stability",),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}
_RENAMED = {"load": "load_model"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'fastbp' has no attribute {name!r}")
    module = importlib.import_module(f"fastbp.{_MODULES[name]}")
    value = module if name == _MODULES[name] else getattr(module, _RENAMED.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
