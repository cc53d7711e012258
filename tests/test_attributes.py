"""Attributes of finished networks: what can be set acts, and everything else is refused by name."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp import MLP, MSE, SGD, CrossEntropy, Scaling, model
from fastbp.io import model_files
from fastbp.reference import NumpyMLP

RNG = np.random.default_rng(2)
X, Y = RNG.standard_normal((30, 4)), np.arange(30) % 3

FIXED = [
    ("sizes", (4, 9, 3)), ("activations", ("tanh",)), ("activation", "tanh"), ("output_activation", "tanh"),
    ("loss", "mse"), ("init", "zeros"), ("dropout", 0.9), ("input_noise", 1.0), ("l1", 1.0), ("l2", 1.0),
    ("max_norm", 1.0), ("regularization", None), ("dtype", "float64"), ("weights", []), ("biases", []),
    ("n_parameters", 3),
]  # fmt: skip


def made() -> MLP:
    return MLP([4, 6, 3], seed=0)


class Named(MLP):
    """A user's own network, with attributes of its own."""

    def __init__(self, name: str, *args: Any, **options: Any) -> None:
        self.name = name
        super().__init__(*args, **options)
        self.notes: list[str] = []


@pytest.mark.parametrize(("name", "value"), FIXED, ids=[name for name, _ in FIXED])
def test_what_is_fixed_cannot_be_set(name: str, value: Any) -> None:
    for net in (made(), pickle.loads(pickle.dumps(made())), copy.deepcopy(made()), Named("a", [4, 6, 3])):
        before = vars(net).copy()
        with pytest.raises(AttributeError, match=f"^{name} cannot be set on a finished network: "):
            setattr(net, name, value)
        assert vars(net) == before


def test_the_mend_is_told() -> None:
    net = made()
    with pytest.raises(AttributeError, match=r"make a new one, MLP\(\.\.\., dropout=\.\.\.\)"):
        net.dropout = 0.9
    with pytest.raises(AttributeError, match=r"write weights and biases with set_weights\(weights, biases\)"):
        net.weights = []  # type: ignore[misc]


def test_an_unknown_name_says_what_there_is() -> None:
    net = made()
    with pytest.raises(AttributeError, match=r"MLP has no attribute 'scalling' \(did you mean 'scaling'\?\)"):
        net.scalling = None
    with pytest.raises(AttributeError, match="there are history, scaling, class_labels, seed"):
        net.learning_rate = 0.1
    assert not hasattr(net, "learning_rate")
    assert "learning_rate" not in str(vars(net))


def test_a_class_of_the_users_own_may_have_more() -> None:
    net = Named("first", [4, 6, 3], seed=0)
    net.notes.append("made")
    net.comment = "set later"
    for other in (net.copy(), copy.copy(net), pickle.loads(pickle.dumps(net))):
        assert (type(other), other.name, other.notes, other.comment) == (Named, "first", ["made"], "set later")
        np.testing.assert_array_equal(other.predict(X), net.predict(X))


def test_what_can_be_set() -> None:
    net, history = made(), made().fit(X, Y, epochs=1)
    net.history, net.class_labels = history, ["a", "b", "c"]
    net.scaling = Scaling(np.zeros(4), np.full(4, 2.0))
    np.testing.assert_allclose(net.forward(X), made().forward(X / 2), rtol=1e-6)
    net.scaling = None
    np.testing.assert_array_equal(net.forward(X), made().forward(X))
    net.history = None


def test_the_seed_acts_from_then_on() -> None:
    """On the order of the rows in `fit`, and on dropout in a step that repeats an earlier one."""
    nets = [MLP([4, 6, 3], dropout=0.5, seed=0) for _ in range(2)]
    for net in nets:
        net.train_step(X[:8], Y[:8], SGD(lr=0.0))
        net.train_step(X[:8], Y[:8], SGD(lr=0.0))
    nets[1].seed = np.int64(7)  # type: ignore[assignment]
    steps = [net.train_step(X[:8], Y[:8], SGD(lr=0.0)) for net in nets]
    assert steps[0] != steps[1]
    other = MLP([4, 6, 3], dropout=0.5, seed=7)
    other.set_weights(nets[0].weights, nets[0].biases)
    for _ in range(2):
        other.train_step(X[:8], Y[:8], SGD(lr=0.0))
    assert steps[1] == other.train_step(X[:8], Y[:8], SGD(lr=0.0))
    for wrong, error in ((-1, ValueError), (1.5, TypeError), (None, TypeError), (True, TypeError)):
        with pytest.raises(error, match="seed must be"):
            nets[0].seed = wrong  # type: ignore[assignment]
    assert nets[0].seed == 0


def test_a_copy_in_another_dtype_knows_its_init() -> None:
    assert MLP([4, 6, 3], init="he_uniform").astype("float64").init == "he_uniform"


def test_the_twin_in_numpy() -> None:
    net = NumpyMLP([4, 6, 3], seed=0)
    for name in ("dropout", "sizes", "loss", "dtype", "weights"):
        with pytest.raises(AttributeError, match=f"^{name} cannot be set"):
            setattr(net, name, None)
    with pytest.raises(AttributeError, match="NumpyMLP has no attribute 'lr'"):
        net.lr = 0.1
    net.seed = 4
    twin = pickle.loads(pickle.dumps(net))
    twin.fit(X, Y, epochs=1)
    with pytest.raises(AttributeError, match="sizes cannot be set"):
        twin.sizes = ()


# --- one output with a softmax ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MLP, NumpyMLP])
@pytest.mark.parametrize("loss", ["cross_entropy", CrossEntropy(label_smoothing=0.1)])
def test_a_softmax_over_one_output_is_refused(kind: Any, loss: Any) -> None:
    with pytest.raises(ValueError, match=r"always 1; .*loss='binary_cross_entropy' for two classes, loss='mse' for"):
        kind([13, 16, 1], loss=loss)
    kind([13, 16, 1], loss="binary_cross_entropy")
    kind([13, 16, 2], loss=loss)


def old_file(path: Path) -> MLP:
    """A network of before the refusal, from the file that it was saved to."""
    net = MLP([4, 6, 1], loss="mse", seed=0)
    tensors, metadata = model.to_file(net.session.values())
    metadata["class_labels"] = ["a"]
    metadata["loss"] = {"name": "cross_entropy", "label_smoothing": 0.0, "ignore_index": None}
    model_files.save(path, tensors, metadata)
    return fastbp.load(path)


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (np.arange(30) % 2, "y holds 0 and 1: loss='binary_cross_entropy'"),
        ((np.arange(30) % 2).astype(float), "y holds 0 and 1: loss='binary_cross_entropy'"),
        (np.arange(30) % 2 == 0, "y holds 0 and 1: loss='binary_cross_entropy'"),
        (np.arange(30) + 5, "y holds other than 0 and 1: loss='mse'"),
        (X[:, 0], "y holds other than 0 and 1: loss='mse'"),
        (X[:, :1], "y holds other than 0 and 1: loss='mse'"),
    ],
)
def test_of_old_files_y_tells_what_was_meant(y: Any, says: str, tmp_path: Path) -> None:
    net = old_file(tmp_path / "old.safetensors")
    assert (net.loss, net.class_labels) == (CrossEntropy(), ["a"])
    assert net.predict(X).tolist() == [0] * 30
    for use in (net.fit, net.evaluate, net.backprop, lambda X, y: net.train_step(X, y, "sgd")):
        with pytest.raises(ValueError, match=says):
            use(X, y)
    net.save(tmp_path / "again.safetensors")
    assert fastbp.load(tmp_path / "again.safetensors").loss == CrossEntropy()
    assert MLP([4, 6, 1], loss=MSE()).loss == MSE()
