"""What the docstrings of both estimators share: the parameters and the attributes, each described once."""

from __future__ import annotations

import textwrap
from typing import TypeVar

T = TypeVar("T", bound=type)

_PARAMETERS = """
hidden_layer_sizes : int or array-like, default=(100,)
    Units of each hidden layer.
activation : str, default="relu"
    Of the hidden layers: "identity", "logistic", "tanh", "relu", or another of fastbp's, such as "gelu".
solver : {"adam", "sgd", "lbfgs"}, default="adam"
    Adam, stochastic gradient descent, or L-BFGS on all rows at once (the iterates of SciPy's, but for rounding): best
    for small data.
alpha : float, default=1e-4
    The penalty alpha / 2 times the squares of all weights, over the rows of the batch, or the sum of their weights.
batch_size : int or "auto", default="auto"
    Rows a step; "auto": 200, or all if there are fewer.
learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
    Of "sgd": ``learning_rate_init``; that over ``(t_ + 1) ** power_t`` from the second epoch on; or divided by 5
    instead of stopping, until it is 1e-6.
learning_rate_init : float, default=0.001
    Of "sgd" and "adam".
power_t : float, default=0.5
    Of "invscaling".
max_iter : int, default=200
    Epochs, or iterations of "lbfgs".
shuffle : bool, default=True
    Take the rows in a new order in every epoch.
random_state : int, RandomState or None
    Of the initial weights, the rows held out and the orders of the rows, all drawn as scikit-learn draws them: the same
    random state gives the same network, but for rounding.
tol : float, default=1e-4
    The least improvement of the loss, or of the score of the rows held out; for "lbfgs", the largest element of the
    gradient at which it has converged.
verbose : bool or int, default=False
    Print the loss of every epoch.
warm_start : bool, default=False
    Let `fit` go on from the weights that there are.
momentum, nesterovs_momentum : float, bool, default=0.9, True
    Of "sgd". Momentum gathers steps, each by the learning rate of its time.
early_stopping : bool, default=False
    Hold `validation_fraction` of the rows out, stop by their score, and go back to the best weights. For two classes
    the split is stratified; for more it is not, as in scikit-learn itself.
validation_fraction : float, default=0.1
    See `early_stopping`.
beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
    Of "adam".
n_iter_no_change : int or inf, default=10
    Epochs in a row without an improvement that are allowed.
max_fun : int, default=15000
    Evaluations of the cost by "lbfgs".
"""
_OURS = """
dropout : float or list of float, default=0
    Chance that a unit of a hidden layer is dropped in a step: one for all layers, or one each.
optimizer : str or Optimizer, optional
    One of fastbp's, such as ``fastbp.AdamW(lr=0.01)``, in the place of "sgd" or "adam" and their rates.
schedule : Schedule or callable, optional
    One of ``fastbp.schedules``, in the place of `learning_rate`.
eval_set : tuple (X, y) or (X, y, sample_weight), optional
    Scored after every epoch into `eval_losses_` and `eval_scores_`. It does not change the training.
callbacks : sequence, default=()
    Called after every epoch, such as ``fastbp.MaxSeconds(60)``.
threads : int, optional
    At most so many; by default, what is fastest. Within a worker of joblib, no more than its share of the CPUs.
dtype : {{"float64", "float32"}}, optional
    Of weights and arithmetic; by default that of X.
precision : {{"float32", "bfloat16"}}, default="float32"
    "bfloat16", of "sgd" and "adam" in float32: each operand of a product is rounded to bfloat16 while they train.
"""
_ATTRIBUTES = """
coefs_, intercepts_ : list of ndarray
    Weights ``(n_in, n_out)`` and biases ``(n_out,)`` of each layer. They may be written to.
loss_ : float
    The last loss, penalty included.
loss_curve_ : list of float
    That of every epoch of "sgd" and "adam".
best_loss_ : float or None
    The smallest of them; None with `early_stopping`.
validation_scores_, best_validation_score_ : list of float, float, or None
    Of the rows held out by `early_stopping`.
eval_losses_, eval_scores_ : list of float
    Of `eval_set`, if there is one.
n_iter_ : int
    Epochs or iterations of the last `fit`.
t_ : int
    Rows seen by all steps.
n_layers_, n_outputs_ : int
    Layers, inputs and outputs included, and outputs.
out_activation_ : str
    "identity", "exp", "logistic" or "softmax".
n_features_in_ : int
    Columns of X.
feature_names_in_ : ndarray of str
    Their names, if X was a data frame whose columns are all named by text.
"""


def _indented(text: str) -> str:
    return textwrap.indent(text.strip(), "    ").strip()


def documented(cls: T) -> T:
    """Put the shared parts into the docstring of an estimator."""
    assert cls.__doc__ is not None
    parts = {"parameters": _PARAMETERS, "ours": _OURS, "attributes": "Attributes\n----------\n" + _ATTRIBUTES.strip()}
    text = cls.__doc__
    for name, part in parts.items():
        text = text.replace(f"{{{name}}}", _indented(part.replace("{{", "{").replace("}}", "}")))
    cls.__doc__ = text
    return cls
