"""A network as one C99 file that needs nothing but <math.h>: weights as constants, and functions for one row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastbp._version import __version__
from fastbp.interop.outline import Outline
from fastbp.io.files import PathLike, replacing
from fastbp.links import EXPONENTIAL, SIGMOID
from fastbp.types import Array

_WORDS = {
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern",
    "float", "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed",
    "sizeof", "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while", "main",
}  # fmt: skip
_LONGEST = 1000  # bytes of a name; a compiler need not take a text of more than 4,095
_WIDTH = 110

# Of z, stable at both ends; NaN passes through. Where @ stands, single precision has an f: expf(z), 0.5f.
ACTIVATIONS = {
    "identity": "z",
    "relu": "z < 0.0@ ? 0.0@ : z",
    "leaky_relu": "z < 0.0@ ? 0.01@ * z : z",
    "elu": "z < 0.0@ ? expm1@(z) : z",
    "selu": "z < 0.0@ ? 1.7580993408473768599@ * expm1@(z) : 1.0507009873554804934@ * z",
    "tanh": "tanh@(z)",
    "sigmoid": "(z < 0.0@ ? e : 1.0@) / (1.0@ + e)",
    "softplus": "(z < 0.0@ ? 0.0@ : z) + log1p@(e)",
    "gelu": "0.5@ * z * erfc@(-0.70710678118654752440@ * z)",
    "silu": "z * (z < 0.0@ ? e : 1.0@) / (1.0@ + e)",
    "mish": "z * (z < 0.0@ ? e * (e + 2.0@) / (e * (e + 2.0@) + 2.0@) "
    ": (2.0@ * e + 1.0@) / (2.0@ * e + 1.0@ + 2.0@ * e * e))",
    "hard_sigmoid": "z < -3.0@ ? 0.0@ : z > 3.0@ ? 1.0@ : (z + 3.0@) / 6.0@",
    "hard_swish": "z < -3.0@ ? 0.0@ : z > 3.0@ ? z : z * ((z + 3.0@) / 6.0@)",
}


def write(outline: Outline, path: PathLike, name: str) -> None:
    """The work of `MLP.to_c`."""
    text = "\n".join(_Source(outline, check_name(name)).lines()) + "\n"
    with replacing(path, "w") as file:
        file.write(text)


def check_name(name: object) -> str:
    """Return a name that C takes, with which all others of the file begin."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a name of C such as 'net', got {name!r} of type {type(name).__name__}")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,40}", name) or name in _WORDS:
        raise ValueError(f"name must be a name of C, letters, digits and _ of at most 41, such as 'net'; got {name!r}")
    return name


def text(value: object) -> str:
    """A text of C in plain ASCII, in which nothing has a meaning."""
    encoded = str(value).encode("utf-8", "replace")
    if len(encoded) > _LONGEST:
        raise ValueError(
            f"the name {str(value)!r:.60} has {len(encoded):,} bytes, more than a C file takes: {_LONGEST}"
        )
    plain = set(range(32, 127)) - set(b'"\\?')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in encoded) + '"'


class _Source:
    """The lines of the file."""

    def __init__(self, outline: Outline, name: str) -> None:
        self.outline, self.name, self.link = outline, name, outline.loss.link
        self.single = outline.dtype == np.float32
        self.number = "float" if self.single else "double"
        self.x = "double" if outline.x_mean is not None else self.number
        self.y = "double" if outline.y_mean is not None else self.number
        self.sizes = outline.sizes
        self.wide = max(self.sizes)

    def lines(self) -> Iterator[str]:
        """All of it."""
        yield from self._comment()
        yield "#include <math.h>\n"
        yield from self._declarations()
        yield from self._constants()
        yield from self._activations()
        yield from self._forward()
        yield from self._classes() if self.link.classifies else self._values()

    def _c(self, code: str) -> str:
        return code.replace("@", "f" if self.single else "").replace("REAL", self.number)

    def _prototypes(self) -> dict[str, str]:
        """What users call -> what it does."""
        name, x = self.name, f"const {self.x} x[]"
        kinds = {"forward": "the outputs before their link, as net.forward"}
        found = {f"void {name}_forward({x}, {self.number} z[])": kinds["forward"]}
        if not self.link.classifies:
            return found | {f"void {name}_predict({x}, {self.y} y[])": "the predictions, as net.predict"}
        found[f"void {name}_probabilities({x}, {self.number} p[])"] = "probabilities, as net.predict_proba"
        if self.link.one_class or self.sizes[-1] == 1:
            found[f"int {name}_class({x})"] = "the number of the class, as net.predict"
        else:
            found[f"void {name}_classes({x}, int c[])"] = "1 or 0 for each output, as net.predict"
        return found

    def _names(self) -> dict[str, list[Any]]:
        """Lists of texts that the file has."""
        named = {"labels": self.outline.class_labels, "inputs": self.outline.feature_names}
        return {f"{self.name}_{what}": one for what, one in named.items() if one is not None}

    def _comment(self) -> Iterator[str]:
        name, n_in, n_out = self.name, self.sizes[0], self.sizes[-1]
        bytes_ = (2 * self.wide + n_out) * self.outline.dtype.itemsize
        note = "   the inputs as they are: they are standardised here" if self.outline.x_mean is not None else ""
        yield f"/* {name}: a feed-forward network of {'-'.join(map(str, self.sizes))} units, for one row at a time."
        yield f" * Written by fastbp {__version__}. C99; it needs nothing but <math.h> (link with -lm), keeps nothing"
        yield f" * between calls, and uses about {bytes_:,} bytes of the stack: any number of threads may call it."
        yield " *"
        yield " * Usage: compile this file with your program, and copy there the declarations that follow. Then"
        yield " *"
        first = next(one for one in self._prototypes() if "forward" not in one)
        yield f" *     {self.x} x[{n_in}] = {{ ... }};{note}"
        if first.startswith("void"):
            result = {"predict": "y", "probabilities": "p"}[first.split("(")[0].rsplit("_", 1)[1]]
            kind = self.y if result == "y" else self.number
            yield f" *     {kind} {result}[{n_out}];"
            yield f" *     {first.split('(')[0].removeprefix('void ')}(x, {result});"
        if any(one.startswith("int ") for one in self._prototypes()):
            label = f"   {name}_labels[k] is its name" if f"{name}_labels" in self._names() else ""
            yield f" *     int k = {name}_class(x);{label}"
        yield " */"

    def _declarations(self) -> Iterator[str]:
        for prototype, what in self._prototypes().items():
            yield f"{prototype}; /* {what} */"
        for name, names in self._names().items():
            yield f"extern const char *const {name}[{len(names)}];"
        yield ""
        for name, names in self._names().items():
            yield f"const char *const {name}[{len(names)}] = {{"
            yield from (f"    {text(one)}," for one in names)
            yield "};\n"

    def _constants(self) -> Iterator[str]:
        outline = self.outline
        for k, layer in enumerate(outline.layers):
            yield from self._array(f"weight{k}", layer.weight)
            yield from self._array(f"bias{k}", layer.bias)
        for name in ("x_mean", "x_scale", "y_mean", "y_scale"):
            if (values := getattr(outline, name)) is not None:
                yield from self._array(name, np.asarray(values, np.float64))

    def _array(self, name: str, values: Array) -> Iterator[str]:
        kind, suffix = ("float", "f") if values.dtype == np.float32 else ("double", "")
        yield f"static const {kind} {self.name}_{name}[{values.size}] = {{"
        line = "   "
        for value in values.ravel():
            shown = f"{value!s}"
            shown = f"{shown if any(sign in shown for sign in '.en') else shown + '.0'}{suffix},"
            if len(line) + len(shown) > _WIDTH:
                yield line
                line = "   "
            line += f" {shown}"
        yield from (line, "};\n")

    def _activations(self) -> Iterator[str]:
        for name in dict.fromkeys(layer.activation for layer in self.outline.layers):
            if name == "identity":
                continue
            formula = ACTIVATIONS[name]
            yield f"static {self.number} {self.name}_{name}({self.number} z)\n{{"
            if re.search(r"\be\b", formula):
                yield self._c("    const REAL e = exp@(-fabs@(z));")
            yield f"    return {self._c(formula)};\n}}\n"

    def _forward(self) -> Iterator[str]:
        scaled, last = self.outline.x_mean is not None, len(self.outline.layers) - 1
        yield self._c("/* z = b + a w, w being n_in rows of n_out weights */")
        yield self._c(f"static void {self.name}_dense(")
        yield self._c("    const REAL *a, const REAL *w, const REAL *b, int n_in, int n_out, REAL *restrict z)")
        yield "{\n    int i, j;\n    for (j = 0; j < n_out; j++)\n        z[j] = b[j];"
        yield "    for (i = 0; i < n_in; i++, w += n_out)"
        yield "        for (j = 0; j < n_out; j++)\n            z[j] += a[i] * w[j];\n}\n"
        yield f"void {self.name}_forward(const {self.x} x[], {self.number} z[])\n{{"
        buffers = [letter for letter, used in (("a", scaled or last), ("c", (scaled and last) or last > 1)) if used]
        yield from (f"    {self.number} {letter}[{self.wide}];" for letter in buffers)
        if scaled or any(layer.activation != "identity" for layer in self.outline.layers[:-1]):
            yield "    int i;"
        source, target = "x", "a"
        if scaled:
            yield f"    for (i = 0; i < {self.sizes[0]}; i++)"
            yield f"        a[i] = ({self.number})((x[i] - {self.name}_x_mean[i]) / {self.name}_x_scale[i]);"
            source, target = "a", "c"
        for k, layer in enumerate(self.outline.layers):
            n_in, n_out = layer.weight.shape
            target = "z" if k == last else target
            parameters = f"{self.name}_weight{k}, {self.name}_bias{k}"
            yield f"    {self.name}_dense({source}, {parameters}, {n_in}, {n_out}, {target});"
            if layer.activation != "identity" and k != last:
                yield f"    for (i = 0; i < {n_out}; i++)"
                yield f"        {target}[i] = {self.name}_{layer.activation}({target}[i]);"
            source, target = target, "c" if target == "a" else "a"
        yield "}\n"

    def _values(self) -> Iterator[str]:
        outline, n, active = self.outline, self.sizes[-1], self.outline.layers[-1].activation
        yield f"void {self.name}_predict(const {self.x} x[], {self.y} y[])\n{{"
        yield self._c(f"    REAL z[{n}];\n    int i;\n    {self.name}_forward(x, z);\n    for (i = 0; i < {n}; i++)")
        value = "z[i]" if active == "identity" else f"{self.name}_{active}(z[i])"
        value = self._c("exp@(z[i])") if self.link is EXPONENTIAL else value
        if outline.y_mean is not None:
            value = f"(double){value} * {self.name}_y_scale[i] + {self.name}_y_mean[i]"
        yield f"        y[i] = {value};\n}}"

    def _classes(self) -> Iterator[str]:
        name, n, x = self.name, self.sizes[-1], f"const {self.x} x[]"
        yield self._c(f"void {name}_probabilities({x}, REAL p[])\n{{")
        if self.link is SIGMOID:
            yield f"    int i;\n    {name}_forward(x, p);\n    for (i = 0; i < {n}; i++) {{"
            yield self._c("        const REAL e = exp@(-fabs@(p[i]));")
            yield self._c("        p[i] = (p[i] < 0.0@ ? e : 1.0@) / (1.0@ + e);\n    }\n}\n")
        else:
            yield self._c(f"    REAL most, sum = 0.0@;\n    int i;\n    {name}_forward(x, p);\n    most = p[0];")
            yield f"    for (i = 1; i < {n}; i++)\n        most = p[i] > most ? p[i] : most;"
            yield self._c(
                f"    for (i = 0; i < {n}; i++) {{\n        p[i] = exp@(p[i] - most);\n        sum += p[i];\n    }}"
            )
            yield f"    for (i = 0; i < {n}; i++)\n        p[i] /= sum;\n}}\n"
        several = not self.link.one_class and n > 1
        yield f"void {name}_classes({x}, int c[])\n{{" if several else f"int {name}_class({x})\n{{"
        yield self._c(f"    REAL z[{n}];")
        if not self.link.one_class and n == 1:
            yield self._c(f"    {name}_forward(x, z);\n    return z[0] > 0.0@;\n}}")
            return
        yield f"    int i{', best = 0' * (not several)};\n    {name}_forward(x, z);"
        if several:
            yield self._c(f"    for (i = 0; i < {n}; i++)\n        c[i] = z[i] > 0.0@;\n}}")
        else:
            yield f"    for (i = 1; i < {n}; i++)\n        best = z[i] > z[best] ? i : best;\n    return best;\n}}"
