"""The description of L-BFGS. `fastbp.training.lbfgs` carries it out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fastbp.optimizers.base import BATCH_SIZE, Optimizer
from fastbp.regularization import PLAIN, Regularization
from fastbp.validation import check_non_negative_finite, check_positive_int, later, optional, setting


@dataclass(frozen=True)
class LBFGS(Optimizer):
    """Limited-memory BFGS (Liu and Nocedal 1989), for `MLP.fit` alone: every step takes all rows, in blocks.

    An epoch is one iteration, with a line search in place of a learning rate (`history.lr` is 1); the iterates are
    those of SciPy's L-BFGS-B, but for rounding. It suits small data: with enough iterations it goes further down than
    steps on batches do. Every fit begins with the weights as they are, but without a memory of earlier fits. It ends
    early where it has converged, or where no lower point is found, as happens in single precision;
    `history.stop_reason` tells.

    Attributes
    ----------
    weight_decay : float
        Adds ``weight_decay / 2 * |w|^2`` over weights and biases to the cost; not part of the losses in the history.
        scikit-learn's alpha over the number of rows, but for the biases.
    memory : int
        Pairs of steps and gradient changes that model the curvature.
    gtol : float
        Converged when no element of the gradient is larger than this.
    ftol : float
        Converged when an iteration lowers the cost by less than this, relative to the cost or to 1 if that is larger.
    max_line_search : int
        Evaluations of the cost an iteration.
    max_evaluations : int, optional
        Evaluations of the cost in all: the iteration in which there are more is the last.

    Examples
    --------
    >>> net.fit(X, y, epochs=20, optimizer=fastbp.LBFGS()).loss[-1] < 1.0
    True
    """

    lr: float = field(default=1.0, init=False, repr=False)
    memory: int = setting(10, check_positive_int)
    gtol: float = setting(1e-5, check_non_negative_finite)
    ftol: float = setting(2.2e-9, check_non_negative_finite)
    max_line_search: int = setting(20, check_positive_int)
    max_evaluations: int | None = later(None, optional(check_positive_int))
    clip_norm: float | None = field(default=None, init=False, repr=False)
    clip_value: float | None = field(default=None, init=False, repr=False)

    name = "lbfgs"
    full_batch = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lr_scale is not None:
            raise ValueError(
                f"L-BFGS has no learning rate that factors could apply to: leave lr_scale out, got {self.lr_scale!r}"
            )

    @property
    def n_moments(self) -> int:
        return 0

    def check_step(self) -> None:
        raise ValueError("L-BFGS makes no single steps, for it needs all rows: use net.fit(X, y, optimizer='lbfgs')")

    def check_fit(self, n: int, batch_size: int, schedule: Any, regularization: Regularization = PLAIN) -> None:
        for name in ("l1", "max_norm", "input_noise", "dropout"):
            value = getattr(regularization, name)
            if any(value) if isinstance(value, tuple) else value:
                raise ValueError(
                    f"L-BFGS needs a smooth cost that is the same at every look: {name} must be off, got "
                    f"{value!r}; l2 and weight_decay are fine"
                )
        if schedule is not None:
            raise ValueError(f"L-BFGS finds the lengths of its steps itself; schedule must be None, got {schedule!r}")
        if batch_size < n and batch_size != BATCH_SIZE:
            raise ValueError(f"L-BFGS takes all {n} rows at once; leave batch_size out, got {batch_size}")
