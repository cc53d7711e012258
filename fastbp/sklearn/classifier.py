"""`MLPClassifier`: scikit-learn's, by name and meaning."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels

from fastbp.losses import Loss
from fastbp.sklearn import costs
from fastbp.sklearn.base import BaseMLP
from fastbp.sklearn.doc import documented
from fastbp.types import Array


@documented
class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]
    """A multi-layer perceptron that classifies: `sklearn.neural_network.MLPClassifier`, trained by fastbp.

    Parameters
    ----------
    {parameters}
    loss : str or Loss, default="log_loss"
        Or one of fastbp's losses of classes: ``"focal"``, ``fastbp.CrossEntropy(label_smoothing=0.1)``.
    class_weight : dict or "balanced", optional
        How much rows count by their class, as scikit-learn has it elsewhere; "balanced" is not for `partial_fit`.
    {ours}

    {attributes}
    classes_ : ndarray, (n_classes,)
        The classes, or the numbers of the labels.

    Examples
    --------
    >>> from fastbp.sklearn import MLPClassifier
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> MLPClassifier(solver="lbfgs", random_state=0).fit(X, y).score(X, y) > 0.95
    True
    """

    _numeric = False
    classes_: Array

    def __init__(
        self,
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
        loss: Any = "log_loss",
        class_weight: Any = None,
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
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """One epoch over these rows, from the weights that there are.

        Parameters
        ----------
        X, y, sample_weight : array-like
            See `fit`.
        classes : array-like, (n_classes,)
            All classes that will ever come; the first call needs them.

        Returns
        -------
        self : object
        """
        known = hasattr(self, "classes_")
        if classes is None and not known:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if classes is not None:
            given = unique_labels(classes)
            if known and not np.array_equal(self.classes_, given):
                raise ValueError(
                    f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {self.classes_!r}"
                )
            self.classes_ = given
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def _check_targets(self, y: Array, *, keep: bool) -> Array:
        """y as an array whose classes are known: of one column, or of one for each label."""
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        if y.ndim == 2 and type_of_target(y, input_name="y") != "multilabel-indicator":
            raise ValueError(
                "Multioutput target data is not supported: y must hold one class a row, or 0 and 1 by label"
            )
        if y.ndim == 1 and y.dtype.kind not in "iubUS":  # others are classes for sure
            check_classification_targets(y)
        found = np.arange(y.shape[1]) if y.ndim == 2 else np.unique(y)
        if not (keep and hasattr(self, "classes_")):
            self.classes_ = found
        elif self.warm_start and set(found) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. Previously "
                f"got {self.classes_}, `y` has {found}"
            )
        elif np.setdiff1d(found, self.classes_).size:
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {found}."
            )
        return y

    def _loss(self) -> Loss:
        """The cost of the network that there is."""
        several = self.out_activation_ == "logistic" and self.n_outputs_ > 1
        return costs.of_classifier(self.loss, len(self.classes_), multilabel=several)[0]

    def _targets(self, y: Array, dtype: np.dtype[Any]) -> tuple[Loss, int, Array]:
        """The cost, the number of outputs, and y in the form that kernels read."""
        loss, n_out = costs.of_classifier(self.loss, len(self.classes_), multilabel=y.ndim == 2)
        if y.ndim == 2:
            return loss, n_out, np.ascontiguousarray(y, dtype)
        codes = np.searchsorted(self.classes_, y)
        if loss.link.one_class:
            return loss, n_out, np.ascontiguousarray(codes, np.int64)
        return loss, n_out, codes.astype(dtype)[:, None]

    def _weights(self, X: Array, y: Array, sample_weight: Any, *, incremental: bool) -> Array | None:
        weights = super()._weights(X, y, sample_weight, incremental=incremental)
        if self.class_weight is None:
            return weights
        if incremental and isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight={self.class_weight!r} needs all rows, partial_fit has some: give the weights as a dict"
            )
        factors = compute_sample_weight(self.class_weight, y)
        return factors if weights is None else np.ascontiguousarray(factors * weights)

    def predict(self, X: Any) -> Array:
        """The class of each row, ``(n_samples,)``; of several labels, 0 or 1 for each, ``(n_samples, n_labels)``."""
        outputs = self._outputs(X)
        if self.out_activation_ == "softmax":
            found: Array = self.classes_[outputs.argmax(axis=1)]
            return found
        if self.n_outputs_ > 1:
            return (outputs > 0).astype(np.int64)
        yes = (outputs[:, 0] > 0) & (len(self.classes_) > 1)
        taken: Array = self.classes_[yes.astype(np.int64)]
        return taken

    def predict_proba(self, X: Any) -> Array:
        """The probability of each class, ``(n_samples, n_classes)``, or of each label."""
        outputs = self._outputs(X)
        if self.out_activation_ != "softmax" and self.n_outputs_ == 1:
            yes = self._network().loss.link.probabilities(outputs)
            return np.stack([1 - yes, yes], axis=1)
        return self._network().loss.link.probabilities(outputs)

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithm of `predict_proba`."""
        with np.errstate(divide="ignore"):
            found: Array = np.log(self.predict_proba(X))
        return found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
