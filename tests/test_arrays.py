"""What is taken as samples and targets: data frames, nullable columns; and what is said of that which is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas
import pytest

import fastbp
from fastbp import MLP, CrossEntropy, arrays

RNG = np.random.default_rng(4)
N = 12
NUMBERS = {"size": RNG.standard_normal(N), "rooms": RNG.integers(1, 9, N), "new": np.arange(N) % 2 == 0}
PLAIN = np.column_stack([np.asarray(column, np.float64) for column in NUMBERS.values()])
CLASSES = np.arange(N) % 3


def network(**options: Any) -> MLP:
    return MLP([3, 4, 3], seed=0, **options)


class Column:
    """Of a frame of another library: polars has no `iloc`."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)
        self.dtype = self.values.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.values


class Frame(dict):  # type: ignore[type-arg]
    columns = property(lambda self: list(self))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.column_stack([np.asarray(one).astype(object) for one in self.values()])


FRAMES: dict[str, Callable[[], Any]] = {
    "bool, int and float": lambda: pandas.DataFrame(NUMBERS),
    "bool and int": lambda: pandas.DataFrame({name: NUMBERS[name] for name in ("rooms", "new")}).assign(size=0),
    "get_dummies": lambda: pandas.get_dummies(pandas.DataFrame({"size": NUMBERS["size"], "kind": list("ab") * 6})),
    "nullable": lambda: pandas.DataFrame(NUMBERS).convert_dtypes(),
    "other library": lambda: Frame({name: Column(values) for name, values in NUMBERS.items()}),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_of_numbers_and_booleans(kind: str) -> None:
    frame = FRAMES[kind]()
    columns = [frame.iloc[:, k] if hasattr(frame, "iloc") else frame[k] for k in range(3)] if kind != "other library" \
        else list(frame.values())  # fmt: skip
    plain = np.column_stack([np.asarray(one).astype(np.float64) for one in columns])
    net = network()
    np.testing.assert_array_equal(net.predict_proba(frame), net.predict_proba(plain))
    net.standardize(frame)
    twin = network()
    twin.standardize(plain)
    assert net.fit(frame, CLASSES, epochs=2).loss == twin.fit(plain, CLASSES, epochs=2).loss
    assert net.evaluate(frame, pandas.Series(CLASSES)) == twin.evaluate(plain, CLASSES)
    assert net.fit([(frame, CLASSES)], epochs=1).loss == twin.fit([(plain, CLASSES)], epochs=1).loss


def test_frames_wherever_samples_go() -> None:
    frame = pandas.DataFrame(NUMBERS)
    net, y = network(activation="tanh"), pandas.Series(CLASSES, dtype="Int64")
    watch = fastbp.callbacks.LayerStatistics(frame, y)
    net.fit(frame, y, epochs=1, callbacks=[watch], validation_data=(frame, y))
    assert len(watch.records) == 2
    assert fastbp.check_gradients(net, frame, y) < 1e-6
    assert fastbp.lr_stability(net, frame, y).eigenvalues[0] == fastbp.lr_stability(net, PLAIN, CLASSES).eigenvalues[0]
    assert fastbp.lr_sweep(net, frame, y, [0.01], seeds=1, epochs=1, validation_data=(frame, y)).eligible.all()
    assert np.isfinite(fastbp.lr_range_test(net, frame, y, n_steps=20, seeds=1).losses).any()
    ignoring = network(loss=CrossEntropy(ignore_index=-1))
    ignoring.fit(frame, pandas.Series(np.where(CLASSES == 2, -1, CLASSES), dtype="Int64"), epochs=1)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (list("uvwx") * 3, "holds text, such as 'u'"),
        (pandas.array(list("uvwx") * 3, dtype="string"), "holds text, such as 'u'"),
        (pandas.Categorical(list("uvwx") * 3), "holds text, such as 'u'"),
        (pandas.date_range("2024", periods=N), "holds dates"),
        (pandas.to_timedelta(np.arange(N), unit="s"), "holds durations"),
        ([1.0, "n/a"] * 6, "holds text, such as 'n/a'"),
        ([[1], [2]] * 6, "holds text, such as"),
        (np.arange(N) * 1j, "holds complex numbers"),
    ],
    ids=["object", "string", "category", "dates", "durations", "mixed", "lists", "complex"],
)
def test_a_column_that_is_no_number_is_named(column: Any, says: str) -> None:
    frame = pandas.DataFrame({"size": NUMBERS["size"], "town": column, "new": NUMBERS["new"]})
    net = network()
    for use in (
        net.predict, net.forward, net.standardize, lambda X: net.fit(X, CLASSES), lambda X: net.evaluate(X, CLASSES),
        lambda X: net.fit(PLAIN, CLASSES, validation_data=(X, CLASSES)),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=rf"X has a column 'town' that {says}.*: encode it .*or leave it out"):
            use(frame)


def test_missing_values_in_frames_are_named() -> None:
    frame = pandas.DataFrame(NUMBERS).convert_dtypes()
    frame.loc[7, "rooms"] = pandas.NA
    with pytest.raises(ValueError, match=r"X\[7, 1\] is nan; every value must be finite: drop or fill"):
        network().fit(frame, CLASSES)
    with pytest.raises(ValueError, match=r"y\[3, 0\] is nan"):
        MLP([3, 1], loss="mse").fit(PLAIN, pandas.Series([1, 2, 3, None] * 3, dtype="Int64"))


def test_large_integers_of_frames_keep_their_digits() -> None:
    frame = pandas.DataFrame({"t": pandas.array(2**53 - np.arange(N), dtype="Int64"), "flag": NUMBERS["new"]})
    np.testing.assert_array_equal(arrays.numeric(frame, "X")[:, 0], 2.0**53 - np.arange(N))


@pytest.mark.parametrize(
    ("X", "says"),
    [
        ([[1, "a", 2.0]] * N, r"X\[0, 1\] is 'a': numbers are needed"),
        (np.array([[1, 2, 3]] * (N - 1) + [[1, 2, "b"]], dtype=object), rf"X\[{N - 1}, 2\] is 'b'"),
        ([[1, None, 2.0]] * N, r"X\[0, 1\] is None: numbers are needed"),
        (PLAIN.astype(str), r"dtype <U32; numbers are needed: pass np.asarray\(X\).astype\('float64'\)"),
        (PLAIN.astype(object), r"dtype object; numbers are needed: pass np.asarray\(X\).astype\('float64'\)"),
    ],
)
def test_text_among_numbers_is_named(X: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        network().predict(X)


# --- targets ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "error", "says"),
    [
        (RNG.random(N), TypeError, r"y\[0\] is 0\.\d+: to learn numbers, make the network with loss='mse'"),
        (np.array([0.0, 1.0, 2.5] * 4), TypeError, r"y\[2\] is 2.5: to learn numbers, .*loss='mse'"),
        (CLASSES.astype(float), TypeError, r"pass y.astype\('int64'\), or prob.*if these are numbers.*loss='mse'"),
        (np.array([0, 1, np.nan] * 4), ValueError, r"y has no label in 4 of 12 rows \(row 2, 5, 8, 11\): leave such"),
        (np.array([np.nan] * N), ValueError, r"y has no label in 12 of 12 rows \(row 0, 1, 2, 3, 4, \.\.\.\)"),
        (np.array(["a", None, "b"] * 4, object), ValueError, r"y has no label in 4 of 12 rows \(row 1, 4, 7, 10\)"),
        (["a", float("nan"), "b"] * 4, ValueError, r"y has no label in 4 of 12 rows"),
        (pandas.Series(["a", None, "b"] * 4), ValueError, r"y has no label in 4 of 12 rows"),
        (pandas.Series([0, None, 2] * 4, dtype="Int64"), ValueError, r"y has no label in 4 of 12 rows"),
        (pandas.Series(["a", None] * 6, dtype="category"), ValueError, r"y has no label in 6 of 12 rows"),
        (pandas.DataFrame({"y": ["a", None, "b"] * 4}), ValueError, r"y has no label in 4 of 12 rows"),
        (np.array([0, 1, 2] * 4, object), TypeError, r"integers: pass y.astype\('int64'\)"),
        (np.array(list("abc") * 4), TypeError, r"names, y = np.unique\(y, return_inverse=True\)"),
        (pandas.Series(list("abc") * 4, dtype="category"), TypeError, r"names, y = np.unique"),
        ([], ValueError, "y has 0 rows, but X has 12"),
    ],
)
def test_targets_that_are_no_labels(y: Any, error: type[Exception], says: str) -> None:
    net = network()
    for use in (net.fit, net.evaluate, net.backprop, lambda X, y: net.train_step(X, y, "sgd")):
        with pytest.raises(error, match=says):
            use(PLAIN, y)
    assert net.history is None


def test_the_mends_are_right() -> None:
    """What the messages propose is taken."""
    names = np.array(list("abc") * 4)
    _, y = np.unique(names, return_inverse=True)
    network().fit(PLAIN, y, epochs=1)
    network(loss="mse").fit(PLAIN, RNG.random((N, 3)), epochs=1)
    labels = np.array([0, 1, np.nan] * 4)
    ignored = np.where(np.isnan(labels), -1, labels).astype("int64")
    network(loss=CrossEntropy(ignore_index=-1)).fit(PLAIN, ignored, epochs=1)
    network().fit(PLAIN.astype(str).astype("float64"), y, epochs=1)
    two = MLP([3, 1], loss="binary_cross_entropy", seed=0)
    with pytest.raises(TypeError, match=r"names, y = np\.unique"):
        two.fit(PLAIN, np.array(["yes", "no"] * 6))
    two.fit(PLAIN, np.unique(np.array(["yes", "no"] * 6), return_inverse=True)[1], epochs=1)


# --- nothing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("X", [[], PLAIN[:0], np.zeros((0, 7)), np.zeros(0), pandas.DataFrame(), [[]]], ids=str)
def test_no_rows(X: Any) -> None:
    net, nothing = network(), np.zeros(0, np.int64)
    for use in (
        net.predict, net.predict_proba, net.forward, net.standardize, lambda X: net.fit(X, nothing),
        lambda X: net.evaluate(X, nothing), lambda X: net.train_step(X, nothing, "sgd"),
        lambda X: net.fit(PLAIN, CLASSES, validation_data=(X, nothing)), lambda X: net.fit([(X, nothing)]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"X.* has 0 rows, at least 1 needed: shape|X.* got \(0,\): it has no rows|"
                           r"X has 0 columns"):  # fmt: skip
            use(X)
