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
    from fastbp.engine.warmup import warmup
    from fastbp.errors import DivergenceError
    from fastbp.gradients import check_gradients
    from fastbp.losses import MAE, MSE, BinaryCrossEntropy, CrossEntropy, Huber, Poisson
    from fastbp.many.range_test import lr_range_test
    from fastbp.many.result import LrSweep
    from fastbp.many.runs import lr_sweep
    from fastbp.many.stability import lr_stability
    from fastbp.network import MLP, load
    from fastbp.optimizers import LBFGS, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Lion, NAdam, RAdam, RMSprop, Rprop
    from fastbp.spec import Gradient, Scaling
    from fastbp.training.history import History

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
    "training.history": ("History",),
    "engine.warmup": ("warmup",),
    "losses": ("losses", "MAE", "MSE", "BinaryCrossEntropy", "CrossEntropy", "Huber", "Poisson"),
    "spec": ("Gradient", "Scaling"),
    "network": ("MLP", "load"),
    "optimizers": (
        "optimizers",
        "LBFGS",
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
    "many.result": ("LrSweep",),
    "many.runs": ("lr_sweep",),
    "many.range_test": ("lr_range_test",),
    "many.stability": ("lr_stability",),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'fastbp' has no attribute {name!r}")
    module = importlib.import_module(f"fastbp.{_MODULES[name]}")
    value = module if name == _MODULES[name] else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
