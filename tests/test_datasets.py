"""The embedded digits are the published ones; synthetic sets and splits keep their promises."""

from __future__ import annotations

import numpy as np
import pytest
from peers import needs, sklearn_datasets

from fastbp import datasets


def test_digits_shape_scale_and_dtype() -> None:
    digits = datasets.load_digits()
    assert digits.X.shape == (1797, 64)
    assert digits.X.dtype == np.float32
    assert digits.X.min() == 0.0
    assert digits.X.max() == 1.0
    assert digits.y.shape == (1797,)
    assert digits.y.dtype == np.int64
    assert np.bincount(digits.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@needs("sklearn")
def test_digits_equal_the_published_copy() -> None:
    published = sklearn_datasets.load_digits()
    X, y = datasets.load_digits()
    np.testing.assert_array_equal(X * 16, published.data)
    np.testing.assert_array_equal(y, published.target)


def test_digits_are_attributed() -> None:
    attribution = datasets.load_digits().attribution
    for expected in ("Alpaydin", "Kaynak", "CC BY 4.0", "10.24432/C50P49"):
        assert expected in attribution


def test_callers_cannot_spoil_the_digits_for_each_other() -> None:
    datasets.load_digits().X[:] = -1
    assert datasets.load_digits().X.min() == 0.0


@pytest.mark.parametrize(("n_samples", "n_features", "n_classes"), [(300, 5, 3), (7, 1, 7), (1000, 40, 4)])
def test_classification(n_samples: int, n_features: int, n_classes: int) -> None:
    X, y = datasets.make_classification(n_samples, n_features, n_classes, seed=3)
    assert X.shape == (n_samples, n_features)
    assert X.dtype == np.float32
    assert y.dtype == np.int64
    counts = np.bincount(y, minlength=n_classes)
    assert counts.size == n_classes
    assert counts.max() - counts.min() <= 1
    again, _ = datasets.make_classification(n_samples, n_features, n_classes, seed=3)
    other, _ = datasets.make_classification(n_samples, n_features, n_classes, seed=4)
    np.testing.assert_array_equal(X, again)
    assert not np.array_equal(X, other)


def test_classification_is_learnable_but_overlaps() -> None:
    X, y = datasets.make_classification(4000, 10, 3, seed=0)
    nearest = ((X[3000:, None] - X[None, :3000]) ** 2).sum(axis=2).argsort(axis=1)[:, :15]
    votes = np.array([np.bincount(row, minlength=3) for row in y[nearest]])
    assert 0.6 < (votes.argmax(axis=1) == y[3000:]).mean() < 0.98


@pytest.mark.parametrize("n_targets", [1, 3])
def test_regression(n_targets: int) -> None:
    X, y = datasets.make_regression(2000, 6, n_targets, noise=0.0, seed=1)
    assert X.dtype == y.dtype == np.float32
    assert y.shape == ((2000,) if n_targets == 1 else (2000, 3))
    np.testing.assert_allclose(y.std(axis=0), 1.0, rtol=1e-4)
    noisy = datasets.make_regression(2000, 6, n_targets, noise=0.5, seed=1).y
    assert abs((noisy - y).std() - 0.5) < 0.03


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: datasets.make_classification(2, 3, 3), "n_samples must be at least 3; got 2"),
        (lambda: datasets.make_classification(9, 0, 3), "n_features must be at least 1; got 0"),
        (lambda: datasets.make_classification(9, 3, 1), "n_classes must be at least 2; got 1"),
        (lambda: datasets.make_regression(1, 3), "n_samples must be at least 2; got 1"),
        (lambda: datasets.make_regression(9, 3, 0), "n_targets must be at least 1; got 0"),
        (lambda: datasets.make_regression(9, 3, noise=-1.0), "noise must be a finite number of at least 0, got -1.0"),
        (lambda: datasets.make_regression(9, 3, noise=np.nan), "noise must be a finite number"),
    ],
)
def test_bad_sizes(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def _rows(parts: list[np.ndarray]) -> np.ndarray:
    return np.sort(np.concatenate(parts))


@pytest.mark.parametrize("fraction", [0.01, 0.2, 1 / 3, 0.5, 0.99])
def test_split_is_a_partition_and_stratified(fraction: float) -> None:
    y = np.repeat([0, 1, 7], [100, 31, 4])
    X = np.arange(len(y), dtype=np.float32)[:, None]
    X_train, X_test, y_train, y_test = datasets.train_test_split(X, y, fraction, seed=5)
    np.testing.assert_array_equal(_rows([X_train[:, 0], X_test[:, 0]]), X[:, 0])
    np.testing.assert_array_equal(y[X_train[:, 0].astype(int)], y_train)
    np.testing.assert_array_equal(y[X_test[:, 0].astype(int)], y_test)
    for label, count in ((0, 100), (1, 31), (7, 4)):
        found = int((y_test == label).sum())
        assert 1 <= found <= count - 1
        assert abs(found - np.clip(count * fraction, 1, count - 1)) < 1


def test_split_has_the_size_asked_for() -> None:
    X, y = datasets.load_digits()
    for seed in range(3):
        X_train, X_test, *_ = datasets.train_test_split(X, y, 0.2, seed=seed)
        assert len(X_test) == round(0.2 * len(y))
        assert len(X_train) + len(X_test) == len(y)


def test_split_follows_the_seed() -> None:
    X, y = datasets.load_digits()
    first, same, other = (datasets.train_test_split(X, y, 0.2, seed=seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
    assert not np.array_equal(np.sort(datasets.train_test_split(X, y, 0.5, seed=0)[3][:20]), np.zeros(20))


def test_split_of_real_targets_and_without_stratification() -> None:
    X, y = np.arange(10.0)[:, None], np.arange(10.0)
    assert [len(part) for part in datasets.train_test_split(X, y, 0.25, seed=0)] == [8, 2, 8, 2]
    assert [len(part) for part in datasets.train_test_split(X, y, 0.001, seed=0)] == [9, 1, 9, 1]
    # Ten classes of one row each: only without regard to classes.
    assert len(datasets.train_test_split(X, y.astype(int), 0.3, seed=0, stratify=False)[1]) == 3


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_split_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"test_fraction must be a number in \(0, 1\), both ends apart, got"):
        datasets.train_test_split(np.zeros((4, 1)), np.zeros(4), fraction, seed=0)


def test_split_errors() -> None:
    X = np.zeros((4, 2))
    with pytest.raises(ValueError, match=r"same number of rows; got shapes \(4, 2\) and \(3,\)"):
        datasets.train_test_split(X, np.zeros(3), 0.5, seed=0)
    with pytest.raises(ValueError, match="at least 2 rows to be split; got 1"):
        datasets.train_test_split(X[:1], np.zeros(1), 0.5, seed=0)
    with pytest.raises(ValueError, match="class 9 has 1"):
        datasets.train_test_split(X, np.array([0, 0, 0, 9]), 0.5, seed=0)
    with pytest.raises(TypeError, match="stratify=True needs y to be integer classes"):
        datasets.train_test_split(X, np.zeros(4), 0.5, seed=0, stratify=True)


@pytest.mark.parametrize("stratify", [True, False])
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.75])
def test_rows_are_split_as_arrays_are(fraction: float, stratify: bool) -> None:
    y = np.random.default_rng(0).integers(0, 4, 203)
    train, held = datasets.split_rows(y, fraction, 5, stratify=stratify)
    X_train, X_test, _, _ = datasets.train_test_split(np.arange(203), y, fraction, seed=5, stratify=stratify)
    np.testing.assert_array_equal(train, X_train)
    np.testing.assert_array_equal(held, X_test)


@pytest.mark.parametrize(
    ("counts", "fraction", "n_held"),
    [
        ([100, 100, 1], 0.2, 40),
        ([100, 100, 1, 2], 0.2, 41),
        ([100, 100, 4], 0.1, 21),  # a little more, for a row of the rare class
        ([4] * 10, 0.1, 4),
        ([5] * 40 + [4] * 200, 0.02, 20),
        ([1] * 7, 0.3, 2),
        ([2, 1], 0.01, 1),
        ([3, 2], 0.9, 3),
    ],
)
def test_rare_classes_keep_the_share(counts: list[int], fraction: float, n_held: int) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    for seed in range(5):
        train, held = datasets.split_rows(y, fraction, seed, stratify=True)
        assert sorted([*train, *held]) == list(range(len(y)))
        assert len(held) == n_held
        if max(counts) > 1:
            assert np.isin(np.arange(len(counts)), y[train]).all()
            assert not np.isin(y[held], np.flatnonzero(np.array(counts) == 1)).any()


def test_what_is_said_of_rare_classes() -> None:
    y, names = np.repeat(np.arange(8), [9, 1, 1, 1, 1, 1, 1, 9]), list("abcdefgh")
    train, held = datasets.split_rows(y, 0.2, 0, stratify=True)
    expected = "classes b, c, d, e, f and 1 more have too few rows to hold any out: all of them are trained on"
    assert datasets.too_rare(y, train, held, names) == f"{expected} (4 of 24 rows are held out, 16.7 %)"
    assert datasets.too_rare(y % 7, train, held, names[:1]) == ""
