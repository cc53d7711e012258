"""Comparison of descriptions that files hold as text, such as ``SGD(lr=1)``, by the values in them."""

from __future__ import annotations

import ast
import re
from typing import Any

import numpy as np

_HASH = re.compile(r"[0-9a-f]{32}")  # which may look like a number


def same(one: Any, other: Any) -> bool:
    """Whether JSON-able values that hold the `repr` of descriptions are equal: 1, 1.0 and ``np.float64(1.0)`` are."""
    return bool(_values(one) == _values(other))


def _values(x: Any) -> Any:
    """Lists and dictionaries with their texts read; a text that is no expression of values stays what it is."""
    if isinstance(x, dict):
        return {key: _values(value) for key, value in x.items()}
    if isinstance(x, list):
        return [_values(value) for value in x]
    if not isinstance(x, str) or _HASH.fullmatch(x):
        return x
    try:  # functions within functions, and those without a name, have brackets in theirs
        return _value(ast.parse(re.sub(r"<(\w+)>", r"_\1_", x), mode="eval").body)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return x


def _value(node: ast.expr) -> Any:
    """Constants, sequences and NumPy's scalars by value; a call as its name and arguments; a name as it is."""
    match node:
        case ast.Constant(value):
            return value
        case ast.UnaryOp(ast.USub(), operand):
            return -_value(operand)
        case ast.Tuple(parts) | ast.List(parts):
            return [_value(part) for part in parts]
        case ast.Attribute(ast.Name("np"), "True_" | "False_" as name):
            return name == "True_"
        case ast.Call(ast.Attribute(ast.Name("np"), name), [number], []) if issubclass(
            getattr(np, name, object), np.number
        ):
            return getattr(np, name)(_value(number)).item()
        case ast.Call(kind, arguments, keywords):
            named = {keyword.arg: _value(keyword.value) for keyword in keywords}
            return [ast.unparse(kind), [_value(one) for one in arguments], named]
        case ast.Name() | ast.Attribute():
            return ast.unparse(node)
    raise ValueError(f"{ast.unparse(node)} is no value")
