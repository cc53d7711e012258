"""`Assembly`: a network of another program, put together layer by layer; what fastbp lacks is refused by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastbp import arrays, losses
from fastbp.data import labels
from fastbp.io.files import memory
from fastbp.links import EXPONENTIAL, IDENTITY, SIGMOID, SOFTMAX, Link
from fastbp.losses import Loss
from fastbp.model import Model
from fastbp.spec import NetworkSpec, Scaling
from fastbp.types import Array
from fastbp.validation import listed

# What ends a network, and is no activation of a hidden layer -> the link that it is.
ENDINGS: dict[str, Link] = {"softmax": SOFTMAX, "exponential": EXPONENTIAL}
# The loss of a link, where nothing else tells.
_LOSS_OF = {SOFTMAX: "cross_entropy", SIGMOID: "binary_cross_entropy", EXPONENTIAL: "poisson", IDENTITY: "mse"}
_BEND_AT_ZERO = ("identity", "relu", "leaky_relu")  # f(c z) = c f(z) for c > 0


def refused(where: str, why: str, mend: str) -> ValueError:
    """What to raise for something that fastbp cannot carry."""
    return ValueError(f"{where} {why}; {mend}")


def unknown(where: str, kind: str, known: Iterable[str]) -> ValueError:
    """What to raise for a layer of a kind that fastbp has not."""
    folds = "Norm" in kind
    mend = "fold its shift and scale into the layer beside it, or train without it" if folds else "replace it"
    return refused(where, f"is a {kind}, which fastbp has not: it takes {listed(known)}", mend)


class Assembly:
    """Layers in the order in which data go through them; each with the words by which errors name it."""

    def __init__(self) -> None:
        self._layers: list[tuple[Array, Array, str]] = []  # weights, biases, and what they are called
        self._activations: list[str | None] = []
        self._dropouts: list[float] = []
        self._scaling: Scaling | None = None
        self._ending: str | None = None

    def dense(self, where: str, weight: Array, bias: Array | None) -> None:
        """A layer of weights ``(n_in, n_out)``."""
        if self._ending is not None:
            raise refused(
                where, f"comes after a {self._ending}, which fastbp has at the end alone", "leave out what is behind it"
            )
        if weight.ndim != 2 or not weight.size:
            raise ValueError(f"{where} has weights of shape {weight.shape}, which are no (inputs, units)")
        if self._layers and self._layers[-1][0].shape[1] != len(weight):
            raise ValueError(
                f"{where} takes {len(weight)} inputs, but {self._layers[-1][2]} has "
                f"{self._layers[-1][0].shape[1]} units"
            )
        bias = np.zeros(weight.shape[1], weight.dtype) if bias is None else bias
        if bias.shape != weight.shape[1:]:
            raise ValueError(f"{where} has biases of shape {bias.shape}, expected {weight.shape[1:]}")
        for name, array in (("weights", weight), ("biases", bias)):
            arrays.check_finite(array, f"{where}: {name}")
        self._layers.append((weight, bias, where))
        self._activations.append(None)
        self._dropouts.append(0.0)

    def activation(self, where: str, name: str) -> None:
        """An activation by fastbp's name, or one of `ENDINGS`."""
        if name == "identity":
            return
        if not self._layers:
            raise refused(where, "comes before the first layer of weights", "apply it to the data, and leave it out")
        if self._activations[-1] is not None or self._ending is not None:
            before = self._ending or self._activations[-1]
            raise refused(
                where, f"is a {name} of a {before}, but a layer of fastbp has one activation", "leave one out"
            )
        if self._dropouts[-1] and name not in _BEND_AT_ZERO:
            raise refused(where, f"is a {name} behind a dropout, which fastbp has before it", "exchange the two")
        if name in ENDINGS:
            self._ending = name
        else:
            self._activations[-1] = name

    def dropout(self, where: str, share: float) -> None:
        """Units of the last layer are dropped in training."""
        if not share:
            return
        if not self._layers or self._ending is not None:
            what = "inputs" if not self._layers else "outputs"
            raise refused(where, f"drops {what}, but fastbp drops hidden units alone", "leave it out")
        if self._dropouts[-1]:
            raise refused(where, "is a second dropout of the same units", "make one of the two")
        if not 0.0 <= share < 1.0:
            raise refused(where, f"drops a share of {share:g}, which fastbp has in [0, 1)", "choose a smaller one")
        self._dropouts[-1] = float(share)

    def standardize(self, where: str, mean: Any, scale: Any) -> None:
        """Inputs are ``(x - mean) / scale``."""
        if self._layers or self._scaling is not None:
            raise refused(
                where, "scales what is not the input of the network", "apply it to the data, and leave it out"
            )
        self._scaling = Scaling(mean, scale)  # of one number for all inputs, perhaps

    def model(
        self, loss: str | Loss | None, class_labels: list[Any] | None = None, otherwise: str | None = None
    ) -> Model:
        """The network. loss: what the user says; otherwise: what the source does, where the layers leave it open."""
        if not self._layers:
            raise ValueError("there is no layer of weights in it")
        last, wide = self._activations[-1], any(weight.dtype == np.float64 for weight, _, _ in self._layers)
        chosen = losses.get(loss) if loss is not None else self._loss(otherwise)
        if self._dropouts[-1]:
            raise refused(self._layers[-1][2], "is the last layer, whose units are dropped", "leave that dropout out")
        output = self._output(chosen, last)
        dtype = np.dtype(np.float64 if wide else np.float32)
        sizes = [len(self._layers[0][0]), *(len(bias) for _, bias, _ in self._layers)]
        if (size := 4 * sum(weight.nbytes for weight, _, _ in self._layers)) > memory():
            raise ValueError(f"the network takes {size / 1e9:.3g} GB, more than there is memory")
        spec = NetworkSpec.check(
            sizes, activation=[name or "identity" for name in self._activations[:-1]], output_activation=output,
            loss=chosen, dropout=self._dropouts[:-1], dtype=dtype, seed=0,
        )  # fmt: skip
        weights = [weight.astype(dtype) for weight, _, _ in self._layers]
        biases = [bias.astype(dtype) for _, bias, _ in self._layers]
        scaling = self._scaling
        if scaling is not None and len(scaling.x_mean) == 1 < sizes[0]:
            scaling = Scaling(*(np.repeat(one, sizes[0]) for one in (scaling.x_mean, scaling.x_scale)))
        scaling = None if scaling is None else scaling.check(spec.sizes, spec.loss)
        return Model(spec, weights, biases, scaling, labels.check(class_labels, chosen, sizes[-1]))

    def _loss(self, otherwise: str | None) -> Loss:
        """What the end of the layers, or else the source, tells."""
        last = self._activations[-1]
        link = ENDINGS.get(self._ending or "", IDENTITY)
        if last == "sigmoid" and (otherwise is None or losses.get(otherwise).link is SIGMOID):
            link = SIGMOID
        if otherwise is not None and (losses.get(otherwise).link is link or (last is None and link is IDENTITY)):
            return losses.get(otherwise)
        return losses.get(_LOSS_OF[link])

    def _output(self, loss: Loss, last: str | None) -> str | None:
        """The output activation, which the link of the loss may stand for."""
        link = ENDINGS.get(self._ending or "", SIGMOID if last == "sigmoid" and loss.link is SIGMOID else IDENTITY)
        if link is not IDENTITY and loss.link is not link:
            raise ValueError(
                f"loss={loss.name!r} does not go with the {self._ending} at the end of the network: use "
                f"{_LOSS_OF[link]!r}, or leave the {self._ending} out"
            )
        if link is not IDENTITY:
            return None
        if loss.linked and last is not None:
            raise ValueError(
                f"loss={loss.name!r} has its own link from outputs to predictions, but the network ends with {last}: "
                f"use a loss such as 'mse', or leave the {last} out"
            )
        return last
