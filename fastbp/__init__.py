"""fastbp: backpropagation and gradient descent for feed-forward networks, compiled for the CPU."""

from fastbp import datasets, reference
from fastbp._version import __version__
from fastbp.activations import Activation
from fastbp.errors import DivergenceError
from fastbp.gradients import check_gradients
from fastbp.info import warmup
from fastbp.losses import MAE, MSE, BinaryCrossEntropy, CrossEntropy, Huber, Poisson
from fastbp.network import MLP, Gradient, Scaling
from fastbp.optimizers import SGD, Adam, AdamW, RMSprop
from fastbp.serialization import load_model as load
from fastbp.training import History

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
    "Gradient",
    "History",
    "Huber",
    "Poisson",
    "RMSprop",
    "Scaling",
    "__version__",
    "check_gradients",
    "datasets",
    "load",
    "reference",
    "warmup",
]
