"""C files: clean under gcc's warnings, and as near to exact arithmetic as sums of so many terms can be."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import ROWS, named, network, networks
from numpy.typing import NDArray

import fastbp
from fastbp.activations import ACTIVATIONS
from fastbp.interop import c_source

GCC = shutil.which("gcc") or shutil.which("cc")
STRICT = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
MORE = ["-Wconversion", "-Wshadow", "-Wmissing-prototypes", "-Wdouble-promotion"]

if not GCC and os.environ.get("FASTBP_REQUIRE_PEERS"):
    raise RuntimeError("the tests of C files need a compiler: apt-get install gcc")
pytestmark = pytest.mark.skipif(not GCC, reason="compiles the files with gcc")


def compiled(folder: Path, sources: list[Path]) -> ctypes.CDLL:
    """All files in one library."""
    assert GCC is not None
    made = folder / "nets.so"
    done = subprocess.run(
        [GCC, *STRICT, *MORE, "-O1", "-shared", "-fPIC", "-o", made, *sources, "-lm"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == ""
    return ctypes.CDLL(str(made))


def called(function: Any, X: NDArray[Any], n: int, dtype: Any) -> NDArray[Any]:
    """What a function writes for each row."""
    out = np.full((len(X), n), np.nan if np.dtype(dtype).kind == "f" else -7, dtype)
    for row, result in zip(X, out, strict=True):
        function(row.ctypes.data_as(ctypes.c_void_p), result.ctypes.data_as(ctypes.c_void_p))
    return out


def exact(net: fastbp.MLP, X: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The outputs in float64, and how far rounding each term of the sums by 1 can move them."""
    double = net.astype("float64")
    a = X if net.scaling is None else (X - net.scaling.x_mean) / net.scaling.x_scale
    size = np.abs(a)
    weights, biases = double.weights, double.biases
    if double.input_scale is not None:
        weights[0] = weights[0] * double.input_scale[:, None]
    z = a
    for weight, bias, name in zip(weights, biases, [*net.activations, "identity"], strict=True):
        z, size = a @ weight + bias, size @ np.abs(weight) + np.abs(bias)
        a = fastbp.reference.activations.activate(name, z)
        size = 1.2 * np.maximum(size, np.abs(a))  # no activation is steeper than 1.2
    return z, size


def test_every_activation_and_loss(tmp_path: Path) -> None:
    nets, paths = networks(), []
    for name, net in nets.items():
        net.to_c(path := tmp_path / f"{name}.c", name=f"the_{name}")
        paths.append(path)
    library = compiled(tmp_path, paths)
    for name, net in nets.items():
        X = np.ascontiguousarray(ROWS if net.scaling is not None else ROWS.astype(net.dtype))
        n_out, eps, roots = net.sizes[-1], np.finfo(net.dtype).eps, sum(np.sqrt(net.sizes[:-1]))
        z, size = exact(net, X)
        found = called(library[f"the_{name}_forward"], X, n_out, net.dtype)
        assert (np.abs(found - z) <= 4 * roots * eps * size).all(), name
        net = net.astype("float64")
        if not net.loss.link.classifies:
            dtype = np.float64 if net.scaling is not None and net.scaling.y_mean is not None else found.dtype
            y = called(library[f"the_{name}_predict"], X, n_out, dtype)
            bound = 4 * roots * eps * size * np.maximum(1, np.exp(np.minimum(z, 50)) if "poisson" in name else 1)
            spread = 1.0 if net.scaling is None or net.scaling.y_scale is None else net.scaling.y_scale
            expected = net.predict(X).reshape(y.shape)
            assert (np.abs(y - expected) <= spread * bound + 4 * eps * np.abs(expected)).all(), name
            continue
        p = called(library[f"the_{name}_probabilities"], X, n_out, found.dtype)
        assert (np.abs(p - net.predict_proba(X).reshape(p.shape)) <= 8 * roots * eps * size.max()).all(), name
        if net.loss.link.one_class or n_out == 1:
            one = library[f"the_{name}_class"]
            assert [one(row.ctypes.data_as(ctypes.c_void_p)) for row in X] == net.predict(X).tolist()
        else:
            assert (called(library[f"the_{name}_classes"], X, n_out, np.int32) == net.predict(X)).all()
    assert c_source.ACTIVATIONS.keys() == ACTIVATIONS.keys()


def test_a_program_by_the_comment_in_the_file(tmp_path: Path) -> None:
    """What the comment says is typed as it stands; names come through, whatever they hold."""
    assert GCC is not None
    net = named()
    net.to_c(tmp_path / "iris.c", name="iris", dtype="float64")
    source = (tmp_path / "iris.c").read_text(encoding="ascii")
    declared = list(itertools.takewhile(str.strip, source.split("#include <math.h>\n\n")[1].splitlines()))
    usage = itertools.takewhile(lambda line: line != " */", source.split(" *\n")[2].splitlines())
    body = [line.removeprefix(" *     ").split(";")[0] + ";" for line in usage]
    row = ", ".join(map(repr, ROWS[0].tolist()))
    body[0] = body[0].replace("...", row)
    program = ["#include <stdio.h>", *declared, "int main(void) {", *body, 'printf("%s %.17g", iris_labels[k], p[k]);']
    (tmp_path / "main.c").write_text("\n".join([*program, "return 0; }", ""]))
    made = tmp_path / "program"
    subprocess.run([GCC, *STRICT, tmp_path / "main.c", tmp_path / "iris.c", "-o", made, "-lm"], check=True)
    label, _, chance = subprocess.run([made], capture_output=True, check=True).stdout.decode().rpartition(" ")
    net = net.astype("float64")
    k = int(net.predict(ROWS[:1])[0])
    assert net.class_labels is not None
    assert label == net.class_labels[k]
    assert abs(float(chance) - net.predict_proba(ROWS[:1])[0, k]) < 1e-14


def test_names_that_c_does_not_take(tmp_path: Path) -> None:
    net = network([5, 3])
    for name in ("", "2nd", "a-b", "int", "main", "x" * 50, "é"):
        with pytest.raises(ValueError, match="name must be a name of C"):
            net.to_c(tmp_path / "net.c", name=name)
    with pytest.raises(TypeError, match="name must be a name of C"):
        net.to_c(tmp_path / "net.c", name=3)  # type: ignore[arg-type]
    net.class_labels = ["a", "b", "c" * 2000]
    with pytest.raises(ValueError, match="2,000 bytes"):
        net.to_c(tmp_path / "net.c")
    assert list(tmp_path.iterdir()) == []
