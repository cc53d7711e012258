"""Sample weights, class weights and ignored labels: against NumPy, PyTorch, scikit-learn, and themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import shuffled
from peers import needs, sklearn_metrics, sklearn_weights, torch

import fastbp
from fastbp import MLP, SGD, Adam, losses
from fastbp.data import splits
from fastbp.engine import tuning
from fastbp.reference import NumpyMLP

SIZES, ROWS = [5, 9, 3], 53
IGNORING = losses.CrossEntropy(ignore_index=-100)
CLASSES, MSE = oracles.BY_NAME["cross_entropy of classes"], oracles.BY_NAME["mse"]


def draw(cost: oracles.Cost = CLASSES, rows: int = ROWS, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples, targets and weights, some of which are 0."""
    rng = np.random.default_rng(seed)
    X, weights = rng.standard_normal((rows, SIZES[0])), rng.exponential(2.0, rows)
    weights[rng.permutation(rows)[: rows // 7]] = 0.0
    return X, cost.draw(rows, SIZES[-1], seed), weights


def make(cost: Any = CLASSES, cls: Any = MLP, dtype: str = "float64", sizes: Any = SIZES) -> Any:
    """A network for a case of the oracles, or with a loss."""
    return cls(sizes, loss=getattr(cost, "loss", cost), activation="tanh", dtype=dtype, seed=3)


def assert_same_weights(net: Any, other: Any, rtol: float = 0.0) -> None:
    for a, b in zip([*net.weights, *net.biases], [*other.weights, *other.biases], strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol, strict=True)


def assert_same_gradient(found: Any, expected: Any, rtol: float) -> None:
    assert found.loss == pytest.approx(expected.loss, rel=rtol)
    for a, b in zip([*found.weights, *found.biases], [*expected.weights, *expected.biases], strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


# --- against others -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 53, 300])
@pytest.mark.parametrize("cost", oracles.COSTS, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_and_scores_against_numpy(dtype: str, cost: oracles.Cost, rows: int) -> None:
    net, twin, (X, y, weights) = make(cost, dtype=dtype), make(cost, NumpyMLP), draw(cost, rows)
    found, expected = (one.backprop(X, y, sample_weight=weights) for one in (net, twin))
    rtol = 1e-12 if dtype == "float64" else 2e-5
    assert_same_gradient(found, expected, rtol)
    np.testing.assert_allclose(found.inputs, expected.inputs, rtol=rtol, atol=rtol)
    assert net.evaluate(X, y, weights) == pytest.approx(twin.evaluate(X, y, weights), rel=10 * rtol, abs=rtol)


@pytest.mark.filterwarnings("ignore:with batch_size=1 the weights of rows cannot act")
@pytest.mark.parametrize("batch_size", [1, 8, 53])
@pytest.mark.parametrize("cost", oracles.COSTS, ids=repr)
def test_fit_against_numpy(cost: oracles.Cost, batch_size: int) -> None:
    """Partial last batches, batches of weight 0, a history weighted by the weights, weighted validation."""
    net, twin, (X, y, weights), held = make(cost), make(cost, NumpyMLP), draw(cost), draw(cost, 29, seed=1)
    options = {"epochs": 3, "batch_size": batch_size, "optimizer": Adam(lr=0.01), "shuffle": False}
    for _ in range(2):
        found, expected = (one.fit(X, y, sample_weight=weights, validation_data=held, **options) for one in (net, twin))
        for name in ("loss", "val_loss", "val_score"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-12)
        assert_same_weights(net, twin, rtol=1e-9)


@needs("torch")
@pytest.mark.parametrize("ignored", [None, -100, 1])
@pytest.mark.parametrize(("weighted", "smoothing"), [(False, 0.0), (False, 0.2), (True, 0.0)])
def test_cross_entropy_against_pytorch(weighted: bool, smoothing: float, ignored: int | None) -> None:
    """PyTorch smooths with the weights of all classes, fastbp with that of the row's own: one or the other here."""
    net = make(losses.CrossEntropy(smoothing, ignored))
    X, y, _ = draw()
    if ignored == -100:
        y[::5] = -100
    class_weight = {0: 0.5, 2: 4.0} if weighted else None
    by_class = torch.tensor([0.5, 1.0, 4.0]) if weighted else torch.ones(3)
    parameters = [torch.tensor(one, requires_grad=True) for pair in zip(net.weights, net.biases) for one in pair]  # noqa: B905
    descent, means = torch.optim.SGD(parameters, lr=0.3, momentum=0.9), []
    for _ in range(4):
        total = mass = 0.0
        for rows in np.split(np.arange(ROWS), range(16, ROWS, 16)):
            descent.zero_grad()
            hidden = torch.tanh(torch.tensor(X[rows]) @ parameters[0] + parameters[1])
            labels = torch.tensor(y[rows])
            J = torch.nn.functional.cross_entropy(
                hidden @ parameters[2] + parameters[3], labels, by_class.double(), label_smoothing=smoothing,
                ignore_index=-1 if ignored is None else ignored,
            )  # fmt: skip
            J.backward()
            descent.step()
            counted = by_class[labels[labels != (-1 if ignored is None else ignored)]].sum().item()
            total, mass = total + J.item() * counted, mass + counted
        means.append(total / mass)
    history = net.fit(
        X, y, epochs=4, batch_size=16, optimizer=SGD(lr=0.3, momentum=0.9), shuffle=False, class_weight=class_weight
    )
    np.testing.assert_allclose(history.loss, means, rtol=1e-11)
    for ours, theirs in zip([net.weights[0], net.biases[0], net.weights[1], net.biases[1]], parameters, strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-9, atol=1e-12)


@needs("torch")
def test_binary_cross_entropy_against_pytorch() -> None:
    cost = oracles.BY_NAME["binary_cross_entropy of yes or no"]
    net, (X, y, weights) = make(cost), draw(cost)
    z = torch.tensor(net.forward(X), requires_grad=True)
    w = torch.tensor(weights)[:, None]
    J = torch.nn.functional.binary_cross_entropy_with_logits(z, torch.tensor(y), w, reduction="sum") / (3 * w.sum())
    J.backward()
    assert net.evaluate(X, y, weights)["loss"] == pytest.approx(J.item(), rel=1e-13)
    by_z = net.backprop(X, output_gradient=z.grad.numpy())
    found = net.backprop(X, y, sample_weight=weights)
    for a, b in zip([*found.weights, found.inputs], [*by_z.weights, by_z.inputs], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-15)


@needs("sklearn")
@pytest.mark.parametrize("cost", oracles.COSTS, ids=repr)
def test_scores_are_those_of_scikit_learn(cost: oracles.Cost) -> None:
    net, (X, y, weights) = make(cost), draw(cost)
    found = net.evaluate(X, y, weights)
    if cost.loss.link.one_class:
        labels = y if y.ndim == 1 else y.argmax(axis=1)
        expected = sklearn_metrics.accuracy_score(labels, net.predict(X), sample_weight=weights)
    elif cost.loss.link.classifies:
        p, wanted = net.predict(X), y > 0.5
        columns = zip(wanted.T, p.T, strict=True)
        expected = np.mean([sklearn_metrics.accuracy_score(a, b, sample_weight=weights) for a, b in columns])
    else:
        expected = sklearn_metrics.r2_score(y, net.predict(X), sample_weight=weights)
    assert found[net.loss.score_name] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("cost", oracles.COSTS, ids=repr)
def test_central_differences(cost: oracles.Cost) -> None:
    X, y, weights = draw(cost, 12)
    assert fastbp.check_gradients(make(cost), X, y, sample_weight=weights) < 1e-6
    assert fastbp.check_gradients(make(cost), X, y, sample_weight=weights) != fastbp.check_gradients(make(cost), X, y)


# --- what a weight means ------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=24).filter(any),
    cost=st.sampled_from(oracles.COSTS),
    unit=st.sampled_from([1.0, 1e-30, 1e30]),
)
def test_a_weight_is_a_number_of_equal_rows(counts: list[int], cost: oracles.Cost, unit: float) -> None:
    """In a full batch: of 2, the row twice; of 0, the row left out. Only ratios matter."""
    X, y, _ = draw(cost, len(counts))
    net, weights = make(cost), np.array(counts) * unit
    often = np.repeat(np.arange(len(counts)), counts)
    assert_same_gradient(net.backprop(X, y, sample_weight=weights), net.backprop(X[often], y[often]), rtol=1e-11)
    found, expected = net.evaluate(X, y, weights), net.evaluate(X[often], y[often])
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    other = make(cost)
    options = {"epochs": 2, "batch_size": 1000, "optimizer": SGD(lr=0.05, momentum=0.9)}
    one = net.fit(X, y, sample_weight=weights, **options)
    two = other.fit(X[often], y[often], **options)
    np.testing.assert_allclose(one.loss, two.loss, rtol=1e-11)
    assert_same_weights(net, other, rtol=1e-10)


@pytest.mark.parametrize("value", [1, 2.0, 0.5])
@pytest.mark.parametrize("batch_size", [8, 53])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_weights_are_none(dtype: str, batch_size: int, value: float) -> None:
    """To the last bit, history included."""
    X, y, _ = draw()
    nets = [make(dtype=dtype) for _ in range(2)]
    options = {"epochs": 3, "batch_size": batch_size, "validation_split": 0.2}
    plain = nets[0].fit(X, y, **options)
    found = nets[1].fit(X, y, sample_weight=[value] * ROWS, **options)
    assert found.loss == plain.loss
    np.testing.assert_allclose(found.val_loss, plain.val_loss, rtol=1e-13)
    assert_same_weights(*nets)


@pytest.mark.parametrize("cost", oracles.COSTS, ids=repr)
def test_a_batch_without_weight(cost: oracles.Cost) -> None:
    """Loss 0 and no gradient, but a step like any other."""
    X, y, _ = draw(cost)
    net, fresh, weights = make(cost), make(cost), np.ones(ROWS)
    assert net.train_step(X, y, SGD(lr=1.0), sample_weight=np.zeros(ROWS)) == 0.0
    assert_same_weights(net, fresh)
    gradient = net.backprop(X, y, sample_weight=np.zeros(ROWS))
    assert gradient.loss == 0.0
    assert not any(part.any() for part in [*gradient.weights, *gradient.biases, gradient.inputs])
    weights[:16] = 0.0
    history = net.fit(X, y, sample_weight=weights, epochs=1, batch_size=16, shuffle=False, optimizer=SGD(lr=0.0))
    assert history.loss == pytest.approx([fresh.evaluate(X[16:], y[16:])["loss"]], rel=1e-13)


def test_what_a_row_without_weight_loses_does_not_matter() -> None:
    """Its loss is infinite in float32; its activations are not."""
    net = MLP([1, 1], loss="mse", dtype="float32", seed=0)
    y = np.array([1.0, 3e30, 2.0], np.float32)
    weights = [1.0, 0.0, 1.0]
    assert np.isinf(net.evaluate(np.ones((3, 1)), y)["loss"])
    assert np.isfinite([*net.evaluate(np.ones((3, 1)), y, weights).values()]).all()
    assert np.isfinite(net.fit(np.ones((3, 1)), y, sample_weight=weights, epochs=3).loss).all()


# --- the same bits on all routes ----------------------------------------------------------------------------


@pytest.mark.parametrize("split", [0.0, 0.2])
@pytest.mark.parametrize(
    ("sizes", "rows", "batch_size"), [(SIZES, 53, 8), ([5, 33, 17, 3], 200, 64), (SIZES, 8001, 4000)]
)
def test_threads_do_not_matter(sizes: list[int], rows: int, batch_size: int, split: float) -> None:
    X, y, weights = draw(rows=rows)
    runs = []
    for threads in (1, 2, 3):
        net = make(sizes=sizes, dtype="float32")
        history = net.fit(
            X, y, sample_weight=weights, epochs=2, batch_size=batch_size, threads=threads, validation_split=split,
            class_weight="balanced",
        )  # fmt: skip
        groups = net.session.layout.n_groups(min(batch_size, round(rows * (1 - split))))
        runs.append((history.loss, history.val_loss, [w.tobytes() for w in net.weights], groups))
    assert runs[0] == runs[1] == runs[2]
    assert bool(runs[0][-1]) == (batch_size == 4000)  # the shares of a big batch are among the routes


@pytest.mark.parametrize("cost", oracles.COSTS, ids=repr)
@pytest.mark.parametrize("rows", [7, 53, 2000])
def test_a_step_is_backprop_and_update(rows: int, cost: oracles.Cost) -> None:
    X, y, weights = draw(cost, rows)
    fitted, stepped, apart = (make(cost, dtype="float32") for _ in range(3))
    recipe = Adam(lr=0.01)
    for turn in range(3):
        w = np.roll(weights, turn)
        fitted.fit(X, y, sample_weight=w, epochs=1, batch_size=rows, shuffle=False, optimizer=recipe)
        gradient = apart.backprop(X, y, sample_weight=w)
        recipe.update(apart, gradient)
        assert stepped.train_step(X, y, recipe, sample_weight=w) == gradient.loss
        assert fitted.history.loss == pytest.approx([gradient.loss], rel=1e-14)
    assert_same_weights(stepped, apart)
    assert_same_weights(stepped, fitted)


def test_shuffled_rows_keep_their_weights(tmp_path: Path) -> None:
    """Against steps on the rows that each batch held; memory maps of rows and weights change nothing."""
    X, y, weights = draw(MSE)
    X, weights = X.astype("f4"), weights.astype("f4")
    net = make(MSE, dtype="float32")
    net.standardize(X, y)
    mapped, stepped = net.copy(), net.copy()
    options: dict[str, Any] = {"epochs": 3, "batch_size": 8, "optimizer": SGD(lr=0.1)}
    expected = net.fit(X, y, sample_weight=weights, **options).loss
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "w.npy", weights)
    X_map, w_map = (np.load(tmp_path / name, mmap_mode="r") for name in ("X.npy", "w.npy"))
    assert mapped.fit(X_map, y, sample_weight=w_map, **options).loss == expected
    assert_same_weights(net, mapped)
    for epoch in range(3):
        for batch in np.split(shuffled(range(ROWS), net.seed, epoch), range(8, ROWS, 8)):
            stepped.train_step(X[batch], y[batch], SGD(lr=0.1), sample_weight=weights[batch])
    assert_same_weights(net, stepped)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_norm_of_the_gradient_of_all_rows(weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "GRADIENT_ROWS", 10)
    X, y, weights = draw()
    norms: list[float] = []

    class Ask:
        def on_epoch_end(self, state: Any) -> None:
            norms.append(state.gradient_norm())

    net, given = make(), weights if weighted else None
    net.fit(X, y, epochs=1, sample_weight=given, callbacks=[Ask()])
    gradient = net.backprop(X, y, sample_weight=given)
    squares = sum(float(np.square(part).sum()) for part in [*gradient.weights, *gradient.biases])
    assert norms == pytest.approx([np.sqrt(squares)], rel=1e-12)


# --- validation ---------------------------------------------------------------------------------------------


@needs("sklearn")
def test_held_out_rows_keep_their_weights_and_know_no_class_weights() -> None:
    X, y, weights = draw()
    net, other = make(), make()
    history = net.fit(X, y, epochs=2, validation_split=0.3, sample_weight=weights, class_weight="balanced")
    rows, held = splits.split_rows(y, 0.3, net.seed, stratify=True)
    found = net.evaluate(X[held], y[held], weights[held])
    assert (history.val_loss[-1], history.val_score[-1]) == pytest.approx((found["loss"], found["accuracy"]), rel=1e-13)
    by_class = sklearn_weights.compute_class_weight("balanced", classes=np.arange(3), y=y[rows])
    expected = other.fit(X, y, epochs=2, validation_split=0.3, sample_weight=weights * by_class[y])
    assert history.loss == pytest.approx(expected.loss, rel=1e-13)
    assert_same_weights(net, other, rtol=1e-12)


# --- class weights ------------------------------------------------------------------------------------------


@needs("sklearn")
@pytest.mark.parametrize("classes", [[0, 1, 2], [0, 2]])
def test_balanced_is_that_of_scikit_learn(classes: list[int]) -> None:
    rng = np.random.default_rng(1)
    X, _, weights = draw()
    y = rng.choice(classes, ROWS, p=rng.dirichlet(np.ones(len(classes))))
    present = np.unique(y)
    by_class = dict(
        zip(present.tolist(), sklearn_weights.compute_class_weight("balanced", classes=present, y=y), strict=True)
    )
    nets = [make() for _ in range(3)]
    options: dict[str, Any] = {"epochs": 2, "batch_size": 16}
    runs = [
        nets[0].fit(X, y, class_weight="balanced", sample_weight=weights, **options),
        nets[1].fit(X, y, class_weight=by_class, sample_weight=weights, **options),
        nets[2].fit(X, y, sample_weight=weights * [by_class[label] for label in y], **options),
    ]
    assert runs[0].loss == runs[1].loss == pytest.approx(runs[2].loss, rel=1e-13)
    assert_same_weights(nets[0], nets[1])
    assert_same_weights(nets[0], nets[2], rtol=1e-12)


def test_class_weights_of_two_classes() -> None:
    X, y, _ = draw()
    y = (y > 0).astype(float)
    nets = [make("binary_cross_entropy", sizes=[5, 4, 1]) for _ in range(3)]
    nets[0].fit(X, y, class_weight={1: 3})
    nets[1].fit(X, y, sample_weight=1.0 + 2.0 * y)
    nets[2].fit(X, y[:, None], class_weight={np.int64(1): np.float32(3), 0: 1})
    assert_same_weights(nets[0], nets[1])
    assert_same_weights(nets[0], nets[2])


# --- ignored labels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ignored", [-100, 255, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_ignored_rows_are_as_if_left_out(weighted: bool, ignored: int) -> None:
    X, y, weights = draw()
    given = weights if weighted else None
    net = make(losses.CrossEntropy(ignore_index=ignored))
    twin, other = make(losses.CrossEntropy(ignore_index=ignored), NumpyMLP), make()
    y[::4] = ignored
    rows = y != ignored
    left = None if given is None else given[rows]
    assert net.evaluate(X, y, given) == pytest.approx(other.evaluate(X[rows], y[rows], left), rel=1e-12)
    found, expected = net.backprop(X, y, sample_weight=given), other.backprop(X[rows], y[rows], sample_weight=left)
    assert_same_gradient(found, expected, rtol=1e-11)
    options: dict[str, Any] = {"epochs": 3, "batch_size": 8, "sample_weight": given, "shuffle": False}
    np.testing.assert_allclose(net.fit(X, y, **options).loss, twin.fit(X, y, **options).loss, rtol=1e-11)
    assert_same_weights(net, twin, rtol=1e-9)
    by_class = make(losses.CrossEntropy(ignore_index=ignored))
    by_class.fit(X, y, class_weight="balanced", sample_weight=given, batch_size=1000, optimizer=SGD(lr=0.1))
    other.fit(X[rows], y[rows], class_weight="balanced", sample_weight=left, batch_size=1000, optimizer=SGD(lr=0.1))
    assert_same_weights(by_class, other, rtol=1e-11)


def test_ignored_labels_of_other_types_and_in_a_split() -> None:
    X, y, _ = draw()
    y[::4] = -100
    nets = [make(IGNORING) for _ in range(3)]
    for net, labels in zip(nets, (y, y.astype(np.int8), y.tolist()), strict=True):
        net.fit(X, labels, epochs=2, validation_split=0.25)
        assert net.history.val_loss == nets[0].history.val_loss
        assert_same_weights(net, nets[0])
    _, held = splits.split_rows(np.where(y == -100, 3, y), 0.25, nets[0].seed, stratify=True)
    assert 0 < np.count_nonzero(y[held] == -100) < len(held) / 2
    assert nets[0].history.val_loss[-1] == pytest.approx(nets[0].evaluate(X[held], y[held])["loss"], rel=1e-13)


def test_nothing_is_ignored_unless_asked_for(tmp_path: Path) -> None:
    X, y, _ = draw()
    plain, asked = make(), make(IGNORING)
    plain.fit(X, y, epochs=1)
    asked.fit(X, y, epochs=1)
    assert_same_weights(plain, asked)
    soft = np.eye(3)[y]
    assert asked.evaluate(X, soft) == pytest.approx(plain.evaluate(X, soft))
    y[5] = -100
    for use in (plain.evaluate, plain.fit, plain.backprop):
        with pytest.raises(ValueError, match=r"y\[5\] is -100"):
            use(X, y)
    y[7] = -99
    with pytest.raises(ValueError, match=r"y\[7\] is -99"):
        asked.fit(X, y)
    asked.save(tmp_path / "net.safetensors")
    assert fastbp.load(tmp_path / "net.safetensors").loss == IGNORING
    none = np.full(ROWS, -100)
    assert asked.train_step(X, none, SGD(lr=1.0)) == 0.0
    for use in (asked.evaluate, asked.fit):
        with pytest.raises(ValueError, match="at least one row must count"):
            use(X, none)


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(ROWS - 1), r"sample_weight has shape \(52,\), expected \(53,\)"),
        (np.ones((ROWS, 1)), r"sample_weight has shape \(53, 1\)"),
        (1.0, r"sample_weight has shape \(\)"),
        (-np.eye(ROWS)[4], r"sample_weight\[4\] is -1; weights are finite"),
        (np.where(np.arange(ROWS) == 9, np.nan, 1.0), r"sample_weight\[9\] is nan"),
        (np.where(np.arange(ROWS) == 9, np.inf, 1.0), r"sample_weight\[9\] is inf"),
        (["heavy"] * ROWS, "sample_weight has dtype"),
    ],
)
def test_bad_weights(weights: Any, message: str) -> None:
    X, y, _ = draw()
    net, fresh = make(), make()
    for use in (
        lambda: net.fit(X, y, sample_weight=weights),
        lambda: net.evaluate(X, y, weights),
        lambda: net.backprop(X, y, sample_weight=weights),
        lambda: net.train_step(X, y, "adam", sample_weight=weights),
        lambda: net.fit(X, y, validation_data=(X, y, weights)),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            use()
    assert_same_weights(net, fresh)
    assert net.history is None


def test_weights_that_come_to_nothing_or_too_much() -> None:
    X, y, _ = draw()
    net, nothing = make(), np.zeros(ROWS)
    _, held = splits.split_rows(y, 0.25, net.seed, stratify=True)
    only_held, only_rest = nothing.copy(), np.ones(ROWS)
    only_held[held], only_rest[held] = 1.0, 0.0
    for use, rows in (
        (lambda: net.fit(X, y, sample_weight=nothing), "training rows"),
        (lambda: net.evaluate(X, y, nothing), "rows"),
        (lambda: net.fit(X, y, class_weight={0: 0, 1: 0, 2: 0}), "training rows"),
        (lambda: net.fit(X, y, validation_split=0.25, sample_weight=only_held), "training rows"),
        (lambda: net.fit(X, y, validation_split=0.25, sample_weight=only_rest), "held-out rows"),
        (lambda: net.fit(X, y, validation_data=(X, y, nothing)), "validation rows"),
    ):
        with pytest.raises(ValueError, match=f"the weights of all {rows} are 0"):
            use()
    with pytest.raises(ValueError, match="the sum of sample_weight, inf, is too large"):
        net.fit(X, y, sample_weight=np.full(ROWS, 1e308))
    assert net.history is None


@pytest.mark.parametrize(
    ("cost", "class_weight", "message"),
    [
        ("cross_entropy of classes", {3: 1.0}, "class_weight has the key 3, but classes run from 0 to 2"),
        ("cross_entropy of classes", {-1: 1.0}, "class_weight has the key -1"),
        ("cross_entropy of classes", {"0": 1.0}, "class_weight has the key '0'; keys are classes"),
        ("cross_entropy of classes", {0: -1.0}, r"class_weight\[0\] must be a finite number of at least 0"),
        ("cross_entropy of classes", {0: float("nan")}, r"class_weight\[0\]"),
        ("cross_entropy of classes", "balance", "did you mean 'balanced'"),
        ("cross_entropy of classes", [1.0, 2.0, 3.0], "class_weight must be None, 'balanced' or a mapping"),
        ("cross_entropy of probabilities", "balanced", "class_weight needs integer labels"),
        ("mse", "balanced", "loss='mse': use sample_weight"),
        ("binary_cross_entropy of yes or no", {1: 2.0}, "loss='binary_cross_entropy' and 3 outputs"),
    ],
)
def test_bad_class_weights(cost: str, class_weight: Any, message: str) -> None:
    X, y, _ = draw(oracles.BY_NAME[cost])
    net = make(oracles.BY_NAME[cost])
    with pytest.raises((ValueError, TypeError), match=message):
        net.fit(X, y, class_weight=class_weight)
    assert net.history is None


def test_weights_that_cannot_act() -> None:
    """Each row divides by its own weight: a warning says so, and nothing is said where weights act, or are all one."""
    X, y, weights = draw()
    says = "with batch_size=1 the weights of rows cannot act, unless they are 0"
    one, other, ignoring = make(), make(), make(IGNORING)
    with pytest.warns(UserWarning, match=says):
        one.fit(X, y, batch_size=1, sample_weight=weights + 1.0)
    other.fit(X, y, batch_size=1)
    assert_same_weights(one, other, rtol=1e-12)
    with pytest.warns(UserWarning, match=says):
        one.fit(X, y, batch_size=1, class_weight={0: 2.0})
    with pytest.warns(UserWarning, match=says):
        one.fit([(X, y, weights)], batch_size=1, epochs=1)
    one.fit(X, y, batch_size=2, sample_weight=weights)
    one.fit(X, y, batch_size=1, sample_weight=(weights > 1).astype(float))
    ignoring.fit(X, np.where(y == 1, -100, y), batch_size=1)


@pytest.mark.parametrize("weights", [np.full(ROWS, 1e308), np.eye(1, ROWS)[0] * 1e308], ids=["all", "one"])
def test_weights_beyond_double_precision_change_nothing(weights: Any) -> None:
    """Their sum, or that of a batch times a weight, is no number: parameters became NaN, in silence."""
    X, y, _ = draw()
    net = make()
    before = net.copy()
    for use in (
        lambda: net.train_step(X, y, "sgd", sample_weight=weights),
        lambda: net.backprop(X, y, sample_weight=weights),
        lambda: net.evaluate(X, y, weights),
        lambda: net.fit(X, y, sample_weight=weights),
        lambda: net.fit([(X, y, weights)], epochs=1),
        lambda: net.fit(X, y, sample_weight=np.full(ROWS, 1e200), class_weight={0: 1e108, 1: 1e108, 2: 1e108}),
        lambda: fastbp.check_gradients(net, X, y, sample_weight=weights),
    ):
        with pytest.raises(ValueError, match=r"the sum of .* is too large for double precision; .* divide them by"):
            use()
    assert_same_weights(net, before)
    largest = np.full(ROWS, 1e300)
    loss = net.train_step(X, y, "sgd", sample_weight=largest)
    assert loss == pytest.approx(before.train_step(X, y, "sgd"), rel=1e-14)
    assert_same_weights(net, before, rtol=1e-12)


def test_other_refusals() -> None:
    X, y, weights = draw()
    net = make()
    with pytest.raises(ValueError, match="sample_weight goes with y"):
        net.backprop(X, output_gradient=np.ones((ROWS, 3)), sample_weight=weights)
    with pytest.raises(TypeError, match=r"validation_data must be a pair \(X, y\), or \(X, y, sample_weight\)"):
        net.fit(X, y, validation_data=(X, y, weights, weights))
    with pytest.raises(ValueError, match=r"y\[2\] is 0.25"):
        make("binary_cross_entropy", sizes=[5, 1]).fit(
            X, np.where(np.arange(ROWS) == 2, 0.25, 1.0), class_weight="balanced"
        )
    for wrong in (1.5, True, "-100"):
        with pytest.raises(TypeError, match="ignore_index"):
            losses.CrossEntropy(ignore_index=wrong)  # type: ignore[arg-type]
