"""Arrays of other libraries: those on the CPU are read where they lie, the others are refused with what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from peers import jax, needs, torch

import fastbp
from fastbp import arrays
from fastbp.engine.bindings import Bindings

X = np.random.default_rng(0).standard_normal((8192, 5)).astype("f")  # fewer are copied, to be at hand for the next call
Y = np.arange(len(X)) % 3
# How each library makes an array, and tells where it lies.
LIBRARIES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], int]]] = {
    "torch": (lambda array: torch.tensor(array), lambda found: found.data_ptr()),
    "jax": (lambda array: jax.numpy.asarray(array.copy()), lambda found: found.unsafe_buffer_pointer()),
}
each = pytest.mark.parametrize("library", [pytest.param(name, marks=needs(name)) for name in LIBRARIES])


@each
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_fit_and_predict_read_it_where_it_lies(library: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, place = LIBRARIES[library]
    plain = X if dtype == "float32" else np.random.default_rng(0).integers(0, 255, X.shape).astype(dtype)
    theirs, seen = make(plain), set[int]()
    original = Bindings.bind_data

    def bind_data(self: Any, found: Any, *arguments: Any, **options: Any) -> Any:
        seen.add(found.ctypes.data)
        return original(self, found, *arguments, **options)

    monkeypatch.setattr(Bindings, "bind_data", bind_data)
    net, twin = fastbp.MLP([5, 8, 3], seed=0), fastbp.MLP([5, 8, 3], seed=0)
    assert net.fit(theirs, Y, epochs=2).loss == twin.fit(plain, Y, epochs=2).loss
    assert seen == {place(theirs), plain.ctypes.data}
    assert (net.predict_proba(theirs) == twin.predict_proba(plain)).all()
    assert arrays.numeric(theirs, "X").ctypes.data == place(theirs)
    assert (net.predict(theirs) == twin.predict(plain)).all()
    assert net.evaluate(theirs, make(Y)) == twin.evaluate(plain, Y)


@needs("torch")
def test_strides_stay_strides() -> None:
    tensor = torch.tensor(np.repeat(X, 2, axis=1))[:, ::2]
    found = arrays.numeric(tensor, "X")
    assert (found.ctypes.data, found.strides) == (tensor.data_ptr(), (40, 8))


class OnGpu:
    """What a GPU's array shows of itself, where there is no GPU."""

    device = "cuda:0"

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, **_: Any) -> Any:
        raise AssertionError("nobody asks for it")


@needs("torch", "jax")
def test_what_cannot_be_read_is_refused_with_the_mend() -> None:
    net = fastbp.MLP([5, 3], seed=0)
    refused: list[tuple[Any, str]] = [
        (torch.tensor(X, requires_grad=True), r"X requires a gradient, which ends here: pass X.detach\(\)"),
        (torch.tensor(X, device="meta"), r"X lies on meta, but fastbp computes on the CPU: .* X.cpu\(\) of PyTorch"),
        (OnGpu(), r"X lies on cuda:0, but fastbp computes on the CPU: .* jax.device_get\(X\)"),
        (
            torch.tensor(X).to(torch.bfloat16),
            "X cannot be read as an array: .*BFloat16; make it dense and float32 first",
        ),
        (torch.tensor(X).to_sparse(), "X cannot be read as an array: .* make it dense"),
    ]
    for given, says in refused:
        for call in (net.predict, lambda rows: net.fit(rows, Y)):
            with pytest.raises(TypeError, match=says):
                call(given)
    assert net.predict(torch.tensor(X, requires_grad=True).detach()).shape == (len(X),)


@needs("torch", "jax")
def test_what_dlpack_lacks_goes_by_a_copy() -> None:
    net = fastbp.MLP([5, 3], seed=0)
    assert (net.predict(torch.tensor(X).half()) == net.predict(X.astype("f2"))).all()
    assert (net.predict(torch.tensor(X > 0)) == net.predict(X > 0)).all()
    column = pa.array([1.0, None, 3.0])
    assert np.isnan(arrays.numeric(column, "y")[1])
    assert arrays.numeric(pa.array([1.0, 2.0]), "y").tolist() == [1.0, 2.0]
    assert arrays.numeric(np.float64(3.0), "x").shape == ()
