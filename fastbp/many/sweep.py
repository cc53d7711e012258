"""`sweep`: a network trained anew at each point of a space of settings, with several seeds, side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.history import History
from fastbp.many import fit_many as many
from fastbp.many import space
from fastbp.many.metrics import Metric
from fastbp.many.run_spec import HELD_OUT, digest
from fastbp.many.runs import check_seeds
from fastbp.many.sweep_result import Sweep
from fastbp.many.task import Task
from fastbp.many.tasks import of_arguments
from fastbp.many.training import Training
from fastbp.many.variants import variant
from fastbp.network import MLP
from fastbp.numerics import own
from fastbp.types import Array
from fastbp.validation import check_positive_int


@own
def sweep(
    net: MLP,
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    over: Mapping[str, Any],
    *,
    seeds: int | Sequence[int] = 5,
    sampling: str = "grid",
    n: int | None = None,
    metric: Any = "loss",
    maximize: bool = True,
    steps: int | None = None,
    **training: Any,
) -> Sweep:
    """Train a network anew at each point of a space of settings, with each of some seeds, side by side.

    A run at a point with seed s is, bit for bit, ``MLP(..., seed=s).fit(X, y, validation_split=0.2, ...)`` with the
    settings of the point: the seed decides initial weights, order of rows and what is held out. `net` itself is only
    read: its configuration, where `over` does not change it, and its scaling.

    Parameters
    ----------
    net : MLP
    X, y : array-like
        As `MLP.fit` takes them.
    over : mapping
        Setting -> its values, as a list; or a range, ``(low, high)`` or ``(low, high, "log")``, for the samplings that
        draw. Settings are those of the optimiser (lr, weight_decay, momentum, ...), of the training (batch_size,
        epochs, optimizer, schedule, class_weight, shuffle, drop_last, precision) and of the network (hidden, the sizes
        of its hidden layers, activation, dropout, l1, l2, max_norm, input_noise, init, loss, dtype, ...).
    seeds : int or sequence of int
        So many seeds, counted from ``net.seed``; or the seeds themselves.
    sampling : {"grid", "random", "sobol"}
        All combinations; or `n` points, drawn by ``net.seed``, evenly (SciPy) or at random.
    n : int, optional
        How many points are drawn.
    metric : str or callable
        What the points are compared by, on the rows held out: "loss", "accuracy", "balanced_accuracy", "r2", "rmse",
        "mae", or ``f(y, predictions)``.
    maximize : bool
        Whether more is better, of a function.
    steps : int, optional
        Budget of each run in steps of gradient descent, in the place of `epochs`: as many epochs as come closest.
    **training
        What holds at all points, as `MLP.fit` takes it: epochs, batch_size, optimizer, schedule, sample_weight,
        class_weight, validation_data or validation_split (a fifth), callbacks, precision; threads, journal, executor,
        progress, as `fit_many` does. A run that `EarlyStopping` ends frees its thread at once.

    Returns
    -------
    Sweep
        Scores by point and seed, the best point, and what is as good.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as described: before anything is trained, by the number of the run.
    SweepInterrupted
        On Ctrl-C: a KeyboardInterrupt whose `result` holds the runs that had finished.

    Examples
    --------
    >>> found = fastbp.sweep(net, X, y, {"lr": [0.01, 0.1], "batch_size": [8, 16]}, seeds=2, epochs=3)
    >>> found.scores.shape, sorted(found.best)
    ((4, 2), ['batch_size', 'lr'])
    """
    if not isinstance(net, MLP):
        raise TypeError(f"net must be a fastbp.MLP, got {type(net).__name__}")
    axes, chosen = space.check(over), check_seeds(seeds, net.seed)
    plan = Training.of(training)
    configs = space.points(axes, sampling, n, net.seed)
    measure = Metric.get(metric, net.loss, maximize)
    arguments = dict(plan.arguments)
    if arguments.get("validation_data") is None and not arguments.setdefault("validation_split", HELD_OUT):
        raise ValueError("validation_split=0 holds no rows out to compare by: give a share, or validation_data")
    if steps is not None:
        steps = check_positive_int("steps", steps)
        if "epochs" in arguments or "epochs" in axes:
            raise ValueError("give steps or epochs, not both")
    share = arguments.get("validation_split", 0.0)
    runs = _Plan(net, arguments, steps, len(np.asarray(y)) - round(len(np.asarray(y)) * share))
    todo = _tasks(configs, chosen, runs, X, y)
    scorer = None if measure.function is None else _Scorer(measure, X, y, arguments.get("validation_data"))
    for task in todo:
        task.after = scorer
    completed = plan.train(todo, networks=plan.journal is not None)
    result = _result(todo, configs, chosen, measure, runs)
    result.about = _about(net, arguments, X, y)
    if not completed:
        raise many.interrupted(todo, plan.journal, result)
    return result


def _about(net: MLP, arguments: Mapping[str, Any], X: Any, y: Any) -> dict[str, Any]:
    """What holds at all points, in words."""
    held = arguments.get("validation_data")
    found = {"network": repr(net), "loss": net.loss.name}
    found |= {name: str(arguments[name]) for name in ("optimizer", "schedule", "epochs", "batch_size")
              if arguments.get(name) is not None}  # fmt: skip
    found["data"] = digest(*(_plain(one) for one in (X, y, arguments.get("sample_weight"), *(held or ()))))
    found["held_out"] = "validation_data" if held is not None else f"{arguments['validation_split']:.0%}, by seed"
    return found


def _plain(values: Any) -> Array | None:
    """An array whose bytes say what it holds."""
    array = None if values is None else np.asarray(values)
    return array.astype(str) if array is not None and array.dtype == object else array


@dataclasses.dataclass(frozen=True, eq=False)
class _Plan:
    """What is trained at a point, and how."""

    net: MLP
    arguments: dict[str, Any]
    steps: int | None
    n_train: int

    def at(self, config: Mapping[str, Any], seed: int) -> tuple[MLP, dict[str, Any]]:
        """The network of a run, and the arguments of its `fit`."""
        options, given = space.parts(config, self.arguments.get("optimizer", "adam"), self.arguments)
        if self.steps is not None:
            each = -(-self.n_train // given.get("batch_size", 32))
            given["epochs"] = max(1, round(self.steps / each))
        return variant(self.net, seed, options), given

    def __call__(self, config: Mapping[str, Any], seed: int) -> tuple[MLP, dict[str, Any]]:
        """The same without rows held out."""
        made, given = self.at(config, seed)
        return made, {name: value for name, value in given.items() if not name.startswith("validation")}


def _tasks(configs: list[dict[str, Any]], seeds: list[int], plan: _Plan, X: Any, y: Any) -> list[Task]:
    runs = [(config, seed) for config in configs for seed in seeds]
    nets, given = [], []
    for config, seed in runs:
        try:
            made, arguments = plan.at(config, seed)
        except (ValueError, TypeError) as error:
            raise type(error)(f"at {config}: {error}") from error
        nets.append(made)
        given.append(arguments)

    def named(number: int) -> str:
        config, seed = runs[number]
        return f"at {config}, seed {seed}"

    names = dict.fromkeys(name for one in given for name in one)
    columns: dict[str, Any] = {
        name: [one[name] for one in given] for name in names if name not in ("sample_weight", "callbacks")
    }
    shared: dict[str, Any] = {name: given[0][name] for name in ("sample_weight", "callbacks") if name in names}
    return of_arguments(nets, X, y, None, {**columns, **shared}, named)


@dataclasses.dataclass
class _Scorer:
    """Scores a network on the rows that its training held out."""

    metric: Metric
    X: Any
    y: Any
    validation_data: Any

    def __call__(self, task: Task) -> dict[str, Any]:
        if self.validation_data is not None:
            return {"score": self.metric.of(task.net, *self.validation_data)}
        assert task.validation is not None
        rows, weights = task.validation.rows, task.validation.own_weights
        X = self.X.iloc[rows] if hasattr(self.X, "iloc") else np.asarray(self.X)[rows]
        return {"score": self.metric.of(task.net, X, np.asarray(self.y)[rows], weights)}


def _result(todo: list[Task], configs: Any, seeds: list[int], measure: Metric, plan: _Plan) -> Sweep:
    shape = len(configs), len(seeds)
    scores, status = np.full(shape, np.nan), np.full(shape, "open", "<U8")
    histories: list[list[History | None]] = [[None] * len(seeds) for _ in configs]
    for task in todo:
        place = divmod(task.number, len(seeds))
        if not task.finished:
            continue
        histories[place[0]][place[1]] = task.history
        status[place] = "finished" if task.error is None else "diverged"
        if task.error is None and task.history is not None:
            if measure.function is None:
                best = [one for one in task.settings.callbacks if getattr(one, "restore_best", False)]
                values = task.history.val_loss
                # After early stopping the network has the weights of its best epoch.
                scores[place] = min(values) if best and best[0].monitor == "val_loss" else values[-1]
            else:
                value = task.found.get("score")
                scores[place] = np.nan if value is None else value
    result = Sweep(configs, seeds, scores, measure.name, measure.larger, histories, status, plan=plan)
    if result.best_index is not None:
        line = scores[result.best_index]
        seed = int(np.nanargmax(line) if measure.larger else np.nanargmin(line))
        result.best_net = todo[result.best_index * len(seeds) + seed].net
    return result
