"""The same bits for any number of threads, in any process, wherever the buffers lie and whoever else computes."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from processes import succeed

import fastbp
import fastbp.engine.engine
from fastbp import MLP, SGD, Adam, AdamW, Huber, RMSprop
from fastbp.engine import memory

# name -> (network, rows, fit): batches that end short, widths off the tile, each optimiser, each loss.
CASES: dict[str, tuple[dict[str, Any], int, dict[str, Any]]] = {
    "digits": ({"sizes": [64, 64, 10]}, 203, {"batch_size": 32, "optimizer": SGD(lr=0.1)}),
    "deep": ({"sizes": [7, 33, 17, 40, 3], "activation": "gelu"}, 150, {"batch_size": 47, "optimizer": Adam()}),
    "fp64": ({"sizes": [9, 31, 65, 4], "activation": "selu", "dtype": "float64"}, 97, {"optimizer": AdamW()}),
    "no hidden layer": ({"sizes": [5, 3]}, 41, {"batch_size": 8, "optimizer": SGD(momentum=0.9, nesterov=True)}),
    "one row a step": ({"sizes": [20, 40, 4], "activation": "tanh"}, 23, {"batch_size": 1, "optimizer": RMSprop()}),
    "one batch": (
        {"sizes": [3, 19, 2], "loss": "mse", "output_activation": "softplus"},
        600,
        {"batch_size": 1000, "optimizer": Adam(weight_decay=0.1)},
    ),
    "wide": ({"sizes": [300, 129, 65], "loss": "binary_cross_entropy"}, 77, {"optimizer": SGD(lr=0.1, momentum=0.5)}),
    "counts": ({"sizes": [6, 24, 1], "loss": "poisson", "activation": "elu"}, 90, {"optimizer": "adam"}),
    "huber": ({"sizes": [6, 24, 3], "loss": Huber(0.3), "dtype": "float64"}, 90, {"optimizer": "sgd"}),
    "mae": ({"sizes": [6, 24, 3], "loss": "mae", "activation": "silu"}, 90, {"optimizer": "rmsprop"}),
    "groups": ({"sizes": [4, 32, 16, 4], "loss": "mse", "activation": "tanh"}, 3001, {"batch_size": 3000}),
    "groups fp64": ({"sizes": [4, 32, 16, 4], "dtype": "float64"}, 2500, {"batch_size": 1700, "optimizer": SGD()}),
}


def data(net: MLP, rows: int) -> tuple[Any, Any]:
    """Samples and targets of any loss."""
    rng = np.random.default_rng(rows)
    X = rng.standard_normal((rows, net.sizes[0])).astype(net.dtype)
    if net.loss.target == "classes":
        return X, rng.integers(0, net.sizes[-1], rows)
    y = rng.random((rows, net.sizes[-1]))
    return X, (y > 0.5 if net.loss.target == "binary" else y).astype(net.dtype)


def train(case: str, **options: Any) -> MLP:
    description, rows, fit = CASES[case]
    net = MLP(**description, seed=7)
    net.fit(*data(net, rows), **{"epochs": 3, "validation_split": 0.1, **fit, **options})
    return net


def bits(net: MLP) -> str:
    """A digest of all that training made: weights, moments, counters, losses and scores."""
    state, history = net.optimizer_state(), net.history
    assert history is not None
    arrays = [*net.weights, *net.biases]
    arrays += [array for moment in state["moments"] for array in (*moment["weights"], *moment["biases"])]
    arrays += [np.array([*history.loss, *history.val_loss, *history.val_score, state["steps"], state["epochs"]])]
    assert all(np.isfinite(array).all() for array in arrays)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    return {case: bits(train(case, threads=1)) for case in CASES}


def test_the_digest_sees_one_bit() -> None:
    net = train("digits", threads=1)
    before = bits(net)
    weights = [array.copy() for array in net.weights]
    weights[0][0, 0] = np.nextafter(weights[0][0, 0], np.float32(9))
    net.set_weights(weights, net.biases)
    assert bits(net) != before


@pytest.mark.parametrize("threads", [2, 3, 5, None])
@pytest.mark.parametrize("case", CASES)
def test_threads(case: str, threads: int | None, expected: dict[str, str]) -> None:
    net = train(case, threads=threads)
    rows, fit = CASES[case][1:]
    assert (net.session.layout.n_groups(min(fit.get("batch_size", 32), 9 * rows // 10)) > 0) == case.startswith(
        "groups"
    )
    assert bits(net) == expected[case]


def test_a_thread_count_for_every_epoch() -> None:
    description, rows, fit = CASES["deep"]
    alone, changing = MLP(**description, seed=7), MLP(**description, seed=7)
    samples = data(alone, rows)
    for threads in (2, 5, 1, 3):
        alone.fit(*samples, epochs=1, threads=1, **fit)
        changing.fit(*samples, epochs=1, threads=threads, **fit)
    assert bits(alone) == bits(changing)


def test_a_fit_in_two_halves() -> None:
    for case in CASES:
        description, rows, fit = CASES[case]
        halves, whole = MLP(**description, seed=7), MLP(**description, seed=7)
        samples = data(whole, rows)
        losses = [*halves.fit(*samples, epochs=2, **fit).loss, *halves.fit(*samples, epochs=2, **fit).loss]
        assert whole.fit(*samples, epochs=4, **fit).loss == losses
        halves.history = whole.history
        assert bits(halves) == bits(whole), case


@pytest.mark.parametrize("threads", ["1", "3"])
def test_fresh_processes(threads: str, expected: dict[str, str]) -> None:
    code = "import test_determinism as t\nfor case in t.CASES: print(case, t.bits(t.train(case)), sep='|')"
    found = dict(line.split("|") for line in succeed(code, FASTBP_NUM_THREADS=threads).splitlines())
    assert found == expected


def scattered(rng: np.random.Generator) -> Any:
    """Like `fastbp.engine.memory.allocate`, at a random multiple of 64 bytes, amid NaN."""

    def allocate(n: int, dtype: np.dtype[Any]) -> Any:
        size = n * dtype.itemsize
        raw = np.full(size + 3 * 4096, 0xFF, np.uint8)
        start = -raw.ctypes.data % 64 + 64 * int(rng.integers(0, 64))
        raw[start : start + size] = 0
        return raw[start : start + size].view(dtype)

    return allocate


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = scattered(np.random.default_rng())
    monkeypatch.setattr(memory, "allocate", allocate)


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize("case", CASES)
def test_placement_of_buffers(case: str, expected: dict[str, str]) -> None:
    for threads in (1, 2, 1, 3):
        assert bits(train(case, threads=threads)) == expected[case]


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("case", CASES)
def test_a_row_alone(case: str, threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row's result does not depend on the rows that come with it."""
    monkeypatch.setenv("FASTBP_NUM_THREADS", threads)
    net = train(case, epochs=1)
    X, _ = data(net, 2000)
    calls = [net.predict, net.forward]
    if net.loss.target in ("classes", "binary"):
        calls.append(net.predict_proba)
    for call in calls:
        together = call(X)
        for i in (*range(20), 511, 512, 1333, 1999):
            np.testing.assert_array_equal(together[i], call(X[i : i + 1])[0])
        np.testing.assert_array_equal(together[100:111], call(X[100:111]))


@pytest.mark.parametrize("case", CASES)
def test_backprop_and_update_equal_train_step(case: str) -> None:
    description, rows, fit = CASES[case]
    apart, together = MLP(**description, seed=7), MLP(**description, seed=7)
    optimizer = fastbp.optimizers.get(fit.get("optimizer", "adam"))
    X, y = data(apart, rows)
    for _ in range(3):
        gradient = apart.backprop(X, y)
        optimizer.update(apart, gradient)
        assert together.train_step(X, y, optimizer) == gradient.loss
    for one, other in zip([*apart.weights, *apart.biases], [*together.weights, *together.biases], strict=True):
        np.testing.assert_array_equal(one, other)


def test_networks_train_side_by_side(expected: dict[str, str]) -> None:
    """Fits of different networks at once, each with threads of its own, equal fits one after the other."""
    start = threading.Barrier(6)

    def work(number: int) -> dict[str, str]:
        start.wait()
        names = list(CASES)[number:] + list(CASES)[:number]
        return {case: bits(train(case, threads=1 + number % 3)) for case in names}

    with ThreadPoolExecutor(6) as pool:
        for found in pool.map(work, range(6)):
            assert found == expected


def test_calls_on_one_network_take_turns() -> None:
    """Every call finds the network whole: no step is lost, and no gradient comes from half an update."""
    net = MLP([10, 40, 3], seed=0)
    twin = net.copy()
    X, y = data(net, 64)
    optimizer = SGD(lr=0.01)
    fit = {"epochs": 10, "batch_size": 16, "optimizer": optimizer, "threads": 2, "shuffle": False}
    possible = [twin.forward(X).tobytes()]
    for _ in range(8):
        twin.fit(X, y, **fit)
        possible.append(twin.forward(X).tobytes())
    seen: list[bytes] = []

    def look() -> None:
        seen.extend(net.forward(X).tobytes() for _ in range(200))
        net.backprop(X, y)

    threads = [threading.Thread(target=net.fit, args=(X, y), kwargs=fit) for _ in range(8)]
    threads += [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert net.optimizer_state()["steps"] == twin.optimizer_state()["steps"] == 8 * 10 * 4
    assert net.forward(X).tobytes() == possible[-1]
    assert set(seen) <= set(possible)
