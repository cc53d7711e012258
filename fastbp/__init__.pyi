# Made by `python benchmarks/stub.py`.
# ruff: noqa: F403

from fastbp import activations as activations
from fastbp import callbacks as callbacks
from fastbp import datasets as datasets
from fastbp import losses as losses
from fastbp import optimizers as optimizers
from fastbp import plots as plots
from fastbp import recipes as recipes
from fastbp import reference as reference
from fastbp import schedules as schedules
from fastbp._version import __version__ as __version__
from fastbp.activations import Activation as Activation
from fastbp.callbacks import Checkpoint as Checkpoint
from fastbp.callbacks import EarlyStopping as EarlyStopping
from fastbp.callbacks import LayerStatistics as LayerStatistics
from fastbp.callbacks import MaxSeconds as MaxSeconds
from fastbp.callbacks import StopGradientNorm as StopGradientNorm
from fastbp.callbacks import StopStalled as StopStalled
from fastbp.convert import from_keras as from_keras
from fastbp.convert import from_sklearn as from_sklearn
from fastbp.convert import from_torch as from_torch
from fastbp.engine.warmup import warmup as warmup
from fastbp.errors import DivergenceError as DivergenceError
from fastbp.errors import NetworksFailed as NetworksFailed
from fastbp.errors import SweepInterrupted as SweepInterrupted
from fastbp.gradients import check_gradients as check_gradients
from fastbp.history import History as History
from fastbp.losses import *
from fastbp.many.cross_validation import CrossValidation as CrossValidation
from fastbp.many.cross_validation import cross_validate as cross_validate
from fastbp.many.ensemble import Ensemble as Ensemble
from fastbp.many.fit_many import fit_many as fit_many
from fastbp.many.groups import GroupModel as GroupModel
from fastbp.many.groups import fit_groups as fit_groups
from fastbp.many.range_test import lr_range_test as lr_range_test
from fastbp.many.result import LrSweep as LrSweep
from fastbp.many.runs import lr_sweep as lr_sweep
from fastbp.many.stability import lr_stability as lr_stability
from fastbp.many.sweep import sweep as sweep
from fastbp.many.sweep_result import Sweep as Sweep
from fastbp.network import MLP as MLP
from fastbp.network import load as load
from fastbp.optimizers import *
from fastbp.spec import Gradient as Gradient
from fastbp.spec import Scaling as Scaling
from fastbp.tables.model import TableModel as TableModel
from fastbp.tables.several import SeveralTables as SeveralTables
from fastbp.walkthrough.explanation import Explanation as Explanation
from fastbp.walkthrough.explanation import explain as explain

HOMES: dict[str, tuple[str, ...]]
REGISTRIES: tuple[str, ...]
