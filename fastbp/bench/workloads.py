"""The workloads that every timing in this project refers to: shapes, task, optimiser, synthetic data, flop counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastbp import initializers
from fastbp.validation import check_choice

if TYPE_CHECKING:
    from fastbp.optimizers import Optimizer

Array = NDArray[Any]

#: The learning rates of a sweep, of which none diverges on the workloads below, and its epochs.
SWEEP_RATES, SWEEP_EPOCHS = np.geomspace(1e-3, 1e-1, 32), 5


@dataclass(frozen=True)
class Workload:
    """One training task, as plain data, so that it goes into the JSON document as it stands.

    Parameters
    ----------
    name : str
        What the command line calls it.
    sizes : tuple of int
        Layer widths, input first, output last.
    batch_size : int
        Rows in a step. `n_samples` is a multiple of it, so that a step is the same work for every rival
        (JAX would compile a short last batch as a program of its own).
    n_samples : int
        Rows in an epoch.
    activation : str, default "relu"
        Activation of the hidden layers; the output layer is linear.
    loss : str, default "cross_entropy"
        Any of fastbp's; peers are measured with "cross_entropy" (integer classes) and "mse" (real targets).
    optimizer : str, default "sgd"
        "sgd" (no momentum) or "adam" (PyTorch's defaults apart from `lr`); "momentum" (0.9) for fastbp and NumPy alone;
        any other of fastbp's for its profile.
    lr : float, default 0.01
        Learning rate.
    dtype : str, default "float32"
        "float32" or "float64".
    seed : int, default 0
        Seed of the data and of the initial weights.
    task : str, default "train"
        "train"; "predict": a step is then one call of the forward pass over `batch_size` rows; or "sweep": one training
        at each of `SWEEP_RATES`, each of `SWEEP_EPOCHS` epochs.
    """

    name: str
    sizes: tuple[int, ...]
    batch_size: int
    n_samples: int
    activation: str = "relu"
    loss: str = "cross_entropy"
    optimizer: str = "sgd"
    lr: float = 0.01
    dtype: str = "float32"
    seed: int = 0
    task: str = "train"

    def __post_init__(self) -> None:
        if self.n_samples < 1 or self.n_samples % self.batch_size:
            expected = f"a positive multiple of batch_size {self.batch_size}"
            raise ValueError(f"n_samples must be {expected}, got {self.n_samples}")

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one pass over the rows; of a sweep, in all of its trainings."""
        steps = self.n_samples // self.batch_size
        return steps * SWEEP_EPOCHS * len(SWEEP_RATES) if self.task == "sweep" else steps

    @property
    def flops_forward(self) -> int:
        """Flops of the forward products of one step: 2 B sum(n_in n_out)."""
        return 2 * self.batch_size * sum(n_in * n_out for n_in, n_out in pairwise(self.sizes))

    @property
    def flops_weight_gradient(self) -> int:
        """Flops of the weight gradients A^T delta of one step: as many as forward."""
        return self.flops_forward

    @property
    def flops_delta(self) -> int:
        """Flops of the products delta W^T of one step; the first layer has none, nobody asks for dJ/dX."""
        return 2 * self.batch_size * sum(n_in * n_out for n_in, n_out in pairwise(self.sizes[1:]))

    @property
    def flops_per_step(self) -> int:
        """Real flops of the matrix products of one step: no padding, no activations, no optimiser."""
        if self.task == "predict":
            return self.flops_forward
        return self.flops_forward + self.flops_weight_gradient + self.flops_delta

    def data(self) -> tuple[Array, Array]:
        """Synthetic rows with something to learn and enough noise that the loss never reaches zero.

        Returns
        -------
        X : (n_samples, n_in) array of `dtype`
        y : (n_samples,) int64 classes, or (n_samples, n_out) array of `dtype`, of the kind that the loss takes
            Classes are the largest of a random linear map plus Gumbel noise. A loss that went to zero would fill the
            gradients with subnormal numbers and time those instead of the training.
        """
        rng = np.random.default_rng([self.seed, 1])
        n_in, n_out = self.sizes[0], self.sizes[-1]
        X = rng.standard_normal((self.n_samples, n_in), dtype=np.float32)
        teacher = rng.standard_normal((n_in, n_out), dtype=np.float32) / np.float32(np.sqrt(n_in))
        scores = X @ teacher
        from fastbp import losses

        target = losses.LOSSES[self.loss].link.target
        if target == "classes":
            classes = np.argmax(3.0 * scores + rng.gumbel(size=scores.shape), axis=1).astype(np.int64)
            if self.task != "predict":  # every class occurs: scikit-learn counts the outputs by the labels it sees
                classes[rng.choice(self.n_samples, n_out, replace=False)] = np.arange(n_out)
            return X.astype(self.dtype, copy=False), classes
        y: Array = np.tanh(scores) + np.float32(0.1) * rng.standard_normal(scores.shape, dtype=np.float32)
        if target != "real":  # as its sign, or as the logarithm of a rate
            y = rng.poisson(np.exp(y)) if target == "counts" else y > 0.0
        return X.astype(self.dtype, copy=False), y.astype(self.dtype, copy=False)

    def initial_weights(self) -> tuple[list[Array], list[Array]]:
        """The weights and biases every rival starts from: the library's own initialisation by `seed`."""
        activations = [self.activation] * (len(self.sizes) - 2) + ["identity"]
        weights, biases = initializers.initial_weights(self.sizes, activations, None, self.seed, self.dtype)
        return list(weights), list(biases)

    def make_optimizer(self) -> Optimizer:
        """The optimiser description that `MLP.fit` and `NumpyMLP.fit` take."""
        from fastbp import optimizers

        if self.optimizer == "momentum":
            return optimizers.SGD(lr=self.lr, momentum=0.9)
        found = optimizers.get(self.optimizer)
        found.check_step()
        return replace(found, lr=self.lr)


_ROWS = 100_000
# All there is to say of a workload: a new one is a line here.
_TABLE = (
    Workload("tiny", (4, 16, 3), 16, 1_600),
    Workload("digits", (64, 64, 10), 32, 1_792),
    Workload("digits-deep", (64, 128, 64, 10), 64, 1_792),
    Workload("mnist", (784, 128, 10), 128, 12_800),
    Workload("mnist-deep", (784, 256, 128, 10), 128, 12_800),
    Workload("large", (784, 1024, 1024, 10), 512, 1_024),
    Workload("online", (20, 40, 4), 1, 2_000),
    Workload("rl", (8, 64, 64, 2), 256, 10_240, activation="tanh", loss="mse", optimizer="adam", lr=1e-3),
    Workload("simplechains", (4, 32, 16, 4), 10_000, 10_000, activation="tanh", loss="mse", optimizer="adam", lr=1e-3),
    Workload("predict-row", (64, 64, 10), 1, 1, task="predict"),
    Workload("predict-64", (64, 64, 10), _ROWS, _ROWS, task="predict"),
    Workload("predict-128", (128, 128, 10), _ROWS, _ROWS, task="predict"),
    Workload("predict-784", (784, 128, 10), _ROWS, _ROWS, task="predict"),
    # Rows of `digits`; batches are whole, or JAX would compile the last one on its own.
    Workload("sweep 64-64-10", (64, 64, 10), 32, 1_792, task="sweep"),
    Workload("sweep 64-256-128-10", (64, 256, 128, 10), 64, 1_792, task="sweep"),
    Workload("sweep 64-64-10 tanh", (64, 64, 10), 32, 1_792, activation="tanh", task="sweep"),
)


# Shapes that nothing here was tuned on: what holds on the table above should hold on these.
_HELD = (
    Workload("held-regression", (512, 2000, 1), 128, 2_560, loss="mse", lr=1e-3),
    Workload("held-narrow", (16, 12, 12, 12, 12, 12, 12, 12, 4), 64, 6_400),
    Workload("held-sigmoid", (100, 300, 100, 10), 200, 10_000, activation="sigmoid", lr=0.1),
    Workload("held-45", (45, 45, 45, 10), 64, 6_400),
    Workload("held-46", (46, 46, 46, 10), 64, 6_400),
    Workload("held-wide", (1000, 1536, 1536, 100), 256, 1_024),
)


# What products in bfloat16 are measured on, beside some of the others.
_LOW = (Workload("wide", (1000, 1536, 1536, 100), 768, 1_536),)


def _by_name(workloads: Iterable[Workload]) -> dict[str, Workload]:
    return {workload.name: workload for workload in workloads}


#: Name -> workload, in the order of the report: trainings; inference, one row as Python calls it, and many; sweeps; and
#: trainings of other shapes.
WORKLOADS, PREDICTIONS, SWEEPS = (
    _by_name(workload for workload in _TABLE if workload.task == task) for task in ("train", "predict", "sweep")
)
HELD = _by_name(_HELD)
LOW = _by_name(
    one for one in (*_TABLE, *_HELD, *_LOW) if one.name in ("mnist", "mnist-deep", "large", "held-regression", "wide")
)
#: Names for several at once. What they stand for runs only if it is named.
GROUPS = {"sweep": SWEEPS, "held": HELD, "bfloat16": LOW}
#: What the command line calls workloads by.
NAMES = (*WORKLOADS, *PREDICTIONS, *HELD, *_by_name(_LOW), *GROUPS)


def select(names: Sequence[str] | None) -> list[Workload]:
    """The workloads of these names, in the order of the tables; for None or nothing all but `GROUPS`.

    Raises
    ------
    ValueError
        A name that is not in a table.
    """
    chosen = {check_choice("workload", name, [*NAMES, *SWEEPS]) for name in names or (*WORKLOADS, *PREDICTIONS)}
    for group, members in GROUPS.items():
        chosen |= set(members) if group in chosen else set()
    return [one for one in (*_TABLE, *_HELD, *_LOW) if one.name in chosen]
