"""What a sweep runs over: settings by name, each a list of values or a range, and points of their product."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastbp import optimizers
from fastbp.many.tasks import SETTINGS
from fastbp.many.variants import OPTIONS
from fastbp.validation import check_choice, listed

SAMPLINGS = ("grid", "random", "sobol")
# Settings of a network or a training that are whole numbers: a range of them is rounded.
_WHOLE = ("epochs", "batch_size", "hidden")
_TRAINING = frozenset(SETTINGS) - {"callbacks"} | {"class_weight"}


def of_optimizers() -> frozenset[str]:
    """Fields of the optimisers, such as lr and momentum."""
    kinds = optimizers.OPTIMIZERS.values()
    return frozenset(field.name for kind in kinds for field in dataclasses.fields(kind) if field.init)


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from low to high, at equal steps of themselves or of their logarithm."""

    low: float
    high: float
    log: bool
    whole: bool

    def at(self, u: float) -> float | int:
        """The number at a fraction of the way."""
        if self.log:
            value = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + u * (self.high - self.low)
        return round(value) if self.whole else value


def check(over: Any) -> dict[str, Range | list[Any]]:
    """The axes: of each setting its values, or a range."""
    if not isinstance(over, Mapping) or not over:
        raise TypeError(f"over must be a mapping such as {{'lr': [0.01, 0.1]}}, got {over!r:.80}")
    known = _TRAINING | OPTIONS | of_optimizers()
    found: dict[str, Range | list[Any]] = {}
    for given, values in over.items():
        name = check_choice("over", given, sorted(known))
        if isinstance(values, tuple) and 2 <= len(values) <= 3 and all(_is_number(one) for one in values[:2]):
            log = len(values) == 3 and check_choice(f"over[{name!r}][2]", values[2], ["log"]) == "log"
            low, high = float(values[0]), float(values[1])
            if not (math.isfinite(low) and math.isfinite(high) and low < high) or (log and low <= 0):
                raise ValueError(
                    f"over[{name!r}] must run from a smaller to a larger number{' above 0' * log}: {values}"
                )
            found[name] = Range(low, high, log, name in _WHOLE)
            continue
        if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
            raise TypeError(
                f"over[{name!r}] must be a list of values, or a range (low, high) or (low, high, 'log'), got {values!r}"
            )
        listed_values = values.tolist() if isinstance(values, np.ndarray) else list(values)
        if not listed_values:
            raise ValueError(f"over[{name!r}] is empty")
        found[name] = listed_values
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def points(axes: Mapping[str, Range | list[Any]], sampling: str, n: int | None, seed: int) -> list[dict[str, Any]]:
    """The settings of each point; of a grid all combinations, else n that are drawn by the seed.

    Raises
    ------
    ValueError
        A range on a grid, or no `n`.
    ImportError
        Sobol's sequence needs SciPy.
    """
    sampling = check_choice("sampling", sampling, SAMPLINGS)
    if sampling == "grid":
        ranges = [name for name, axis in axes.items() if isinstance(axis, Range)]
        if ranges:
            raise ValueError(f"a grid takes lists: give values for {listed(ranges)}, or sampling='random' or 'sobol'")
        if n is not None:
            raise ValueError("n is for sampling='random' or 'sobol': a grid has all combinations")
        return [dict(zip(axes, one, strict=True)) for one in itertools.product(*axes.values())]  # type: ignore[arg-type]
    if n is None or n < 1:
        raise ValueError(f"sampling={sampling!r} needs n, the number of settings to draw, at least 1; got {n!r}")
    if sampling == "sobol":
        try:
            from scipy.stats import qmc
        except ImportError as error:
            raise ImportError("sampling='sobol' needs SciPy: pip install scipy (random needs nothing)") from error
        drawn = qmc.Sobol(len(axes), seed=seed % 2**32).random_base2(max(0, math.ceil(math.log2(n))))[:n]
    else:
        drawn = np.random.default_rng(seed).random((n, len(axes)))
    return [
        {
            name: axis.at(u) if isinstance(axis, Range) else axis[min(int(u * len(axis)), len(axis) - 1)]
            for (name, axis), u in zip(axes.items(), row, strict=True)
        }
        for row in drawn.tolist()
    ]


def parts(
    point: Mapping[str, Any], optimizer: Any, training: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(options of the network, arguments of the training) at a point, on top of what holds for all.

    Raises
    ------
    ValueError
        An optimiser does not have a setting.
    """
    network = {name: value for name, value in point.items() if name in OPTIONS}
    given = {**training, **{name: value for name, value in point.items() if name in _TRAINING}}
    rule = optimizers.get(given.get("optimizer", optimizer))
    fields = {name: value for name, value in point.items() if name not in OPTIONS and name not in _TRAINING}
    known = {field.name for field in dataclasses.fields(rule) if field.init}
    if missing := [name for name in fields if name not in known]:
        raise ValueError(f"{rule!r} has no {missing[0]}: leave it out of `over`, or sweep optimisers that have it")
    given["optimizer"] = dataclasses.replace(rule, **fields)
    return network, given


def keys(names: Sequence[str], configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Columns of the settings; what is no number or text by its `repr`."""
    return {
        name: [one[name] if isinstance(one[name], int | float | str) else repr(one[name]) for one in configs]
        for name in names
    }
