"""fastbp: backpropagation and gradient descent for feed-forward networks, compiled for the CPU.

The names below are loaded when they are first used (PEP 562): importing the package costs a few milliseconds, and
`fastbp --help` answers without Numba.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fastbp._version import __version__

if TYPE_CHECKING:
    from fastbp import activations, callbacks, datasets, losses, optimizers, reference, schedules
    from fastbp.activations import Activation
    from fastbp.callbacks import Checkpoint, EarlyStopping, LayerStatistics, MaxSeconds, StopGradientNorm
    from fastbp.core import Gradient, Scaling
    from fastbp.errors import DivergenceError
    from fastbp.gradients import check_gradients
    from fastbp.history import History
    from fastbp.info import warmup
    from fastbp.lbfgs import LBFGS
    from fastbp.losses import MAE, MSE, BinaryCrossEntropy, CrossEntropy, Huber, Poisson
    from fastbp.network import MLP
    from fastbp.optimizers import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Lion, NAdam, RAdam, RMSprop, Rprop
    from fastbp.serialization import load_model as load
    from fastbp.sweep.range_test import lr_range_test
    from fastbp.sweep.result import LrSweep
    from fastbp.sweep.runs import lr_sweep
    from fastbp.sweep.stability import lr_stability

__all__ = [
    "LBFGS",
    "MAE",
    "MLP",
    "MSE",
    "SGD",
    "Activation",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "BinaryCrossEntropy",
    "Checkpoint",
    "CrossEntropy",
    "DivergenceError",
    "EarlyStopping",
    "Gradient",
    "History",
    "Huber",
    "LayerStatistics",
    "Lion",
    "LrSweep",
    "MaxSeconds",
    "NAdam",
    "Poisson",
    "RAdam",
    "RMSprop",
    "Rprop",
    "Scaling",
    "StopGradientNorm",
    "__version__",
    "activations",
    "callbacks",
    "check_gradients",
    "datasets",
    "load",
    "losses",
    "lr_range_test",
    "lr_stability",
    "lr_sweep",
    "optimizers",
    "reference",
    "schedules",
    "warmup",
]

# Where each name lives; a module's own name stands for the module.
_HOMES = {
    "activations": ("activations", "Activation"),
    "callbacks": ("callbacks", "Checkpoint", "EarlyStopping", "LayerStatistics", "MaxSeconds", "StopGradientNorm"),
    "datasets": ("datasets",),
    "errors": ("DivergenceError",),
    "gradients": ("check_gradients",),
    "history": ("History",),
    "info": ("warmup",),
    "losses": ("losses", "MAE", "MSE", "BinaryCrossEntropy", "CrossEntropy", "Huber", "Poisson"),
    "core": ("Gradient", "Scaling"),
    "network": ("MLP",),
    "lbfgs": ("LBFGS",),
    "optimizers": (
        "optimizers",
        "SGD",
        "Adadelta",
        "Adagrad",
        "Adam",
        "AdamW",
        "Adamax",
        "Lion",
        "NAdam",
        "RAdam",
        "RMSprop",
        "Rprop",
    ),
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
