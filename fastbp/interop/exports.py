"""`Exports`: the methods by which a network becomes a file or an object of other programs."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from fastbp.engine.session import Session
from fastbp.history import History
from fastbp.interop import c_source, onnx_network, scikit, torch_modules
from fastbp.interop.outline import Outline
from fastbp.io.files import PathLike
from fastbp.validation import check_dtype, check_flag


class Exports:
    """What `MLP` inherits."""

    session: Session
    history: History | None
    feature_names: list[str] | None

    def to_onnx(self, path: PathLike, *, input_dtype: npt.DTypeLike | None = None) -> None:
        """Write the network as an ONNX file (extra `onnx`), its standardisation and link included.

        The input is ``X``, ``(rows, n_in)``. The outputs are ``prediction``, as `predict` returns it; of classifiers
        also ``probabilities``, as `predict_proba`, and ``label``, where `class_labels` names the classes of a row. All
        by operators of opset 17; activations that ONNX lacks are written out. The entry ``fastbp`` of the metadata is
        JSON with the loss, the class labels and the names of the columns.

        Parameters
        ----------
        path : path-like
        input_dtype : {"float32", "float64"}, optional
            Of X; by default that of the network, but float64 where a mean of `scaling` is more than 1,000 times its
            scale, as of time stamps, whose digits a float32 has not.

        Raises
        ------
        ImportError
            onnx is not installed.
        ValueError
            The network is larger than the 2 GB of an ONNX file.
        """
        onnx_network.write(self._outline(), path, input_dtype)

    def to_c(self, path: PathLike, *, name: str = "net", dtype: npt.DTypeLike | None = None) -> None:
        """Write the network as one file of C99, its standardisation and link included, which needs only <math.h>.

        The comment at its top tells the functions, for one row at a time: ``NAME_forward`` and, by the kind of network,
        ``NAME_predict``, or ``NAME_probabilities`` and ``NAME_class``; class labels and the names of columns are
        texts in it. Results are within ``4 sqrt(n_in)`` units in the last place of what exact arithmetic gives, by
        the size of the terms that are summed.

        Parameters
        ----------
        path : path-like
        name : str
            With which all names of the file begin.
        dtype : {"float32", "float64"}, optional
            Of the arithmetic: float or double; by default that of the network.

        Raises
        ------
        ValueError
            `name` is no name of C, or a class or column has a name of more than 1,000 bytes.
        """
        c_source.write(self._outline(None if dtype is None else check_dtype(dtype)), path, name)

    def to_torch(self, *, probabilities: bool = False) -> Any:
        """The network as a ``torch.nn.Sequential`` of Linear, activations and Dropout, in evaluation mode.

        It returns what `forward` does of classifiers and counts, and what `predict` does of quantities: the
        standardisation of inputs and targets is in the weights of the first and last Linear, and so are the scales of
        the inputs. Noise of inputs and penalties belong to training, and are left out.

        Parameters
        ----------
        probabilities : bool
            Of classifiers: end with Softmax or Sigmoid, and return what `predict_proba` does, as columns.

        Raises
        ------
        ImportError
            PyTorch is not installed.
        ValueError
            A float32 has not the digits that the standardisation needs; the message says what to do.
        """
        return torch_modules.module_of(self._outline(), check_flag("probabilities", probabilities))

    def to_sklearn(self) -> Any:
        """The network as a fitted ``MLPClassifier`` or ``MLPRegressor`` of scikit-learn (extra `sklearn`).

        Its predictions are those of the network, in the classes of `class_labels`, which scikit-learn sorts; the
        standardisation is in its weights, then of float64. The losses that the estimator trains by from there are
        scikit-learn's: its classifiers', squared_error, and poisson. Dropout and penalties are left out.

        Raises
        ------
        ImportError
            scikit-learn is not installed.
        ValueError
            The network has what scikit-learn has not: other hidden activations than identity, relu, sigmoid and tanh,
            or two of them, an output activation, or classes that are fractions.
        """
        return scikit.estimator_of(self._outline(), self.history)

    def _outline(self, dtype: Any = None) -> Outline:
        return Outline.of(self.session.values(), self.feature_names, dtype)
