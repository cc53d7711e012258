"""`MLPRegressor`: scikit-learn's, by name and meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if

from fastbp.losses import Loss
from fastbp.sklearn import costs
from fastbp.sklearn.base import BaseMLP
from fastbp.sklearn.doc import documented
from fastbp.types import Array


@documented
class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    """A multi-layer perceptron for numbers: `sklearn.neural_network.MLPRegressor`, trained by fastbp.

    Parameters
    ----------
    loss : str or Loss, default="squared_error"
        "squared_error" and "poisson" (for y of at least 0, with the exponential as output activation) are
        scikit-learn's. Or one of fastbp's losses of real targets: ``"mae"``, ``"huber"``,
        ``fastbp.Quantile(quantile=0.9)``; these are means over the outputs.
    {parameters}
    {ours}

    {attributes}

    Examples
    --------
    >>> from fastbp.sklearn import MLPRegressor
    >>> from sklearn.datasets import make_regression
    >>> X, y = make_regression(n_samples=200, n_features=20, random_state=1)
    >>> MLPRegressor(random_state=1, max_iter=2000, tol=0.1).fit(X, y).score(X, y) > 0.98
    True
    """

    _numeric = True

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        optimizer: Any = None,
        schedule: Any = None,
        eval_set: Any = None,
        callbacks: Any = (),
        threads: int | None = None,
        dtype: Any = None,
        precision: str = "float32",
    ) -> None:
        self._hold(locals())

    @available_if(lambda self: self._check_solver())  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """One epoch over these rows, from the weights that there are; see `fit`."""
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def _check_targets(self, y: Array, *, keep: bool) -> Array:
        """y as numbers, of one column or of several."""
        return column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _loss(self) -> Loss:
        return costs.of_regressor(self.loss)

    def _targets(self, y: Array, dtype: np.dtype[Any]) -> tuple[Loss, int, Array]:
        """The cost, the number of outputs, and y in the form that kernels read."""
        loss, columns = self._loss(), np.ascontiguousarray(y[:, None] if y.ndim == 1 else y, dtype)
        if loss.target == "counts" and columns.min() < 0.0:
            raise ValueError(f"loss={self.loss!r} needs y of at least 0, got {columns.min():g}")
        return loss, columns.shape[1], columns

    def predict(self, X: Any) -> Array:
        """The number for each row, ``(n_samples,)``, or ``(n_samples, n_outputs)``."""
        outputs = self._outputs(X)
        found = self._network().loss.link.predictions(outputs)
        return found[:, 0] if self.n_outputs_ == 1 else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
