"""Callbacks: `fit` calls their `on_epoch_end(state)` after every epoch, and they may stop the training."""

from fastbp.callbacks.base import Callback, EpochState, Watcher
from fastbp.callbacks.checkpoint import Checkpoint
from fastbp.callbacks.layers import LayerStatistics
from fastbp.callbacks.loggers import CSVLogger, JSONLogger, MLflow, TensorBoard
from fastbp.callbacks.stopping import EarlyStopping, MaxSeconds, StopGradientNorm, StopStalled

__all__ = [
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "EpochState",
    "JSONLogger",
    "LayerStatistics",
    "MLflow",
    "MaxSeconds",
    "StopGradientNorm",
    "StopStalled",
    "TensorBoard",
    "Watcher",
]
