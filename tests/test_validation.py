"""What users hand in: accepted in place, converted once, or refused with the name, the value and what is expected."""

from __future__ import annotations

import dataclasses
import pickle
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fastbp import arrays, losses, validation
from fastbp.data import checks, sample_weights
from fastbp.spec import NetworkSpec

F32, F64 = np.dtype("float32"), np.dtype("float64")


CLASSES, BINARY = losses.CrossEntropy(), losses.BinaryCrossEntropy()
REAL, COUNTS = losses.MSE(), losses.Poisson()


class Sparse:
    """Looks like a scipy.sparse matrix."""

    nnz = 3

    def toarray(self) -> Any:
        return np.eye(3)


def check_X(X: Any, n_in: int = 3, dtype: np.dtype[Any] = F32, **options: Any) -> Any:
    return checks.check_X(X, n_in, dtype=dtype, **options)


# --- single values


@pytest.mark.parametrize("sizes", [[4, 3], (4, 8, 2), np.array([1, 1]), range(2, 5)])
def test_sizes_become_a_tuple_of_ints(sizes: Any) -> None:
    checked = validation.check_sizes(sizes)
    assert checked == tuple(int(n) for n in sizes)
    assert all(type(n) is int for n in checked)


@pytest.mark.parametrize(
    ("sizes", "error", "says"),
    [
        ([4], ValueError, "at least two"),
        ([], ValueError, "at least two"),
        (64, TypeError, "64"),
        ("64,10", TypeError, "64,10"),
        ({4, 3}, TypeError, "sizes"),
        ([4, 0, 2], ValueError, r"sizes\[1\].*0"),
        ([4, -3], ValueError, r"sizes\[1\].*-3"),
        ([4, 2.0], TypeError, r"sizes\[1\].*2.0"),
        ([True, 2], TypeError, r"sizes\[0\].*True"),
    ],
)
def test_bad_sizes(sizes: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        validation.check_sizes(sizes)


@pytest.mark.parametrize("seed", [None, 0, 7, 2**64 - 1, np.uint64(2**64 - 1)])
def test_seeds(seed: Any) -> None:
    assert validation.check_seed(seed) == seed


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (2**64, ValueError), (True, TypeError), (1.0, TypeError), ("1", TypeError)]
)
def test_bad_seeds(seed: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="seed must be None or an integer"):
        validation.check_seed(seed)


@pytest.mark.parametrize("dtype", ["float32", np.float32, F32, "f4"])
def test_dtype(dtype: Any) -> None:
    assert validation.check_dtype(dtype) == F32


@pytest.mark.parametrize("dtype", ["float16", "int64", None, "x", np.dtype(">f4"), 3, float("nan")])
def test_bad_dtype(dtype: Any) -> None:
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64'"):
        validation.check_dtype(dtype)


@pytest.mark.parametrize("value", [-1.0, 0, float("nan"), float("inf"), 10**400, np.float32("nan")])
def test_not_positive_and_finite(value: Any) -> None:
    with pytest.raises(ValueError, match="lr must be a positive finite number, got "):
        validation.check_positive_finite("lr", value)


@pytest.mark.parametrize("value", ["0.1", None, True, [0.1], np.bool_(True)])
def test_not_a_number(value: Any) -> None:
    with pytest.raises(TypeError, match=r"lr must be a positive finite number, got .* of type"):
        validation.check_positive_finite("lr", value)


def test_numbers_come_back_as_python_numbers() -> None:
    assert type(validation.check_positive_finite("lr", np.float32(0.5))) is float
    assert type(validation.check_positive_int("epochs", np.int8(3))) is int
    assert validation.check_non_negative_finite("weight_decay", 0) == 0.0
    assert validation.check_fraction("momentum", 0) == 0.0


@pytest.mark.parametrize("value", [1.0, -0.1, float("nan")])
def test_bad_fraction(value: float) -> None:
    with pytest.raises(ValueError, match=r"validation_split must be a number in \[0, 1\)"):
        validation.check_fraction("validation_split", value)


def test_choice_hints_at_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"loss='cross_entrpy' is unknown \(did you mean 'cross_entropy'\?\); choose"):
        validation.check_choice("loss", "cross_entrpy", ["mse", "cross_entropy"])
    with pytest.raises(ValueError, match="did you mean 'relu'"):
        validation.check_choice("activation", "ReLU", ["tanh", "relu"])
    with pytest.raises(TypeError, match="loss must be one of mse, mae, got 3"):
        validation.check_choice("loss", 3, ["mse", "mae"])


def test_activations_one_for_all_or_one_each() -> None:
    names = ["relu", "tanh"]
    assert validation.check_activations("relu", 3, names) == ("relu",) * 3
    assert validation.check_activations(["relu", SimpleNamespace(name="tanh")], 2, names) == ("relu", "tanh")
    assert validation.check_activations("relu", 0, names) == ()
    with pytest.raises(ValueError, match="lists 1 entries for 2 hidden layers"):
        validation.check_activations(["relu"], 2, names)
    with pytest.raises(ValueError, match=r"activation\[1\]='tahn' is unknown \(did you mean 'tanh'"):
        validation.check_activations(["relu", "tahn"], 2, names)
    with pytest.raises(ValueError, match="'nope'"):  # also when there is no hidden layer to use it
        validation.check_activations("nope", 0, names)


# --- X


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_X_is_read_in_place(dtype: str, tmp_path: Any) -> None:
    base = np.arange(48).reshape(8, 6).astype(dtype)
    frozen = base[:, :3].copy()
    frozen.flags.writeable = False
    mapped: Any = np.memmap(tmp_path / "x", dtype=dtype, mode="w+", shape=(8, 3))
    broadcast = np.broadcast_to(base[0, :3], (5, 3))
    for X in (
        base[:, :3],
        base[::2, ::2],
        base[::-1, 5:2:-1],
        np.asfortranarray(base[:, :3]),
        frozen,
        mapped,
        broadcast,
    ):
        assert check_X(X) is X
    assert isinstance(check_X(mapped), np.memmap)


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint16", "bool", "float16", ">f4", ">f8", "longdouble"])
def test_X_of_other_dtypes_is_converted_once(dtype: str) -> None:
    X = np.array([[0, 1, 0], [1, 1, 0]], dtype=dtype)
    for network in (F32, F64):
        checked = check_X(X, dtype=network)
        assert checked.dtype == network
        assert checked.dtype.isnative
        np.testing.assert_array_equal(checked, X.astype(network))


def test_X_from_lists_subclasses_and_unaligned_fields() -> None:
    np.testing.assert_array_equal(check_X([[1, 2, 3]]), [[1, 2, 3]])
    np.testing.assert_array_equal(check_X(((1.5, 2, 3),)), [[1.5, 2, 3]])
    records = np.zeros(4, dtype=np.dtype([("pad", "u1"), ("x", "f4", (3,))]))
    records["x"] = 7
    assert not records["x"].flags.aligned
    assert check_X(records["x"]).flags.aligned
    masked = np.ma.masked_array(np.ones((2, 3)), mask=False)
    assert type(check_X(masked)) is np.ndarray


@pytest.mark.parametrize(
    ("X", "error", "says"),
    [
        (np.zeros(3), ValueError, r"X\.reshape\(1, -1\)"),
        (np.zeros(7), ValueError, r"X\.reshape\(-1, 1\)"),
        (np.zeros((4, 28, 28)), ValueError, r"X\.reshape\(len\(X\), -1\)"),
        (3.0, ValueError, "single value"),
        (np.zeros((4, 5)), ValueError, "X has 5 columns, but the network takes 3 inputs"),
        (np.zeros((0, 3)), ValueError, "X has 0 rows, at least 1 needed"),
        ([], ValueError, r"X must have shape \(rows, 3\), got \(0,\)"),
        ([[1, 2, 3], [1, 2]], ValueError, "rows differ in length"),
        (Sparse(), TypeError, r"sparse.*X\.toarray\(\)"),
        (np.zeros((2, 3), dtype=object), TypeError, "object"),
        ([["a", "b", "c"]], TypeError, "<U1"),
        (np.zeros((2, 3), dtype=complex), TypeError, r"complex128.*X\.real"),
        (np.zeros((2, 3), dtype="datetime64[s]"), TypeError, "datetime64"),
        (np.ma.masked_array(np.ones((2, 3)), mask=True), TypeError, "masked"),
        (None, TypeError, "X has dtype object"),
    ],
)
def test_bad_X(X: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        check_X(X)


def test_one_input_column_and_the_name_in_errors() -> None:
    with pytest.raises(ValueError, match=r"X_val must have shape \(rows, 1\), got \(7,\); use X_val\.reshape\(-1, 1\)"):
        check_X(np.zeros(7), 1, name="X_val")


def test_min_rows_zero_allows_no_rows() -> None:
    assert check_X(np.zeros((0, 3)), min_rows=0).shape == (0, 3)


# --- y


@pytest.mark.parametrize("dtype", ["int64", "uint8", "int16", "uint64", ">i4", "bool"])
def test_labels_become_int64(dtype: str) -> None:
    y = np.array([0, 1, 1, 0], dtype=dtype)
    checked = checks.check_y(y[::-1], CLASSES, 4, 3, F32)
    assert checked.dtype == np.int64
    assert checked.flags.c_contiguous
    np.testing.assert_array_equal(checked, [0, 1, 1, 0])


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (np.array([0, 1, 10]), r"y\[2\] is 10, but labels for 10 outputs run from 0 to 9"),
        (np.array([0, -1, 1]), r"y\[1\] is -1"),
        (np.array([0, 2**63, 1], dtype=np.uint64), rf"y\[1\] is {2**63}"),
    ],
)
@pytest.mark.parametrize("scan", [True, False])
def test_labels_out_of_range(y: Any, says: str, scan: bool) -> None:
    with pytest.raises(ValueError, match=says):
        checks.check_y(y, CLASSES, 3, 10, F32, scan=scan)


def test_labels_of_the_wrong_type_say_how_to_mend_it() -> None:
    with pytest.raises(TypeError, match=r"float64.*y_val\.astype\('int64'\)"):
        checks.check_y(np.array([0.0, 1.0]), CLASSES, 2, 3, F32, name="y_val")
    with pytest.raises(TypeError, match=r"np\.unique\(y, return_inverse=True\)"):
        checks.check_y(["cat", "dog"], CLASSES, 2, 3, F32)


def test_probabilities() -> None:
    p = np.array([[0.25, 0.75], [1.0, 0.0]])
    checked = checks.check_y(p, CLASSES, 2, 2, F32)
    assert checked.dtype == F32
    np.testing.assert_array_equal(checked, p)
    one_hot = checks.check_y(np.eye(3, dtype=int), CLASSES, 3, 3, F64)
    np.testing.assert_array_equal(one_hot, np.eye(3))
    with pytest.raises(ValueError, match=r"y\[1\] sums to 0.9"):
        checks.check_y([[0.5, 0.5], [0.5, 0.4]], CLASSES, 2, 2, F32)
    with pytest.raises(ValueError, match=r"y\[0, 1\] is -0.5; cross_entropy takes probabilities"):
        checks.check_y([[1.5 - 0.5, -0.5], [0.5, 0.5]], CLASSES, 2, 2, F32)


@pytest.mark.parametrize(("n_out", "shape"), [(1, (4,)), (1, (4, 1)), (3, (4, 3))])
@pytest.mark.parametrize("loss", [BINARY, REAL, COUNTS])
def test_targets_take_the_shape_of_the_outputs(loss: losses.Loss, n_out: int, shape: tuple[int, ...]) -> None:
    for y in (np.ones(shape), np.ones(shape, dtype=bool), np.ones(shape, dtype=">f4"), np.ones(shape[::-1]).T):
        checked = checks.check_y(y, loss, 4, n_out, F32)
        assert checked.shape == (4, n_out)
        assert checked.dtype == F32
        assert checked.flags.c_contiguous


@pytest.mark.parametrize(
    ("loss", "n_out", "shape"),
    [
        (REAL, 2, (4,)),
        (REAL, 2, (4, 1)),
        (REAL, 1, (4, 2)),
        (REAL, 1, (4, 1, 1)),
        (BINARY, 3, (4,)),
        (CLASSES, 3, (4, 2)),
    ],
)
def test_nothing_broadcasts(loss: losses.Loss, n_out: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"y has shape {re.escape(str(shape))}; {loss.name} with {n_out} outputs"):
        checks.check_y(np.ones(shape), loss, 4, n_out, F32)


def test_a_column_of_labels_says_how_to_mend_it() -> None:
    with pytest.raises(ValueError, match=r"pass y\[:, 0\]"):
        checks.check_y(np.ones((4, 1), dtype=int), CLASSES, 4, 3, F32)


def test_rows_of_y_must_match_X() -> None:
    with pytest.raises(ValueError, match="y has 3 rows, but X has 4"):
        checks.check_y(np.ones(3), REAL, 4, 1, F32)
    with pytest.raises(ValueError, match="single value"):
        checks.check_y(1.0, REAL, 1, 1, F32)


@pytest.mark.parametrize(
    ("loss", "value", "says"),
    [
        (REAL, np.nan, r"y\[2, 0\] is nan; every value must be finite"),
        (REAL, -np.inf, r"y\[2, 0\] is -inf"),
        (REAL, 1e39, r"y\[2, 0\] is 1e\+39, too large for a float32 network"),
        (COUNTS, -1.0, r"y\[2, 0\] is -1; poisson takes counts or rates of at least 0"),
        (COUNTS, np.inf, "inf"),
        (BINARY, 2.0, r"y\[2, 0\] is 2; binary_cross_entropy takes 0, 1"),
        (BINARY, -1.0, "is -1"),
        (BINARY, np.nan, "is nan; every value must be finite"),
    ],
)
def test_impossible_targets(loss: losses.Loss, value: float, says: str) -> None:
    y = np.array([0.0, 1.0, value, value])
    with pytest.raises(ValueError, match=says):
        checks.check_y(y, loss, 4, 1, F32)
    assert checks.check_y(y, loss, 4, 1, F32, scan=False).shape == (4, 1)


def test_targets_in_the_right_form_are_not_copied() -> None:
    y = np.ones((4, 2), dtype=F32)
    assert np.shares_memory(checks.check_y(y, REAL, 4, 2, F32), y)
    labels = np.zeros(4, dtype=np.int64)
    assert np.shares_memory(checks.check_y(labels, CLASSES, 4, 2, F32), labels)


# --- finite values


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (70_000, 5), (3, 300_001)])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_finite_names_the_first_bad_row_and_column(bad: float, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
    X = np.zeros(shape, dtype=dtype)
    arrays.check_finite(X, "X")
    row, column = shape[0] - 1, shape[1] // 2
    X[row, column:] = bad
    for view in (X, np.asfortranarray(X)):
        with pytest.raises(ValueError, match=rf"X\[{row}, {column}\] is {bad}; every value must be finite"):
            arrays.check_finite(view, "X")
    with pytest.raises(ValueError, match=rf"X\[0, {column}\]"):
        arrays.check_finite(X[::-1], "X")


def test_finite_knows_what_overflows_when_cast() -> None:
    X = np.array([[1.0, 1e300]])
    arrays.check_finite(X, "X")
    arrays.check_finite(X, "X", F64)
    with pytest.raises(ValueError, match=r"X\[0, 1\] is 1e\+300, too large for a float32 network"):
        arrays.check_finite(X, "X", F32)


def test_finite_leaves_integers_and_memory_maps_alone(tmp_path: Any) -> None:
    arrays.check_finite(np.ones((2, 2), dtype=np.uint8), "X")
    mapped: Any = np.memmap(tmp_path / "x", dtype="f4", mode="w+", shape=(2, 2))
    mapped[:] = np.nan
    arrays.check_finite(mapped, "X")
    arrays.check_finite(mapped[:1], "X")
    with pytest.raises(ValueError, match="nan"):
        arrays.check_finite(np.array(mapped), "X")
    arrays.check_finite(np.zeros((0, 3)), "X")


def test_a_converted_X_that_overflows_is_reported_not_warned_about() -> None:
    X = check_X(np.full((1, 3), 1e300, dtype=np.longdouble))
    with pytest.raises(ValueError, match="is inf"):
        arrays.check_finite(X, "X")


def test_batch_checks_both() -> None:
    X, y, spec = np.ones((4, 3)), np.array([0, 1, 2, 0]), NetworkSpec.check([3, 5, 3], loss=CLASSES)
    samples = sample_weights.check_batch(spec, None, X, y, None, scan=True)
    assert samples.X is X
    np.testing.assert_array_equal(samples.y, y)
    with pytest.raises(ValueError, match="y_val has 4 rows, but X has 3"):
        sample_weights.check_batch(spec, None, X[:3], y, None, names=("X_val", "y_val", "weights_val"))
    X[2, 1] = np.nan
    sample_weights.check_batch(spec, None, X, y, None)
    with pytest.raises(ValueError, match=r"X\[2, 1\] is nan"):
        sample_weights.check_batch(spec, None, X, y, None, scan=True)


# --- weights


def test_weights() -> None:
    weights, biases = [np.ones((3, 4)), np.ones((4, 2)).T.copy().T], [np.zeros(4), [0, 0]]
    checked, offsets = arrays.check_weights(weights, biases, (3, 4, 2), F32)
    assert [w.shape for w in checked] == [(3, 4), (4, 2)]
    assert [b.shape for b in offsets] == [(4,), (2,)]
    assert all(array.dtype == F32 and array.flags.c_contiguous for array in (*checked, *offsets))


@pytest.mark.parametrize(
    ("weights", "biases", "error", "says"),
    [
        ([np.ones((3, 2))], [], ValueError, "biases lists 0 arrays, but the network has 1 layers"),
        ([np.ones((2, 3))], [np.ones(2)], ValueError, r"weights\[0\] has shape \(2, 3\), expected \(3, 2\)"),
        ([np.ones((3, 2))], [np.ones((2, 1))], ValueError, r"biases\[0\] has shape \(2, 1\), expected \(2,\)"),
        ([np.full((3, 2), np.nan)], [np.ones(2)], ValueError, r"weights\[0\]\[0, 0\] is nan"),
        ([np.full((3, 2), 1e300)], [np.ones(2)], ValueError, "too large for a float32"),
        (np.ones((1, 3, 2)), [np.ones(2)], TypeError, "weights must be a list of 1 arrays"),
        ([np.ones((3, 2), dtype=complex)], [np.ones(2)], TypeError, "complex"),
    ],
)
def test_bad_weights(weights: Any, biases: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        arrays.check_weights(weights, biases, (3, 2), F32)


# --- checks of the fields of dataclasses


@dataclasses.dataclass(frozen=True)
class Described(validation.Checked):
    size: float = dataclasses.field(metadata=validation.checked_by(validation.check_positive_finite))
    count: int = validation.setting(3, validation.check_positive_int)
    limit: float | None = validation.setting(None, validation.optional(validation.check_positive_finite))
    kind: str = validation.setting("a", validation.one_of("a", "b"))


@dataclasses.dataclass(frozen=True)
class Derived(Described):
    size: float = 2.0
    free: Any = None


class Undecorated(Derived):
    """A class that somebody derived without the decorator."""


def test_checked_fields_hold_plain_values() -> None:
    made = Described(np.float32(2), np.int8(5), np.float64(0.5), np.str_("b"))
    assert repr(made) == "Described(size=2.0, count=5, limit=0.5, kind='b')"
    assert made == Described(2, 5, 0.5, "b") == pickle.loads(pickle.dumps(made))
    assert hash(made) == hash(dataclasses.replace(Described(1), size=2, count=5, limit=0.5, kind="b"))


@pytest.mark.parametrize("made_by", [Described, Derived, Undecorated])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 0}, "^size must be a positive finite number, got 0$"),
        ({"size": 1, "count": 0}, "^count must be a positive integer, got 0$"),
        ({"size": 1, "limit": -1}, "^limit must be a positive finite number, got -1$"),
        ({"size": 1, "kind": "c"}, "^kind='c' is unknown; choose from a, b$"),
        ({"size": 0, "count": 0}, "^size must be"),  # in the order of the fields
    ],
)
def test_a_check_holds_for_derived_classes_too(made_by: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        made_by(**options)


def test_a_derived_class_may_have_other_defaults_and_fields_without_a_check() -> None:
    assert (Derived().size, Derived(free=[1]).free, Undecorated(3).size) == (2.0, [1], 3.0)
    with pytest.raises(TypeError, match="size must be a positive finite number, got None of type NoneType"):
        Derived(None)  # type: ignore[arg-type]
