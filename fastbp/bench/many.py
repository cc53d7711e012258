"""Many small networks: `fit_many` and what stands on it beside loops over `fit`, JAX's `vmap` and scikit-learn.

Rounds of all contestants, one after the other in turns, so that a busy moment meets them alike; medians over rounds.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import statistics
import time
import tracemalloc
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastbp.bench import sweeps
from fastbp.bench.peers import TorchRival
from fastbp.bench.result import Setting
from fastbp.bench.rivals import Task
from fastbp.bench.workloads import SWEEP_EPOCHS, SWEEP_RATES, Workload
from fastbp.engine import team
from fastbp.many.cross_validation import cross_validate
from fastbp.many.fit_many import fit_many
from fastbp.network import MLP
from fastbp.optimizers import SGD, Adam
from fastbp.types import Array

ROUNDS, QUICK_ROUNDS = 5, 3
HIDDEN, SEEDS = (4, 8, 12, 16, 24, 32, 48, 64), 10
# Of the first work: networks, rows of each, and its training.
NETWORKS, ROWS, EPOCHS, BATCH = 1000, 200, 50, 32
MEMORY_NETWORKS = 10_000
# Of sweeps: rows, in whole batches; and at how many of the rates a loop is timed.
ROWS_OF_RATES, LOOPED = 1_792, 2

Call = Callable[[], Any]


@dataclasses.dataclass
class Work:
    """One task: contestants by name, each of which makes its call anew, its set-up apart."""

    name: str
    make: dict[str, Callable[[], Call]]
    shares: dict[str, float] = dataclasses.field(default_factory=dict)  # of the work that a call does; 1 if not there
    seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    def round(self) -> None:
        """Time all of them once."""
        for name, make in self.make.items():
            call = make()
            started = time.perf_counter()
            call()
            took = (time.perf_counter() - started) / self.shares.get(name, 1.0)
            self.seconds.setdefault(name, []).append(took)

    def median(self, name: str) -> float:
        """Seconds of a contestant."""
        return statistics.median(self.seconds[name])


def _data(n: int, n_in: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, n_in)).astype(np.float32)
    return X, (X[:, :1] * X[:, 1:2] + 0.1 * rng.standard_normal((n, 1))).astype(np.float32)


def _loop(nets: Sequence[MLP], parts: Sequence[tuple[Array, Array]], threads: int | None, **how: Any) -> None:
    for net, (X, y) in zip(nets, parts, strict=True):
        net.fit(X, y, threads=threads, **how)


def small_networks(threads: int) -> Work:
    """1,000 networks 8-16-1, 200 rows each, 50 epochs, Adam."""
    X, y = _data(ROWS * 50, 8)
    rows = [np.arange(ROWS) + ROWS * (k % 50) for k in range(NETWORKS)]
    parts = [(X[one], y[one]) for one in rows]
    how: dict[str, Any] = {"epochs": EPOCHS, "batch_size": BATCH, "optimizer": Adam()}

    def nets() -> list[MLP]:
        return [MLP([8, 16, 1], loss="mse", seed=k) for k in range(NETWORKS)]

    def many(n: int) -> Call:
        return functools.partial(fit_many, nets(), X, y, rows=rows, threads=n, **how)

    make: dict[str, Callable[[], Call]] = {
        "fit_many": lambda: many(threads),
        "fit_many, 1 thread": lambda: many(1),
        "loop over fit(threads=1)": lambda: functools.partial(_loop, nets(), parts, 1, **how),
    }
    if importlib.util.find_spec("jax") is not None:
        make["jax, vmap"] = _jax_many(np.stack([a for a, _ in parts]), np.stack([b for _, b in parts]))
    return Work("1,000 networks 8-16-1, 200 rows, 50 epochs, Adam", make)


def _jax_many(X: Array, y: Array) -> Callable[[], Call]:
    """`jit` of `vmap` over the networks of one `scan` over all steps; whole batches alone, an advantage of 4 %."""
    import jax
    import jax.numpy as jnp

    wait: Any = jax.block_until_ready

    def loss(p: Any, x: Any, t: Any) -> Any:
        return jnp.mean((jax.nn.relu(x @ p[0] + p[1]) @ p[2] + p[3] - t) ** 2)

    def train(p: Any, x: Any, t: Any, order: Any) -> Any:
        zero = jax.tree.map(jnp.zeros_like, p)

        def step(carry: Any, rows: Any) -> Any:
            p, m, v, i = carry
            i = i + 1.0
            g = jax.grad(loss)(p, x[rows], t[rows])
            m = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m, g)
            v = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, v, g)

            def update(w: Any, a: Any, b: Any) -> Any:
                return w - 1e-3 * (a / (1 - 0.9**i)) / (jnp.sqrt(b / (1 - 0.999**i)) + 1e-8)

            return (jax.tree.map(update, p, m, v), m, v, i), None

        return jax.lax.scan(step, (p, zero, zero, 0.0), order)[0][0]

    rng = np.random.default_rng(0)
    n, whole = len(X), ROWS // BATCH * BATCH
    start = [rng.standard_normal(shape, np.float32) for shape in ((n, 8, 16), (n, 16), (n, 16, 1), (n, 1))]
    compiled = jax.jit(jax.vmap(train, in_axes=(0, 0, 0, None)))
    steps = -(-ROWS // BATCH) * EPOCHS

    def call() -> None:
        order = np.concatenate([rng.permutation(ROWS)[:whole].reshape(-1, BATCH) for _ in range(EPOCHS + 9)])[:steps]
        wait(compiled(start, X, y, order.astype(np.int32)))

    call()
    return lambda: call


def rates(n: int, sizes: tuple[int, ...], batch: int, threads: int) -> Work:
    """A sweep of n learning rates: `lr_sweep` beside `fit_many`, JAX's `vmap` and loops, of which a part is timed."""
    name = "-".join(map(str, sizes))
    workload = Workload(f"sweep {name}", sizes, batch, ROWS_OF_RATES // batch * batch, task="sweep")
    task, swept = Task.of(workload), SWEEP_RATES[np.linspace(0, len(SWEEP_RATES) - 1, n).round().astype(int)]

    def sweep(used: int) -> Callable[[], Call]:
        ours = sweeps.FastbpSweep()
        ours.apply(Setting(used))
        ours.setup(task)
        return lambda: functools.partial(ours.sweep, swept, SWEEP_EPOCHS)

    def nets() -> list[MLP]:
        return [MLP(sizes, activation=workload.activation, loss=workload.loss, seed=workload.seed) for _ in swept]

    how: dict[str, Any] = {
        "epochs": SWEEP_EPOCHS, "batch_size": batch, "validation_data": (task.X[:batch], task.y[:batch]),
        "optimizer": [SGD(lr=float(rate)) for rate in swept], "threads": threads,
    }  # fmt: skip
    make: dict[str, Callable[[], Call]] = {
        "lr_sweep": sweep(threads),
        "lr_sweep, 1 thread": sweep(1),
        "fit_many": lambda: functools.partial(fit_many, nets(), task.X, task.y, **how),
    }
    if importlib.util.find_spec("jax") is not None:
        theirs = sweeps.JaxSweep()
        theirs.load()
        theirs.setup(task)
        make["jax, vmap"] = lambda: functools.partial(theirs.sweep, swept, SWEEP_EPOCHS, shuffle=True)
    shares = {}
    if importlib.util.find_spec("torch") is not None:
        make["torch, loop"], shares["torch, loop"] = _torch_loop(task, threads), LOOPED / n
    return Work(f"{n} rates x {SWEEP_EPOCHS} epochs, {name}, batches of {batch}", make, shares)


def _torch_loop(task: Task, threads: int) -> Callable[[], Call]:
    """PyTorch's training at some of the rates, in the setting that is the fastest at one of them."""
    theirs = sweeps.Loop(TorchRival())
    theirs.load()
    theirs.setup(task)
    theirs.reset()
    took = {}
    for setting in theirs.settings(threads):
        theirs.apply(setting)
        theirs.reset()
        theirs.train(1, shuffle=True)
        started = time.perf_counter()
        theirs.train(1, shuffle=True)
        took[setting] = time.perf_counter() - started
    best = min(took, key=lambda setting: took[setting])

    def make() -> Call:
        theirs.apply(best)
        return functools.partial(theirs.train, LOOPED, shuffle=True)

    return make


def mixed_shapes(threads: int) -> Work:
    """8 sizes of the hidden layer x 10 seeds."""
    X, y = _data(2000, 16)
    how: dict[str, Any] = {"epochs": 10, "batch_size": 32, "optimizer": Adam()}

    def nets() -> list[MLP]:
        return [MLP([16, n, 1], loss="mse", seed=seed) for n in HIDDEN for seed in range(SEEDS)]

    parts = [(X, y)] * (len(HIDDEN) * SEEDS)
    return Work(
        "8 hidden sizes x 10 seeds, 2,000 rows, 10 epochs",
        {
            "fit_many": lambda: functools.partial(fit_many, nets(), X, y, threads=threads, **how),
            "fit_many, 1 thread": lambda: functools.partial(fit_many, nets(), X, y, threads=1, **how),
            "loop over fit(threads=1)": lambda: functools.partial(_loop, nets(), parts, 1, **how),
            "loop over fit": lambda: functools.partial(_loop, nets(), parts, None, **how),
        },
    )


def folds(threads: int) -> Work:
    """5 x 10 folds of 569 rows, 30-64-2, 100 epochs."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((569, 30)).astype(np.float32)
    y = (X[:, 0] + X[:, 1] * X[:, 2] + 0.3 * rng.standard_normal(569) > 0).astype(np.int64)
    net = MLP([30, 64, 2], seed=0)
    how: dict[str, Any] = {"folds": 10, "repeats": 5, "epochs": 100, "metrics": "accuracy"}
    make: dict[str, Callable[[], Call]] = {
        "cross_validate": lambda: functools.partial(cross_validate, net, X, y, threads=threads, **how),
        "cross_validate, 1 thread": lambda: functools.partial(cross_validate, net, X, y, threads=1, **how),
    }
    return Work("5 x 10 folds, 30-64-2, 569 rows, 100 epochs", make)


def sklearn_folds(threads: int) -> float | None:
    """Seconds of scikit-learn's `cross_validate` for one repetition of ten folds, times five; None without it."""
    if importlib.util.find_spec("sklearn") is None:
        return None
    from sklearn.model_selection import cross_validate as theirs
    from sklearn.neural_network import MLPClassifier

    rng = np.random.default_rng(0)
    X = rng.standard_normal((569, 30))
    y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(np.int64)
    net = MLPClassifier(
        hidden_layer_sizes=(64,), batch_size=32, max_iter=100, n_iter_no_change=1000, tol=0.0, alpha=0.0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs(net, X[:60], y[:60], cv=2, n_jobs=threads)  # its workers start
        started = time.perf_counter()
        theirs(net, X, y, cv=10, n_jobs=threads)
    return 5.0 * (time.perf_counter() - started)


def sklearn_networks(threads: int, n: int = 24) -> float | None:
    """Seconds of scikit-learn with joblib for 1,000 networks, as measured on some of them; None without it."""
    if importlib.util.find_spec("sklearn") is None:
        return None
    from joblib import Parallel, delayed
    from sklearn.neural_network import MLPRegressor

    X, y = _data(ROWS, 8)

    def make(seed: int) -> Any:
        return MLPRegressor(
            hidden_layer_sizes=(16,),
            batch_size=BATCH,
            max_iter=EPOCHS,
            n_iter_no_change=1000,
            tol=0.0,
            alpha=0.0,
            random_state=seed,
        )

    with Parallel(n_jobs=threads) as pool:
        pool(delayed(_quietly)(make(k), X[:40], y[:40, 0]) for k in range(threads))  # its workers start
        started = time.perf_counter()
        pool(delayed(_quietly)(make(k), X, y[:, 0]) for k in range(n))
        return NETWORKS / n * (time.perf_counter() - started)


def _quietly(estimator: Any, X: Array, y: Array) -> Any:
    """`fit`, without the warning that it has ended by its number of epochs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(X, y)


def memory(n: int) -> float:
    """Bytes that each of n networks 8-16-1 takes when it is trained, its history included, beyond its making."""
    nets = [MLP([8, 16, 1], loss="mse", seed=k) for k in range(n)]
    X, y = _data(ROWS, 8)
    fit_many([MLP([8, 16, 1], loss="mse", seed=0)], X, y, epochs=1)
    tracemalloc.start()
    try:
        fit_many(nets, X, y, epochs=EPOCHS, batch_size=BATCH)
        return tracemalloc.get_traced_memory()[0] / n
    finally:
        tracemalloc.stop()


def run(threads: int | None = None, *, quick: bool = False, progress: Callable[[str], None]) -> dict[str, Any]:
    """Measure all works; returns what `--json` prints."""
    used = threads or team.default_threads()
    found = []
    digits, deeper = rates(32, (64, 64, 10), 32, used), rates(24, (64, 200, 90, 10), 56, used)
    for work in (small_networks(used), mixed_shapes(used), folds(used), digits, deeper):
        for number in range(1 + (QUICK_ROUNDS if quick else ROUNDS)):
            progress(f"{work.name}: round {number}")
            work.round()
        for times in work.seconds.values():
            del times[0]  # caches were cold
        found.append(work)
    rows = [_row(work) for work in found]
    progress("scikit-learn")
    for row, seconds in ((rows[0], sklearn_networks(used)), (rows[2], sklearn_folds(used))):
        if seconds is not None:
            row["seconds"]["scikit-learn, joblib"] = seconds
    for row in rows:
        ours = next(iter(row["seconds"].values()))
        row["times_as_long"] = {name: seconds / ours for name, seconds in row["seconds"].items()}
    progress("memory")
    n = MEMORY_NETWORKS // (10 if quick else 1)
    return {
        "kind": "fastbp-many", "schema": 1, "threads": used, "works": rows,
        "memory": {"networks": n, "bytes_each": memory(n)},
    }  # fmt: skip


def _row(work: Work) -> dict[str, Any]:
    return {"work": work.name, "seconds": {name: work.median(name) for name in work.make}}


def render(document: dict[str, Any]) -> Any:
    """The document as a table."""
    from rich.table import Table

    title = f"many networks, {document['threads']} threads"
    table = Table("work", "by", "seconds", "times as long", title=title, title_justify="left")
    for row in document["works"]:
        for number, (name, seconds) in enumerate(row["seconds"].items()):
            ratio = row["times_as_long"][name]
            table.add_row("" if number else row["work"], name, f"{seconds:.3g}", f"{ratio:.2f}" if number else "")
    kept = document["memory"]
    table.add_row(
        f"{kept['networks']:,} networks 8-16-1, 50 epochs", "fit_many", f"{kept['bytes_each']:,.0f} bytes each"
    )
    return table
