"""Numbers as text: five digits, so that a reader can follow them on a calculator; and formulas with numbers put in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

_DIGITS = 5
TERMS = 6  # of a sum that is written out, before the rest is one number
_KNOWN = {"min", "max", "sign", "tanh", "sqrt", "log", "e"}  # functions of the registries' formulas


def shown(value: float) -> str:
    """With five significant digits; whole up to ten millions."""
    text = f"{value:.{_DIGITS}g}" if not 1e5 <= abs(value) < 1e7 else f"{value:.0f}"
    return "0" if text == "-0" else re.sub(r"e([+-])0(\d)$", r"e\1\2", text)


def signed(value: float) -> str:
    """The same in brackets where it is below 0, as a factor or a term is written."""
    text = shown(value)
    return f"({text})" if text.startswith("-") else text


def products(pairs: Iterable[tuple[float, float]]) -> list[str]:
    """Terms of a sum."""
    return [f"{signed(one)}*{signed(other)}" for one, other in pairs]


def long_sum(pairs: Sequence[tuple[float, float]]) -> tuple[str, str]:
    """A sum of products, its largest terms and what the others come to; and a remark on those, if there are some."""
    order = sorted(range(len(pairs)), key=lambda i: -abs(pairs[i][0] * pairs[i][1]))
    others = order[TERMS:] if len(pairs) > TERMS + 1 else []  # a single one is as short itself
    terms = products(pairs[i] for i in sorted(set(order) - set(others)))
    rest = sum(pairs[i][0] * pairs[i][1] for i in others)
    if not others:
        return " + ".join(terms), ""
    if all(pairs[i][0] * pairs[i][1] == 0.0 for i in others):
        kept = [i for i in sorted(set(order) - set(others)) if pairs[i][0] * pairs[i][1] != 0.0] or [order[0]]
        return " + ".join(products(pairs[i] for i in kept)), f"  ({len(pairs) - len(kept):,} terms are 0)"
    return " + ".join([*terms, signed(rest)]), f"  ({shown(rest)}: {len(others):,} other terms)"


def put_in(formula: str, values: Mapping[str, float]) -> str | None:
    """The formula with numbers for its letters; None where it has others, or cases."""
    main = re.split(r", (?=\w+ = )", formula)[0]  # without the meaning of its letters
    if " for " in main or "|" in main:
        return None
    letters = set(re.findall(r"[A-Za-z_]\w*(?!\w*\()", main)) - _KNOWN
    if not letters <= set(values):
        return None
    return re.sub(r"[A-Za-z_]\w*(?!\w*\()", lambda found: _put(found[0], values), main)


def _put(letter: str, values: Mapping[str, float]) -> str:
    return letter if letter in _KNOWN else signed(values[letter])
