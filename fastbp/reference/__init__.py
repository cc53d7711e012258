"""The same network in NumPy alone: the baseline of the benchmark, and in float64 the oracle of the tests."""

from fastbp.reference.network import NumpyMLP

__all__ = ["NumpyMLP"]
