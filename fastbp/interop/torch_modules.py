"""Networks as modules of PyTorch, and back: a `Sequential` of Linear, activations and Dropout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastbp.interop.assembly import Assembly, refused, unknown
from fastbp.interop.outline import Outline
from fastbp.io.extras import load
from fastbp.links import SIGMOID
from fastbp.losses import Loss
from fastbp.model import Model

# fastbp's name -> the class of torch.nn, and its options that mean the same function.
ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "identity": ("Identity", {}),
    "relu": ("ReLU", {}),
    "leaky_relu": ("LeakyReLU", {"negative_slope": 0.01}),
    "elu": ("ELU", {"alpha": 1.0}),
    "selu": ("SELU", {}),
    "tanh": ("Tanh", {}),
    "sigmoid": ("Sigmoid", {}),
    "softplus": ("Softplus", {"beta": 1.0}),
    "gelu": ("GELU", {"approximate": "none"}),
    "silu": ("SiLU", {}),
    "mish": ("Mish", {}),
    "hard_sigmoid": ("Hardsigmoid", {}),
    "hard_swish": ("Hardswish", {}),
}
_NAMES = {kind: (name, options) for name, (kind, options) in ACTIVATIONS.items()}
_KNOWN = ["Sequential", "Linear", "Dropout", "Flatten", "Softmax, LogSoftmax", *_NAMES]


def torch() -> Any:
    """PyTorch; ImportError where it is not installed."""
    return load("torch", "modules of PyTorch need torch", None)


def module_of(outline: Outline, probabilities: bool) -> Any:
    """The work of `MLP.to_torch`."""
    torch_, link = torch(), outline.loss.link
    if outline.folds_badly:
        raise ValueError(
            "means of inputs or targets are more than 1,000 times their scales, digits that the float32 "
            "weights of a Linear have not: net.astype('float64').to_torch()"
        )
    if probabilities and not link.classifies:
        raise ValueError(f"probabilities are for classifiers; this network has loss={outline.loss.name!r}")
    dtype, modules = getattr(torch_, outline.dtype.name), []
    for layer in outline.folded().layers:
        n_in, n_out = layer.weight.shape
        if not all(np.isfinite(one.astype(outline.dtype)).all() for one in layer[:2]):
            raise ValueError(
                f"with its scaling a weight is too large for {outline.dtype}: net.astype('float64').to_torch()"
            )
        linear = torch_.nn.Linear(n_in, n_out, dtype=dtype)
        with torch_.no_grad():
            linear.weight.copy_(torch_.from_numpy(np.ascontiguousarray(layer.weight.T)))
            linear.bias.copy_(torch_.from_numpy(np.array(layer.bias)))
        modules.append(linear)
        if layer.activation != "identity":
            kind, options = ACTIVATIONS[layer.activation]
            modules.append(getattr(torch_.nn, kind)(**options))
        if layer.dropout:
            modules.append(torch_.nn.Dropout(layer.dropout))
    if probabilities:
        modules.append(torch_.nn.Sigmoid() if link is SIGMOID else torch_.nn.Softmax(dim=1))
    return torch_.nn.Sequential(*modules).eval()


def model_of(module: Any, loss: str | Loss | None, class_labels: list[Any] | None) -> Model:
    """The work of `fastbp.from_torch`."""
    torch_ = torch()
    if not isinstance(module, torch_.nn.Module):
        raise TypeError(f"module must be a torch.nn.Sequential, got {module!r:.80} of type {type(module).__name__}")
    found = Assembly()
    for where, one in _flat(module, "module", torch_.nn):
        _take(found, where, one, torch_)
    return found.model(loss, class_labels)


def _flat(module: Any, where: str, nn: Any) -> Iterator[tuple[str, Any]]:
    """Modules and where they stand; those that hold others in a row are taken apart."""
    if type(module) is nn.Sequential:
        for name, one in module.named_children():
            yield from _flat(one, f"{where}[{name}]" if name.isdigit() else f"{where}.{name}", nn)
    else:
        yield where, module


def _take(found: Assembly, where: str, module: Any, torch_: Any) -> None:
    nn, kind = torch_.nn, type(module).__name__
    if type(module) is not getattr(nn, kind, None):  # a class of somebody's own may do what it likes
        raise unknown(where, kind, _KNOWN)
    if kind == "Linear":
        weight, bias = _array(where, module.weight, torch_).T, module.bias
        found.dense(where, weight, None if bias is None else _array(where, bias, torch_))
    elif kind == "Dropout":
        found.dropout(where, module.p)
    elif kind in ("Softmax", "LogSoftmax"):
        if module.dim not in (1, -1):
            raise refused(where, f"is a {kind} along dim={module.dim}, not along the classes", "make it dim=1")
        found.activation(where, "softmax")
    elif kind == "Flatten" and module.start_dim == 1:
        return  # fastbp has rows of two dimensions alone
    elif kind in _NAMES:
        name, options = _NAMES[kind]
        for option, wanted in options.items():
            if getattr(module, option) != wanted:
                raise refused(
                    where, f"is a {kind} with {option}={getattr(module, option)!r}", f"fastbp has {option}={wanted!r}"
                )
        found.activation(where, name)
    else:
        raise unknown(where, kind, _KNOWN)


def _array(where: str, tensor: Any, torch_: Any) -> Any:
    """A parameter as an array; of float64 or, for all that is narrower, float32."""
    if not tensor.dtype.is_floating_point or tensor.is_meta:
        raise refused(where, f"has parameters of {tensor.dtype} on {tensor.device}", "give floats that are in memory")
    wide = torch_.float64 if tensor.dtype == torch_.float64 else torch_.float32
    return tensor.detach().to("cpu", wide).numpy()
