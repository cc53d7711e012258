"""Networks of other programs as fastbp's: `from_torch`, `from_sklearn` and `from_keras`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastbp.data import columns
from fastbp.interop import keras_layers, scikit, torch_modules
from fastbp.losses import Loss
from fastbp.network import MLP


def from_torch(module: Any, *, loss: str | Loss | None = None, class_labels: Sequence[Any] | None = None) -> MLP:
    """A network of the layers of a PyTorch module, with its parameters.

    Parameters
    ----------
    module : torch.nn.Sequential
        Of Linear, Dropout behind the activation of a hidden layer, and the activations that fastbp has, nested as you
        like; at the end there may be Softmax, LogSoftmax or Sigmoid.
    loss : str or Loss, optional
        As of `MLP`. By default what the end tells: cross_entropy of a softmax, binary_cross_entropy of a sigmoid,
        otherwise mse, with which `predict` returns what the module does. A classifier that ends with logits needs to be
        told: ``loss="cross_entropy"``.
    class_labels : sequence, optional
        Names of the classes.

    Returns
    -------
    MLP
        float64 if a parameter is, else float32; with copies of the parameters.

    Raises
    ------
    ValueError
        The module holds what fastbp cannot carry, such as a BatchNorm1d; it is named.
    ImportError
        PyTorch is not installed.

    Examples
    --------
    >>> import torch
    >>> module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    >>> fastbp.from_torch(module, loss="cross_entropy")
    <fastbp.MLP 4-8-3 relu, cross_entropy, float32, 67 parameters>
    """
    return MLP.of(torch_modules.model_of(module, loss, None if class_labels is None else list(class_labels)))


def from_sklearn(estimator: Any) -> MLP:
    """A network of the parameters of scikit-learn's fitted MLPClassifier or MLPRegressor, with its classes.

    Parameters
    ----------
    estimator : MLPClassifier, MLPRegressor or Pipeline
        A pipeline may have a StandardScaler before it, which becomes the network's `scaling`.

    Returns
    -------
    MLP
        In the dtype of the coefficients, with `class_labels` and the names of the columns. Classes False and True are
        0 and 1. Penalties and the solver's state are left out.

    Raises
    ------
    ValueError
        It is not fitted, or its pipeline holds what fastbp cannot carry, which is named.

    Examples
    --------
    >>> from sklearn.neural_network import MLPClassifier
    >>> fastbp.from_sklearn(MLPClassifier((8,), tol=0.1, random_state=0).fit(X, y))
    <fastbp.MLP 4-8-3 relu, cross_entropy, float64, 67 parameters>
    """
    model, names = scikit.model_of(estimator)
    net = MLP.of(model)
    vars(net)["feature_names"] = columns.check(names, net.sizes[0])
    return net


def from_keras(model: Any, *, loss: str | Loss | None = None, class_labels: Sequence[Any] | None = None) -> MLP:
    """A network of the layers of a dense model of Keras 3, with its weights.

    Parameters
    ----------
    model : path-like, or keras.Model
        A `.keras` file, which is read without Keras (extra `keras`: h5py); or a model in memory. Of Dense, Dropout and
        the activations that fastbp has, as layers or by name; before them Normalization or Rescaling, which become
        the network's `scaling`; Sequential, or functional with layers in a row.
    loss : str or Loss, optional
        As of `MLP`. By default what the end tells: cross_entropy of a softmax, binary_cross_entropy of a sigmoid,
        poisson of an exponential; otherwise what the model was compiled with, where fastbp has it, or mse.
    class_labels : sequence, optional
        Names of the classes.

    Returns
    -------
    MLP
        Penalties and the optimiser's state are left out.

    Raises
    ------
    ValueError
        The file is damaged or no such file, or holds what fastbp cannot carry, such as BatchNormalization; it is named.
    ImportError
        h5py is not installed.

    Examples
    --------
    >>> net = fastbp.from_keras("model.keras", class_labels=["cat", "dog", "bird"])  # doctest: +SKIP
    """
    return MLP.of(keras_layers.model_of(model, loss, None if class_labels is None else list(class_labels)))
