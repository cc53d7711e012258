"""Data to train on without a download: the embedded digits, synthetic sets, and a stratified split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastbp.numerics import quiet
from fastbp.validation import check_inner_fraction, check_non_negative_finite, check_non_negative_int, check_seed

__all__ = ["DIGITS_ATTRIBUTION", "Dataset", "load_digits", "make_classification", "make_regression", "train_test_split"]

DIGITS_ATTRIBUTION = (
    "Optical Recognition of Handwritten Digits, test set; E. Alpaydin and C. Kaynak (1998), "
    "UCI Machine Learning Repository, https://doi.org/10.24432/C50P49; licence CC BY 4.0. "
    "Stored here as unsigned bytes, otherwise unchanged."
)

# A row of each class may stretch the share that is held out to this many times as much; and class names in a message.
_FAR_MORE, _SHOWN = 2.0, 5


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows and what they should map to. Unpacks as `X, y = dataset`.

    Attributes
    ----------
    X : (n_samples, n_features) float32 array
    y : (n_samples,) int64 classes, or float32 targets, `(n_samples,)` or `(n_samples, n_targets)`
    name : str
    description : str
        What a row is, in a sentence.
    attribution : str
        Source and licence; empty for synthetic data.
    """

    X: NDArray[np.float32]
    y: NDArray[Any]
    name: str
    description: str
    attribution: str = ""

    def __iter__(self) -> Iterator[NDArray[Any]]:
        yield self.X
        yield self.y


@quiet
def load_digits() -> Dataset:
    """The UCI optical digits: 1,797 images of 8x8 pixels in ten classes, shipped with the package.

    Returns
    -------
    Dataset
        X float32 `(1797, 64)`, pixels (0 to 16 in the source) scaled to [0, 1]; y int64 `(1797,)`, 0 to 9.
    """
    with (
        resources.files("fastbp").joinpath("data/digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as stored,
    ):
        X = stored["X"].astype(np.float32) / np.float32(16)
        y = stored["y"].astype(np.int64)
    description = "8x8 grey images of handwritten digits, pixels in [0, 1], classes 0 to 9"
    return Dataset(X, y, "digits", description, DIGITS_ATTRIBUTION)


@quiet
def make_classification(n_samples: int, n_features: int, n_classes: int, *, seed: int = 0) -> Dataset:
    """Gaussian clusters, two a class, that overlap: learnable, not linearly separable, never perfectly so.

    Centres are about three standard deviations apart in any number of dimensions, so sets of different width are
    comparably hard. Classes are equally frequent, to within one row.

    Parameters
    ----------
    n_samples, n_features, n_classes : int
        At least 1, 1 and 2; `n_samples >= n_classes`.
    seed : int
        The same seed and sizes give the same rows.

    Returns
    -------
    Dataset
        X float32 `(n_samples, n_features)`, about unit variance; y int64 `(n_samples,)`.

    Raises
    ------
    ValueError
        If a size is too small.
    """
    n_features = _at_least("n_features", n_features, 1)
    n_classes = _at_least("n_classes", n_classes, 2)
    n_samples = _at_least("n_samples", n_samples, n_classes)
    rng = np.random.default_rng(check_seed(seed))
    # Two points drawn with deviation s in d dimensions lie s * sqrt(2 d) apart.
    centres = rng.standard_normal((n_classes, 2, n_features)) * (3.0 / np.sqrt(2 * n_features))
    y = rng.permutation(np.arange(n_samples) % n_classes)
    X = centres[y, rng.integers(0, 2, n_samples)] + rng.standard_normal((n_samples, n_features))
    description = f"two overlapping gaussian clusters for each of {n_classes} classes, seed {seed}"
    return Dataset(X.astype(np.float32), y.astype(np.int64), "classification", description)


@quiet
def make_regression(
    n_samples: int, n_features: int, n_targets: int = 1, *, noise: float = 0.1, seed: int = 0
) -> Dataset:
    """A smooth nonlinear function of normal inputs, plus normal noise.

    `y = sum_j b_j sin(a_j . x + c_j)`, 16 random waves, scaled to unit variance before the noise is added.

    Parameters
    ----------
    n_samples, n_features, n_targets : int
        At least 2, 1 and 1.
    noise : float
        Standard deviation of the noise; 0 for none. The best reachable r2 is `1 / (1 + noise**2)`.
    seed : int
        The same seed and sizes give the same rows.

    Returns
    -------
    Dataset
        X float32 `(n_samples, n_features)`; y float32 `(n_samples,)`, or `(n_samples, n_targets)` if `n_targets > 1`.

    Raises
    ------
    ValueError
        If a size is too small, or `noise` is negative or not finite.
    """
    n_samples = _at_least("n_samples", n_samples, 2)
    n_features = _at_least("n_features", n_features, 1)
    n_targets = _at_least("n_targets", n_targets, 1)
    noise = check_non_negative_finite("noise", noise)
    rng = np.random.default_rng(check_seed(seed))
    n_waves = 16
    X = rng.standard_normal((n_samples, n_features))
    directions = rng.standard_normal((n_features, n_waves)) / np.sqrt(n_features)
    phases = rng.uniform(0, 2 * np.pi, n_waves)
    y = np.sin(X @ directions + phases) @ rng.standard_normal((n_waves, n_targets))
    y = (y - y.mean(axis=0)) / y.std(axis=0) + noise * rng.standard_normal(y.shape)
    y = y[:, 0] if n_targets == 1 else y
    description = f"sum of {n_waves} random sine waves with noise {noise:g}, seed {seed}"
    return Dataset(X.astype(np.float32), y.astype(np.float32), "regression", description)


@quiet
def train_test_split(
    X: ArrayLike, y: ArrayLike, test_fraction: float, *, seed: int, stratify: bool | None = None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Split rows at random into a training and a test part.

    Parameters
    ----------
    X, y : array_like
        Rows and their targets, of equal length.
    test_fraction : float
        Share of the rows that go to the test part, between 0 and 1, both excluded; either part gets at least one row.
    seed : int
        The same seed gives the same split.
    stratify : bool, optional
        Give each class its share of both parts, at least one row in each. By default when y is one-dimensional and of
        an integer (or bool) dtype.

    Returns
    -------
    X_train, X_test, y_train, y_test : arrays
        Copies, in random order.

    Raises
    ------
    ValueError
        If lengths differ, `test_fraction` is out of range, there are fewer than two rows, or a class to be stratified
        has a single row.
    TypeError
        If `stratify=True` and y does not hold integer classes.
    """
    X, y = np.asarray(X), np.asarray(y)
    if X.ndim == 0 or y.ndim == 0 or len(X) != len(y):
        raise ValueError(f"X and y must have the same number of rows; got shapes {X.shape} and {y.shape}")
    if len(X) < 2:
        raise ValueError(f"X must have at least 2 rows to be split; got {len(X)}")
    test_fraction = check_inner_fraction("test_fraction", test_fraction)
    are_classes = y.ndim == 1 and y.dtype.kind in "iub"
    if stratify and not are_classes:
        raise TypeError(f"stratify=True needs y to be integer classes (n,); got {y.dtype} of shape {y.shape}")
    by_class = are_classes if stratify is None else stratify
    if by_class:
        classes, counts = np.unique(y, return_counts=True)
        if counts.min() < 2:
            lonely = classes[counts.argmin()]
            raise ValueError(f"y must hold at least 2 rows of every class to be stratified; class {lonely} has 1 "
                             "(stratify=False splits without regard to classes)")  # fmt: skip
    train, test = _split(y, test_fraction, check_seed(seed), stratify=by_class, strict=True)
    return X[train], X[test], y[train], y[test]


def split_rows(
    y: NDArray[Any], fraction: float, seed: int, *, stratify: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the rows to train on and of those held out, in random order.

    As `train_test_split` does, but that a class of a single row is trained on; and so are classes of a few rows, where
    a row of each would hold out far more than the share that was asked for. `too_rare` tells.
    """
    if len(y) < 2:
        raise ValueError(f"X must have at least 2 rows for some to be held out; got {len(y)}")
    return _split(y, fraction, seed, stratify=stratify, strict=False)


def too_rare(
    y: NDArray[Any], train: NDArray[np.int64], held: NDArray[np.int64], names: Sequence[Any], n: int | None = None
) -> str:  # fmt: skip
    """Say which of the classes 0, 1, ... of y, by their names, have rows to train on alone; empty if there is none.

    A class beyond the names is none: the label that a loss ignores.
    """
    rows = n or len(y)
    rare = np.setdiff1d(y[train], y[held]).tolist()
    shown = [str(names[k]) for k in rare if k < len(names)]
    if not shown:
        return ""
    more = f" and {len(shown) - _SHOWN:,} more" if len(shown) > _SHOWN else ""
    which = f"class {shown[0]} has" if len(shown) == 1 else f"classes {', '.join(shown[:_SHOWN])}{more} have"
    return (
        f"{which} too few rows to hold any out: all of them are trained on ({len(held):,} of {rows:,} rows are held "
        f"out, {100 * len(held) / rows:.3g} %)"
    )


def _split(
    y: NDArray[Any], fraction: float, seed: int | None, *, stratify: bool, strict: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers of both parts; either has at least one."""
    rng = np.random.default_rng(seed)
    is_test = _stratified_mask(y, fraction, rng, strict=strict) if stratify else np.zeros(len(y), np.bool_)
    if not is_test.any():  # not by classes, or each class has one row
        n_test = min(max(round(len(y) * fraction), 1), len(y) - 1)
        is_test = rng.permutation(len(y)) < n_test
    return rng.permutation(np.flatnonzero(~is_test)), rng.permutation(np.flatnonzero(is_test))


def _stratified_mask(y: NDArray[Any], fraction: float, rng: np.random.Generator, *, strict: bool) -> NDArray[np.bool_]:
    """Which rows go to the test part: each class by its share, the rows left over to the largest remainders.

    strict: at least one row of each class, in both parts. Otherwise only while that keeps about to the share.
    """
    members, counts = np.unique(y, return_inverse=True, return_counts=True)[1:]
    shares = np.where(counts > 1, counts * fraction, 0.0)
    asked = round(int(counts[counts > 1].sum()) * fraction)

    def by_remainders(order: NDArray[np.int64]) -> NDArray[np.int64]:
        n_test = np.floor(shares).astype(np.int64)
        left_over = max(0, asked - int(n_test.sum()))
        n_test[order[np.argsort((n_test - shares)[order], kind="stable")][:left_over]] += 1
        return n_test

    n_test = np.clip(by_remainders(np.arange(len(counts))), np.minimum(1, counts - 1), counts - 1)
    if not strict and n_test.sum() > _FAR_MORE * max(asked, 1):
        n_test = np.minimum(by_remainders(rng.permutation(len(counts))), counts - 1)
    is_test = np.zeros(len(y), dtype=np.bool_)
    for k, n in enumerate(n_test):
        is_test[rng.permutation(np.flatnonzero(members == k))[:n]] = True
    return is_test


def _at_least(name: str, value: int, smallest: int) -> int:
    number = check_non_negative_int(name, value)
    if number < smallest:
        raise ValueError(f"{name} must be at least {smallest}; got {number}")
    return number
