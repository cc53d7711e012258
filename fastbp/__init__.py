"""fastbp: backpropagation and gradient descent for feed-forward networks, compiled for the CPU.

Names are loaded when they are first used (PEP 562): importing the package costs a few milliseconds, and `fastbp --help`
answers without Numba. Type checkers read `__init__.pyi`, which `python benchmarks/stub.py` makes of the lists below.
"""

import importlib
from typing import Any

from fastbp._version import __version__ as __version__

# The public names by the module that they live in; a module's own name stands for the module.
HOMES = {
    "activations": ("activations", "Activation"),
    "callbacks": (
        "callbacks",
        "Checkpoint",
        "EarlyStopping",
        "LayerStatistics",
        "MaxSeconds",
        "StopGradientNorm",
        "StopStalled",
    ),
    "convert": ("from_keras", "from_sklearn", "from_torch"),
    "datasets": ("datasets",),
    "engine.warmup": ("warmup",),
    "errors": ("DivergenceError", "NetworksFailed", "SweepInterrupted"),
    "gradients": ("check_gradients",),
    "losses": ("losses",),
    "many.cross_validation": ("CrossValidation", "cross_validate"),
    "many.ensemble": ("Ensemble",),
    "many.fit_many": ("fit_many",),
    "many.groups": ("GroupModel", "fit_groups"),
    "many.range_test": ("lr_range_test",),
    "many.result": ("LrSweep",),
    "many.runs": ("lr_sweep",),
    "many.stability": ("lr_stability",),
    "many.sweep": ("sweep",),
    "many.sweep_result": ("Sweep",),
    "network": ("MLP", "load"),
    "optimizers": ("optimizers",),
    "plots": ("plots",),
    "recipes": ("recipes",),
    "reference": ("reference",),
    "schedules": ("schedules",),
    "spec": ("Gradient", "Scaling"),
    "tables.model": ("TableModel",),
    "tables.several": ("SeveralTables",),
    "walkthrough.explanation": ("Explanation", "explain"),
    "history": ("History",),
}
# Of these modules, all names in their `__all__` are public as well: an entry of such a registry is named there alone.
REGISTRIES = ("optimizers", "losses")
# Modules that need packages of an extra: they are there as attributes, but not in `__all__`.
OF_EXTRAS = ("sklearn",)
_MODULES = {name: module for module, names in HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted({*_MODULES, "__version__", *(one for module in REGISTRIES for one in _import(module).__all__)})
    if name in OF_EXTRAS:
        return _import(name)
    home = _MODULES.get(name)
    if home is None and name[:1].isupper():  # classes: to ask the registries takes time
        home = next((module for module in REGISTRIES if name in _import(module).__all__), None)
    if home is None:
        raise AttributeError(f"module 'fastbp' has no attribute {name!r}")
    value = _import(home) if name == home else getattr(_import(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})


def _import(module: str) -> Any:
    return importlib.import_module(f"fastbp.{module}")
