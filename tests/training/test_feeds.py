"""`fit` over chunks: what comes of it, in every bit; and what is refused, chunk by chunk."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastbp import MLP, SGD, Adam, CrossEntropy, DivergenceError, schedules
from fastbp.callbacks import Checkpoint, EarlyStopping, MaxSeconds, StopGradientNorm
from fastbp.callbacks.base import EpochState, Watcher
from fastbp.engine import tuning

RNG = np.random.default_rng(6)
X = RNG.standard_normal((103, 6))
Y = RNG.integers(0, 3, 103)
CUTS = (40, 47, 80)
CHUNKS = list(zip(np.split(X, CUTS), np.split(Y, CUTS), strict=True))


def make(seed: int = 5, **options: Any) -> MLP:
    return MLP([6, 8, 3], seed=seed, **options)


def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield from CHUNKS


def bits(net: MLP) -> Any:
    optimizer, history = net.optimizer_state(), net.history
    assert history is not None
    moments = [array.tobytes() for m in optimizer.pop("moments") for part in m.values() for array in part]
    arrays = [array.tobytes() for array in [*net.weights, *net.biases]]
    columns = {name: values for name, values in history.columns().items() if name != "seconds"}
    return arrays, moments, optimizer, columns, len(history.seconds), history.stop_reason


def test_one_chunk_is_all_the_data() -> None:
    """Bit for bit, with validation and a rate that follows it."""
    options: dict[str, Any] = {
        "epochs": 6, "batch_size": 10, "validation_data": (X[:30], Y[:30]), "optimizer": Adam(lr=0.05),
        "schedule": schedules.ReduceOnPlateau(0.5, patience=0, monitor="val_loss"),
    }  # fmt: skip
    whole, net = make(), make()
    whole.fit(X, Y, **options)
    net.fit([(X, Y)], **options)
    assert bits(net) == bits(whole)


def test_chunks_are_trained_on_one_after_the_other() -> None:
    """Unshuffled, the steps are those of train_step on the batches of every chunk, whose last may be short."""
    net, stepped = make(dtype="float64"), make(dtype="float64")
    optimizer = SGD(lr=0.1, momentum=0.9)
    history = net.fit(CHUNKS, epochs=2, batch_size=16, shuffle=False, optimizer=optimizer)
    for epoch in range(2):
        total = 0.0
        for samples, targets in CHUNKS:
            for start in range(0, len(samples), 16):
                batch = slice(start, start + 16)
                total += stepped.train_step(samples[batch], targets[batch], optimizer) * len(samples[batch])
        assert history.loss[epoch] == pytest.approx(total / 103, rel=1e-14)
    assert [a.tobytes() for a in net.weights] == [a.tobytes() for a in stepped.weights]
    assert history.lr == [0.1, 0.1]
    assert min(history.seconds) > 0
    assert net.optimizer_state()["epochs"] == 2


def test_rows_are_shuffled_within_their_chunk_anew_each_time() -> None:
    seen: list[float] = []
    net = MLP([1, 1], loss="mae", dtype="float64", seed=0)

    class Look(Watcher):
        def on_epoch_end(self, state: EpochState) -> None:
            pass

        def on_pause(self, fit: Any, final: bool) -> None:
            if fit.feed.log.steps % 8 == 0 and not final:
                seen.extend(np.concatenate([*fit.feed.log.losses, []]))

    chunks = [(np.zeros((8, 1)), np.arange(8.0)), (np.zeros((8, 1)), np.arange(8.0) + 8)]
    history = net.fit(chunks, epochs=2, batch_size=1, optimizer=SGD(lr=0.0), callbacks=[Look()])
    assert history.loss == [7.5, 7.5]
    # Seen after each chunk: 0..7 first, then all of the epoch.
    first, epoch, second = seen[:8], seen[8:24], seen[24:32]
    assert sorted(first) == list(range(8))
    assert epoch[:8] == first
    assert sorted(epoch[8:]) == list(range(8, 16))
    orders = [tuple(first), tuple(v - 8 for v in epoch[8:]), tuple(second)]
    assert len({*orders, tuple(range(8))}) == 4


@pytest.mark.parametrize("source", [CHUNKS, tuple(CHUNKS), generate], ids=["list", "tuple", "function"])
def test_forms_of_chunks(source: Any) -> None:
    net, listed = make(), make()
    net.fit(source, epochs=3, threads=2)
    listed.fit(CHUNKS, epochs=3, threads=1)
    assert bits(net) == bits(listed)


def test_a_generator_serves_one_epoch() -> None:
    net, listed = make(), make()
    net.fit(generate(), epochs=1)
    listed.fit(CHUNKS, epochs=1)
    assert bits(net) == bits(listed)
    with pytest.raises(ValueError, match=r"generator of chunks can be read only once, but epochs=2: pass the function"):
        net.fit(generate(), epochs=2)
    once = generate()
    with pytest.raises(ValueError, match="no chunk came in epoch 1"):
        make().fit(lambda: once, epochs=2)


@pytest.mark.parametrize("max_steps", [1, 2, 1000])
def test_nothing_depends_on_the_length_of_native_calls(max_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, net = make(), make()
    schedule = schedules.Warmup(0.5, schedules.Cosine(3))
    options: dict[str, Any] = {"epochs": 3, "batch_size": 8, "schedule": schedule, "steps_per_epoch": 14}
    whole.fit(CHUNKS, **options)
    monkeypatch.setattr(tuning, "MAX_STEPS", max_steps)
    monkeypatch.setattr(tuning, "FIRST_STEPS", max_steps)
    net.fit(CHUNKS, **options)
    assert bits(net) == bits(whole)


def test_schedules_by_epochs_want_to_know_their_length() -> None:
    net = make()
    with pytest.raises(ValueError, match=r"Cosine counts in epochs.*steps_per_epoch"):
        net.fit(CHUNKS, schedule=schedules.Cosine(3))
    with pytest.raises(ValueError, match="steps_per_epoch=9, but epoch 0 had 6 steps"):
        net.fit(CHUNKS, schedule=schedules.Cosine(3), steps_per_epoch=9)
    with pytest.raises(ValueError, match="steps_per_epoch=3 is for chunks"):
        net.fit(X, Y, steps_per_epoch=3)
    history = make().fit(CHUNKS, epochs=2, schedule=lambda step: 0.1 / (1 + step), optimizer="sgd")
    assert history.lr == [0.1 / 6, 0.1 / 12]
    history = make().fit(CHUNKS, epochs=2, schedule=schedules.Polynomial(2), steps_per_epoch=6, optimizer=SGD(lr=0.1))
    assert history.lr == pytest.approx([0.1 * (1 - 5 / 12), 0.1 * (1 - 11 / 12)])


def changed(place: Any, value: float) -> np.ndarray:
    array = X[:20].copy()
    array[place] = value
    return array


BAD: list[tuple[Any, type[Exception], str]] = [
    ((X[:20, :5], Y[:20]), ValueError, "X has 5 columns"),
    ((X[:20], Y[:19]), ValueError, "y has 19 rows"),
    ((X[:20], Y[:20] + 1), ValueError, r"y\[\d+\] is 3"),
    ((changed((3, 2), np.nan), Y[:20]), ValueError, r"X\[3, 2\] is nan"),
    ((X[:0], Y[:0]), ValueError, "X has 0 rows"),
    (X[:20], TypeError, r"a chunk must be a pair \(X, y\), or \(X, y, sample_weight\), got ndarray"),
    ((X[:20], Y[:20], Y[:20], Y[:20]), TypeError, r"a chunk must be a pair \(X, y\)"),
    ((X[:20].astype(str), Y[:20]), TypeError, "X has dtype <U"),
]


@pytest.mark.parametrize(("bad", "error", "says"), BAD, ids=[row[2] for row in BAD])
def test_a_bad_chunk_is_named_and_leaves_the_network_as_before_it(bad: Any, error: Any, says: str) -> None:
    net, before = make(), make()
    with pytest.raises(error, match=f"^chunk 2 of epoch 0: {says}"):
        net.fit([*CHUNKS[:2], bad, *CHUNKS[2:]], epochs=2)
    before.fit(CHUNKS[:2], epochs=1)
    assert [a.tobytes() for a in net.weights] == [a.tobytes() for a in before.weights]
    assert net.optimizer_state()["steps"] == before.optimizer_state()["steps"]
    assert net.history is not None
    assert net.history.loss == []


def test_memory_mapped_shards(tmp_path: Path) -> None:
    mapped = []
    for k, (samples, targets) in enumerate(CHUNKS):
        np.save(tmp_path / f"{k}.npy", samples.astype(np.float32))
        mapped.append((np.load(tmp_path / f"{k}.npy", mmap_mode="r"), targets))
    net, listed = make(), make()
    net.fit(mapped, epochs=2)
    listed.fit([(samples.astype(np.float32), targets) for samples, targets in CHUNKS], epochs=2)
    assert bits(net) == bits(listed)
    shard = np.load(tmp_path / "1.npy", mmap_mode="r+")
    shard[4, 4] = np.inf
    steps = net.optimizer_state()["steps"]
    with pytest.raises(ValueError, match=r"chunk 1 of epoch 0: X\[4, 4\] is inf"):
        net.fit(mapped, epochs=1)
    assert net.optimizer_state()["steps"] == steps + 2  # those of chunk 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"X": X}, TypeError, "y is missing"),
        ({"X": 3}, TypeError, "must be an iterable of chunks"),
        ({"X": []}, ValueError, "no chunk came in epoch 0"),
        ({"X": CHUNKS, "validation_split": 0.1}, ValueError, "validation_split needs all rows"),
        ({"X": CHUNKS, "callbacks": [StopGradientNorm(0.1)]}, ValueError, "StopGradientNorm needs all rows"),
        ({"X": CHUNKS, "callbacks": [EarlyStopping()]}, ValueError, "needs validation_data"),
        ({"X": CHUNKS, "steps_per_epoch": 0}, ValueError, "steps_per_epoch"),
        ({"X": CHUNKS, "epochs": 0}, ValueError, "epochs"),
        ({"X": CHUNKS, "validation_data": X}, TypeError, "validation_data"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: Any, message: str) -> None:
    net = make()
    before = [a.tobytes() for a in net.weights]
    with pytest.raises(error, match=message):
        net.fit(**arguments)
    assert [a.tobytes() for a in net.weights] == before


def test_the_gradients_norm_is_not_to_be_had() -> None:
    class Ask:
        def on_epoch_end(self, state: EpochState) -> None:
            state.gradient_norm()

    with pytest.raises(ValueError, match="gradient_norm needs all rows"):
        make().fit(CHUNKS, callbacks=[Ask()])


def test_divergence_tells_its_place() -> None:
    with pytest.raises(DivergenceError) as caught:
        MLP([1, 1], loss="mse", seed=0).fit([(np.full((6, 1), 1e12), np.zeros(6))] * 3, optimizer=SGD(lr=1e10))
    assert caught.value.epoch == 0


def test_buffers_serve_all_chunks() -> None:
    net = make()
    net.fit(CHUNKS[:1], epochs=1, batch_size=8)
    buffers = net.session.engine.buffers
    net.fit(CHUNKS, epochs=3, batch_size=8)
    assert net.session.engine.buffers is buffers


class Failure(Exception):
    pass


def failing(after: int) -> Any:
    left = [after]

    def chunks() -> Iterator[Any]:
        for chunk in CHUNKS:
            left[0] -= 1
            if left[0] < 0:
                signal.raise_signal(signal.SIGINT)
            yield chunk

    return chunks


@pytest.mark.parametrize("after", [0, 1, 3, 4, 6, 11])
def test_ctrl_c_while_a_chunk_is_fetched_and_on_from_there(after: int, tmp_path: Path) -> None:
    whole, net = make(), make()
    options: dict[str, Any] = {"epochs": 3, "validation_data": (X[:20], Y[:20]), "optimizer": Adam(lr=0.05)}
    whole.fit(CHUNKS, **options)
    with pytest.raises(KeyboardInterrupt):
        net.fit(failing(after), callbacks=[Checkpoint(tmp_path)], **options)
    resumed = make(seed=1)
    resumed.fit(generate, resume=tmp_path, **options)
    assert bits(resumed) == bits(whole)


@pytest.mark.parametrize("stop", range(1, 17))
def test_goes_on_within_a_chunk(stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Watcher):
        calls = 0

        def on_epoch_end(self, state: EpochState) -> None:
            pass

        def on_pause(self, fit: Any, final: bool) -> None:
            self.calls += 1
            if self.calls == stop:
                raise Failure

    whole, net = make(), make()
    options: dict[str, Any] = {"epochs": 3, "batch_size": 8, "schedule": schedules.Cosine(3), "steps_per_epoch": 14}
    whole.fit(CHUNKS, **options)
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "MAX_STEPS", 2)
        patch.setattr(tuning, "FIRST_STEPS", 2)
        with pytest.raises(Failure):
            net.fit(generate, callbacks=[Checkpoint(tmp_path, every_seconds=1e-9), Stop()], **options)
    resumed = make(seed=1)
    resumed.fit(CHUNKS, resume=tmp_path, **options)
    assert bits(resumed) == bits(whole)


def test_another_chunk_in_the_place_of_the_interrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "FIRST_STEPS", 1)
    monkeypatch.setattr(tuning, "MAX_STEPS", 1)

    class Stop(Watcher):
        def on_epoch_end(self, state: EpochState) -> None:
            pass

        def on_pause(self, fit: Any, final: bool) -> None:
            raise Failure

    with pytest.raises(Failure):
        make().fit(CHUNKS, callbacks=[Checkpoint(tmp_path, every_seconds=1e-9), Stop()])
    with pytest.raises(ValueError, match="chunk 0 is not the one that the training was interrupted in"):
        make().fit(CHUNKS[::-1], resume=tmp_path)
    with pytest.raises(ValueError, match="is of another training: batch_size were 32, now 16"):
        make().fit(CHUNKS, batch_size=16, resume=tmp_path)


def test_chunks_may_bring_weights() -> None:
    """Weights as in `fit` on all rows; in the loss of an epoch every row counts by its weight."""
    weights = np.random.default_rng(2).uniform(0.1, 3.0, len(X))
    whole, chunked = make(), make()
    whole.fit(X, Y, sample_weight=weights, epochs=2, shuffle=False, batch_size=20)
    cuts = [slice(k, k + 20) for k in range(0, len(X), 20)]
    chunked.fit([(X[c], Y[c], weights[c]) for c in cuts], epochs=2, shuffle=False, batch_size=20)
    assert [a.tobytes() for a in whole.weights] == [a.tobytes() for a in chunked.weights]
    assert whole.history is not None
    assert chunked.history is not None
    np.testing.assert_allclose(chunked.history.loss, whole.history.loss, rtol=1e-12)
    with pytest.raises(ValueError, match="with chunks, weights come with them"):
        make().fit(CHUNKS, sample_weight=weights)
    with pytest.raises(ValueError, match="L-BFGS makes no single steps"):
        make().fit(CHUNKS, optimizer="lbfgs")


@pytest.mark.parametrize("by", ["labels", "weights"])
def test_a_chunk_in_which_nothing_counts(by: str) -> None:
    """Its steps have loss 0 and no gradient, as a batch of `fit` on all rows has."""
    n = len(X)
    labels, weights = Y.copy(), np.ones(n)
    (labels if by == "labels" else weights)[20:40] = -100 if by == "labels" else 0
    more = (weights,) if by == "weights" else ()
    whole, chunked = (MLP([6, 8, 3], loss=CrossEntropy(ignore_index=-100), seed=1) for _ in range(2))
    whole.fit(X, labels, epochs=3, batch_size=20, shuffle=False, sample_weight=more[0] if more else None)
    chunks = [tuple(part[k : k + 20] for part in (X, labels, *more)) for k in range(0, n, 20)]
    chunked.fit(chunks, epochs=3, batch_size=20, shuffle=False)
    assert [a.tobytes() for a in whole.weights] == [a.tobytes() for a in chunked.weights]
    assert whole.history is not None
    assert chunked.history is not None
    np.testing.assert_allclose(chunked.history.loss, whole.history.loss, rtol=1e-12)
    with pytest.raises(ValueError, match=r"the weights of all rows of epoch 0 are 0 .*: at least one row must count"):
        chunked.fit([chunks[1]], epochs=2)


def test_steps_per_epoch_ends_endless_epochs() -> None:
    """As in Keras: a generator without an end, cut into epochs; a chunk may be cut short by one."""

    def endless() -> Any:
        while True:
            yield X[:30], Y[:30]

    net, twin = make(), make()
    net.fit(endless, epochs=3, steps_per_epoch=5, batch_size=10, shuffle=False)
    for _ in range(3):
        twin.fit(X[:30], Y[:30], batch_size=10, shuffle=False, epochs=1)
        twin.fit(X[:20], Y[:20], batch_size=10, shuffle=False, epochs=1)
    assert net.history is not None
    assert len(net.history.loss) == 3
    assert net.optimizer_state()["steps"] == 15
    assert [a.tobytes() for a in net.weights] == [a.tobytes() for a in twin.weights]


def test_max_seconds_ends_a_stream_within_an_epoch() -> None:
    seen = []

    def slow() -> Any:
        for number in range(1000):
            seen.append(number)
            time.sleep(0.02)
            yield X[:20], Y[:20]

    net = make()
    history = net.fit(slow, epochs=1, callbacks=[MaxSeconds(0.1)])
    assert history.stop_reason.startswith("MaxSeconds")
    assert len(seen) < 500
    assert history.loss == []  # the epoch was cut short


@pytest.mark.parametrize("stop", [4, 7])
def test_a_cut_epoch_goes_on_from_its_checkpoint(stop: int, tmp_path: Path) -> None:
    def endless() -> Any:
        while True:
            yield X[:30], Y[:30]

    options: dict[str, Any] = {"epochs": 4, "steps_per_epoch": 8, "batch_size": 10}
    whole, parts = make(), make()
    whole.fit(endless, **options)
    count = iter(range(1000))

    def once() -> Any:
        for chunk in endless():
            if next(count) == stop:
                raise KeyboardInterrupt
            yield chunk

    with pytest.raises(KeyboardInterrupt):
        parts.fit(once, callbacks=[Checkpoint(tmp_path / "run")], **options)
    parts.fit(endless, callbacks=[Checkpoint(tmp_path / "run")], resume=tmp_path / "run", **options)
    assert [a.tobytes() for a in whole.weights] == [a.tobytes() for a in parts.weights]
    assert whole.history is not None
    assert parts.history is not None
    assert whole.history.loss == parts.history.loss
