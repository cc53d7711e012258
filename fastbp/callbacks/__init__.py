"""What may watch a training at the end of every epoch, and stop it: any object with `on_epoch_end(state)`."""

from fastbp.callbacks.base import Callback, EpochState, Watcher
from fastbp.callbacks.checkpoint import Checkpoint
from fastbp.callbacks.layers import LayerStatistics
from fastbp.callbacks.stopping import EarlyStopping, MaxSeconds, StopGradientNorm

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "EpochState",
    "LayerStatistics",
    "MaxSeconds",
    "StopGradientNorm",
    "Watcher",
]
