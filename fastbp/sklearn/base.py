"""What both estimators share: parameters, attributes, and the way from an estimator to a network and back."""

from __future__ import annotations

import itertools
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastbp import numerics
from fastbp.activations import ACTIVATIONS
from fastbp.engine import precisions
from fastbp.losses import Loss
from fastbp.model import Model
from fastbp.network import MLP
from fastbp.optimizers import Optimizer
from fastbp.sklearn import descent, rows
from fastbp.spec import NetworkSpec, Samples
from fastbp.types import Array

SPARSE = ["csr", "csc"]
FLOATS = np.float64, np.float32
OF_SKLEARN = {"logistic": "sigmoid"}  # what has another name there


class Prepared(NamedTuple):
    """What a fit needs."""

    net: MLP
    samples: Samples
    held_out: Samples | None  # of `eval_set`
    rng: np.random.RandomState


class BaseMLP(BaseEstimator):  # type: ignore[misc]
    """A multi-layer perceptron as scikit-learn has it, trained by fastbp; see `MLPClassifier` and `MLPRegressor`."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"identity", "logistic", "tanh", "relu", *ACTIVATIONS})],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "loss": [str, Loss],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "optimizer": [str, Optimizer, None],
        "schedule": "no_validation",
        "eval_set": [tuple, list, None],
        "callbacks": ["array-like"],
        "threads": [Interval(Integral, 1, None, closed="left"), None],
        "dtype": "no_validation",
        "precision": [StrOptions(set(precisions.NAMES))],
    }

    def _hold(self, given: dict[str, Any]) -> None:
        """Keep the arguments of the constructor as they are, as scikit-learn wants it."""
        for name, value in given.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    coefs_: list[Array]
    intercepts_: list[Array]
    _held: list[Array]  # the parameters of the network at hand, as read-only copies

    # --- training -------------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train on X and y, from new weights on; with `warm_start` from those that there are.

        Parameters
        ----------
        X : array-like or sparse matrix, (n_samples, n_features)
            float64 and float32 are read in place; sparse matrices become dense, within half of the memory.
        y : array-like, (n_samples,) or (n_samples, n_outputs)
            Classes, one 0 or 1 for each label, or numbers.
        sample_weight : array-like, (n_samples,), optional
            How much each row counts.

        Returns
        -------
        self : object
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @numerics.own
    def _fit(self, X: Any, y: Any, sample_weight: Any, *, incremental: bool) -> Any:
        net, samples, held_out, rng = self._prepare(X, y, sample_weight, incremental=incremental)
        if self.solver == "lbfgs":
            descent.by_lbfgs(self, net, samples, held_out)
        else:
            descent.by_steps(self, net, samples, held_out, rng, incremental=incremental)
        self._take(net)
        return self

    def _prepare(self, X: Any, y: Any, sample_weight: Any, *, incremental: bool) -> Prepared:
        """Check all, and have the network to train."""
        self._validate_params()
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        hidden = _hidden_sizes(self.hidden_layer_sizes)
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = validate_data(
            self, X, y, accept_sparse=SPARSE, multi_output=True, y_numeric=self._numeric, dtype=FLOATS, reset=first
        )
        X, y = (
            rows.dense(X),
            self._check_targets(y.toarray() if rows.is_sparse(y) else y, keep=self.warm_start or incremental),
        )
        dtype = np.dtype(X.dtype if self.dtype is None else self.dtype) if first else self.coefs_[0].dtype
        precisions.check(self.precision, dtype)
        loss, n_out, targets = self._targets(y, dtype)
        if not first and n_out != self.n_outputs_:
            raise ValueError(f"y asks for {n_out} outputs, but the network has {self.n_outputs_}")
        weights = self._weights(X, y, sample_weight, incremental=incremental)
        held_out = self._eval_samples(loss, n_out, dtype)
        rng = check_random_state(self.random_state)
        if first:
            self._begin(loss, [X.shape[1], *hidden, n_out], dtype, rng)
        net = self._network(self._spec(loss, dtype))
        return Prepared(net, Samples(X, targets, weights), held_out, rng)

    def _weights(self, X: Array, y: Array, sample_weight: Any, *, incremental: bool) -> Array | None:
        """Of the rows, as kernels read them."""
        if sample_weight is None:
            return None
        found: Array = np.ascontiguousarray(_check_sample_weight(sample_weight, X, dtype=np.float64))
        if not found.sum() > 0.0:
            raise ValueError("sample_weight must have a positive sum: with these weights no row counts")
        return found

    def _eval_samples(self, loss: Loss, n_out: int, dtype: np.dtype[Any]) -> Samples | None:
        """The rows of `eval_set`, if there are any."""
        if self.eval_set is None:
            return None
        if len(self.eval_set) not in (2, 3):
            raise ValueError(f"eval_set must be (X, y) or (X, y, sample_weight), got {len(self.eval_set)} parts")
        X, y, *given = self.eval_set
        X, y = validate_data(
            self, X, y, accept_sparse=SPARSE, multi_output=True, y_numeric=self._numeric, dtype=FLOATS, reset=False,
            skip_check_array=False,
        )  # fmt: skip
        _, found, targets = self._targets(self._check_targets(y, keep=True), dtype)
        if found != n_out:
            raise ValueError(f"eval_set has {found} outputs, but y has {n_out}")
        weights = None if not given else np.ascontiguousarray(_check_sample_weight(given[0], X, dtype=np.float64))
        return Samples(rows.dense(X), targets, weights)

    def _begin(self, loss: Loss, sizes: list[int], dtype: np.dtype[Any], rng: np.random.RandomState) -> None:
        """New weights, drawn as scikit-learn draws them, and none of the marks of earlier fits."""
        factor = 2.0 if self.activation in ("logistic", "sigmoid") else 6.0
        self.coefs_, self.intercepts_ = [], []
        for n_in, n_out in itertools.pairwise(sizes):
            bound = np.sqrt(factor / (n_in + n_out))
            self.coefs_.append(rng.uniform(-bound, bound, (n_in, n_out)).astype(dtype, copy=False))
            self.intercepts_.append(rng.uniform(-bound, bound, n_out).astype(dtype, copy=False))
        self.n_iter_ = self.t_ = 0
        self.n_layers_, self.n_outputs_ = len(sizes), sizes[-1]
        self.out_activation_ = {"one class": "softmax", "binary": "logistic", "counts": "exp"}.get(
            "one class" if loss.link.one_class else loss.target, "identity"
        )
        for name in ("_network_at_hand", "_optimizer", "_moments"):
            self.__dict__.pop(name, None)
        if self.solver != "lbfgs":
            self.loss_curve_: list[float] = []
            self._no_improvement_count = 0
            self.best_loss_ = None if self.early_stopping else np.inf
            self.validation_scores_: list[float] | None = [] if self.early_stopping else None
            self.best_validation_score_ = -np.inf if self.early_stopping else None
        if self.eval_set is not None:
            self.eval_losses_: list[float] = []
            self.eval_scores_: list[float] = []

    def _spec(self, loss: Loss, dtype: np.dtype[Any]) -> NetworkSpec:
        """The network that the parameters describe, around the weights that there are."""
        sizes = [self.coefs_[0].shape[0], *(len(bias) for bias in self.intercepts_)]
        activation: str = OF_SKLEARN.get(self.activation) or self.activation
        return NetworkSpec.check(sizes, activation=activation, loss=loss, dropout=self.dropout, dtype=dtype, seed=0)

    def _network(self, spec: NetworkSpec | None = None) -> MLP:
        """The network, with the weights that `coefs_` and `intercepts_` hold now."""
        net: MLP | None = vars(self).get("_network_at_hand")
        given = [*self.coefs_, *self.intercepts_]
        if net is None or (spec is not None and net.session.spec.with_seed(0) != spec):
            if spec is None:
                spec = self._spec(self._loss(), np.asarray(self.coefs_[0]).dtype)
            net = MLP.of(Model(spec, self.coefs_, self.intercepts_, optimizer=self.__dict__.pop("_moments", None)))
        elif not all(mine is its or np.array_equal(mine, its) for mine, its in zip(given, self._held, strict=True)):
            net.set_weights(self.coefs_, self.intercepts_)
        else:
            return net
        self._network_at_hand, self._held = net, [*net.weights, *net.biases]
        return net

    def _take(self, net: MLP) -> None:
        """Show the weights of a trained network as attributes: copies that may be written to."""
        weights, biases = net.weights, net.biases
        if not all(np.isfinite(one).all() for one in (*weights, *biases)):
            raise ValueError(descent.NOT_FINITE)
        self._held = [*weights, *biases]
        self.coefs_, self.intercepts_ = [one.copy() for one in weights], [one.copy() for one in biases]

    # --- outputs --------------------------------------------------------------------------------------------

    def _outputs(self, X: Any) -> Array:
        """What the network puts out for checked rows, before its link: ``(n, n_outputs_)``."""
        check_is_fitted(self, "coefs_")
        X = validate_data(self, X, accept_sparse=SPARSE, reset=False)
        net = self._network()
        return np.concatenate([net.forward(some) for some in rows.chunks(X)]) if rows.is_sparse(X) else net.forward(X)

    # --- as scikit-learn asks -------------------------------------------------------------------------------

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError("partial_fit is for the solvers 'sgd' and 'adam': 'lbfgs' needs all rows at once")
        return True

    def __getstate__(self) -> dict[str, Any]:
        """Without the network, which is made anew from the weights; its moments are kept."""
        state: dict[str, Any] = dict(super().__getstate__())
        net = state.pop("_network_at_hand", None)
        state.pop("_held", None)
        if net is not None:
            state["_moments"] = net.session.optimizer_state()
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def prepared(est: BaseMLP, X: Any, y: Any, sample_weight: Any) -> Prepared:
    """What a fit of an estimator from new weights on needs; `finished` ends it."""
    return est._prepare(X, y, sample_weight, incremental=False)


def finished(est: BaseMLP, net: MLP) -> None:
    """Show the weights of a trained network."""
    est._take(net)


def _hidden_sizes(given: Any) -> list[int]:
    found = list(given) if hasattr(given, "__iter__") else [given]
    if any(n <= 0 for n in found):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {found}.")
    return found
