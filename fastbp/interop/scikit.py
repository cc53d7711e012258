"""Networks as scikit-learn's fitted `MLPClassifier` and `MLPRegressor`, and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastbp import activations
from fastbp.history import History
from fastbp.interop.assembly import Assembly, refused
from fastbp.interop.outline import Layer, Outline
from fastbp.io.extras import load
from fastbp.links import EXPONENTIAL, SIGMOID
from fastbp.model import Model
from fastbp.types import Array
from fastbp.validation import listed

# fastbp's name -> scikit-learn's
ACTIVATIONS = {"identity": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}
# Those of fastbp.sklearn's estimators too, which have all of fastbp's activations.
_NAMES = {name: name for name in activations.ACTIVATIONS} | {theirs: ours for ours, theirs in ACTIVATIONS.items()}
_NAMES |= {"softmax": "softmax", "exp": "exponential"}


# --- to scikit-learn ----------------------------------------------------------------------------------------


def estimator_of(outline: Outline, history: History | None) -> Any:
    """The work of `MLP.to_sklearn`."""
    estimators = load("sklearn.neural_network", "scikit-learn's estimators need scikit-learn", "sklearn")
    options = {"hidden_layer_sizes": outline.sizes[1:-1], "activation": _hidden_activation(outline)}
    if outline.layers[-1].activation != "identity":
        raise ValueError(
            f"output_activation={outline.layers[-1].activation!r} is none of scikit-learn's, whose outputs have the "
            "activation that their loss asks for; use net.to_torch() or net.to_onnx(path)"
        )
    outline = outline.folded()
    X = np.zeros((1, outline.sizes[0]), outline.dtype)
    # One step on a row of zeros makes all that a fitted estimator has; then come the parameters.
    if outline.loss.link.classifies:
        classes, layers = _classes(outline)
        made = estimators.MLPClassifier(**options)
        several = outline.loss.link is SIGMOID and outline.sizes[-1] > 1
        y = np.zeros((1, outline.sizes[-1]), np.int64) if several else classes[:1]
        made.partial_fit(X, y, classes=np.arange(len(classes)) if several else classes)
        made.classes_ = classes
    else:
        layers = list(outline.layers)
        if outline.loss.link is EXPONENTIAL:
            options["loss"] = "poisson"
        made = estimators.MLPRegressor(**options)
        made.partial_fit(X, np.zeros((1, outline.sizes[-1]))[:, slice(None) if outline.sizes[-1] > 1 else 0])
    made.coefs_ = [np.array(layer.weight) for layer in layers]
    made.intercepts_ = [np.array(layer.bias) for layer in layers]
    curve = [] if history is None else list(history.loss)
    made.loss_curve_, made.n_iter_, made.t_ = curve, len(curve), 0
    made.loss_, made.best_loss_ = (curve[-1], min(curve)) if curve else (np.inf, np.inf)
    if outline.feature_names is not None:
        made.feature_names_in_ = np.array(outline.feature_names, dtype=object)
    return made


def _hidden_activation(outline: Outline) -> str:
    used = list(dict.fromkeys(layer.activation for layer in outline.layers[:-1]))
    if odd := [name for name in used if name not in ACTIVATIONS]:
        raise ValueError(
            f"activation={odd[0]!r} is none of scikit-learn's, which has those named here {listed(ACTIVATIONS)}; use "
            "net.to_torch() or net.to_onnx(path)"
        )
    if len(used) > 1:
        raise ValueError(
            f"the hidden layers have the activations {listed(used)}, but scikit-learn has one for all of them; use "
            "net.to_torch() or net.to_onnx(path)"
        )
    return ACTIVATIONS[used[0]] if used else "identity"


def _classes(outline: Outline) -> tuple[Array, list[Layer]]:
    """The classes, sorted as scikit-learn has them, and layers whose outputs are in that order; of two one output."""
    link, n_out, *layers = outline.loss.link, outline.sizes[-1], *outline.layers
    labels = outline.class_labels or list(range(link.n_classes(n_out)))
    odd = next((one for one in labels if isinstance(one, float) and not one.is_integer()), None)
    if odd is not None:
        raise ValueError(f"scikit-learn has classes of text or whole numbers, not {odd}; set net.class_labels to such")
    classes, last = np.array(labels), layers[-1]
    if link is SIGMOID and n_out > 1:
        return classes, layers
    order = np.argsort(classes)
    weight, bias = last.weight, last.bias
    if link.one_class and n_out > 2:
        weight, bias = weight[:, order], bias[order]
    elif link.one_class:  # the softmax over two is the sigmoid of their difference
        weight, bias = (one[..., order[1:]] - one[..., order[:1]] for one in (weight, bias))
    elif order[0]:
        weight, bias = -weight, -bias
    layers[-1] = last._replace(weight=weight, bias=bias)
    return classes[order], layers


# --- from scikit-learn --------------------------------------------------------------------------------------


def model_of(estimator: Any) -> tuple[Model, list[str] | None]:
    """The work of `fastbp.from_sklearn`: the network, and the names of its columns."""
    found, names = Assembly(), getattr(estimator, "feature_names_in_", None)
    if hasattr(estimator, "steps"):
        *before, estimator = (one for _, one in estimator.steps)
        for one in before:
            _scale(found, one)
    kind = type(estimator).__name__
    if not hasattr(estimator, "hidden_layer_sizes") or not hasattr(estimator, "activation"):
        raise TypeError(
            f"estimator must be an MLPClassifier or MLPRegressor, or a pipeline that ends with one, got {kind}"
        )
    if not hasattr(estimator, "coefs_"):
        raise ValueError(f"the {kind} is not fitted: call fit first")
    last = len(estimator.coefs_) - 1
    for k, (weight, bias) in enumerate(zip(estimator.coefs_, estimator.intercepts_, strict=True)):
        name = estimator.out_activation_ if k == last else estimator.activation
        found.dense(f"coefs_[{k}]", np.asarray(weight), np.asarray(bias))
        if name not in _NAMES:
            raise refused(f"activation={name!r}", "is unknown to fastbp", f"it takes {listed(_NAMES)}")
        found.activation(f"coefs_[{k}]", _NAMES[name])
    classes = getattr(estimator, "classes_", None)
    labels = None if classes is None else np.asarray(classes).tolist()
    if labels == [False, True] and isinstance(labels[0], bool):
        labels = [0, 1]
    return found.model(None, labels), None if names is None else list(map(str, names))


def _scale(found: Assembly, step: Any) -> None:
    """The standardisation of a `StandardScaler`."""
    kind = type(step).__name__
    if kind != "StandardScaler":
        raise refused(
            f"the step {kind}", "is none that fastbp carries, which is StandardScaler", "give the estimator behind it"
        )
    if not hasattr(step, "n_features_in_"):
        raise ValueError(f"the {kind} is not fitted: call fit first")
    mean = np.zeros(step.n_features_in_) if step.mean_ is None or not step.with_mean else step.mean_
    scale = np.ones(step.n_features_in_) if step.scale_ is None else step.scale_
    found.standardize(kind, mean, scale)
