"""Checks of class labels: they end up in terminals and tables."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # the command line reads this module before it needs machine code
    from fastbp.losses import Loss


def check(labels: object, loss: Loss, n_out: int) -> list[Any] | None:
    """The labels as a list of Python's numbers or strings, one a class, or None.

    cross_entropy has a class an output; binary_cross_entropy two classes, or, with several outputs, a name for each.
    """
    if labels is None:
        return None
    if isinstance(labels, str | bytes | dict | set) or not isinstance(labels, Iterable):
        raise TypeError(f"class_labels must be None or a list of names, one a class; got {labels!r:.80}")
    if not loss.link.classifies:
        raise ValueError(f"class_labels are for classifiers; this network has loss={loss.name!r}")
    found = [_plain(k, one) for k, one in enumerate(labels)]
    wanted = loss.link.n_classes(n_out)
    if len(found) != wanted:
        raise ValueError(f"class_labels has {len(found)} entries, but the network tells {wanted} classes apart")
    if len({isinstance(one, str) for one in found}) > 1:
        raise ValueError(f"class_labels must be all text or all numbers, got {found!r:.80}")
    if len(set(found)) < wanted:
        twice = next(one for one in found if found.count(one) > 1)
        raise ValueError(f"class_labels names {twice!r:.80} twice; every class needs a name of its own")
    return found


def controls(text: str) -> set[str]:
    """Characters that no file may bring to a terminal, where they begin escape sequences or go back in a line."""
    return {letter for letter in set(text) - set("\n\t") if unicodedata.category(letter) in ("Cc", "Cs")}


def _plain(k: int, label: Any) -> int | float | str:
    value = label.item() if isinstance(label, np.generic) else label
    if isinstance(value, str):
        if controls(value):
            raise ValueError(f"class_labels[{k}] is {value!r:.80}, which holds a control character; rename the class")
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -math.inf < value < math.inf:
        raise TypeError(f"class_labels[{k}] must be text or a finite number, got {value!r:.80}")
    return value
