"""`sweep`: a network trained anew at each point of a space of settings, with several seeds, side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastbp.history import History
from fastbp.io import documents
from fastbp.io.figures import new_figure
from fastbp.io.tabular import Columns, Tabular
from fastbp.many import fit_many as many
from fastbp.many import space
from fastbp.many.metrics import Metric
from fastbp.many.run_spec import HELD_OUT
from fastbp.many.runs import check_seeds
from fastbp.many.task import Task
from fastbp.many.tasks import of_arguments
from fastbp.many.training import Training
from fastbp.many.variants import variant
from fastbp.network import MLP
from fastbp.numerics import own
from fastbp.types import Array
from fastbp.validation import check_positive_int

LINES = 30  # of a printed table


@dataclasses.dataclass(eq=False)
class Sweep(Tabular):
    """What `sweep` has found.

    Attributes
    ----------
    configs : list of dict
        The settings of each point.
    seeds : list of int
    scores : array, (points, seeds)
        The metric on the rows held out, after the last epoch; NaN where a run diverged or was not done.
    metric : str
    larger : bool
        Whether a larger value is better.
    histories : list of list of History or None
        Of each run, by point and seed.
    status : array of str, (points, seeds)
        "finished", "diverged" or "open".
    best_net : MLP or None
        Of the best point, the network with the best score.
    """

    configs: list[dict[str, Any]]
    seeds: list[int]
    scores: Array
    metric: str
    larger: bool
    histories: list[list[History | None]]
    status: Array
    best_net: MLP | None
    plan: Any = dataclasses.field(default=None, repr=False)

    @property
    def mean(self) -> Array:
        """Over the seeds, ``(points,)``; NaN where one has no score."""
        found: Array = self.scores.mean(axis=1)
        return found

    @property
    def error(self) -> Array:
        """Standard error of each mean, ``(points,)``; NaN with one seed."""
        n = self.scores.shape[1]
        return np.asarray(self.scores.std(axis=1, ddof=1) / np.sqrt(n)) if n > 1 else np.full(len(self.scores), np.nan)

    @property
    def best_index(self) -> int | None:
        """The point with the best mean, among those all of whose seeds have a score; None where there is none."""
        cost = -self.mean if self.larger else self.mean
        return int(np.nanargmin(cost)) if np.isfinite(cost).any() else None

    @property
    def best(self) -> dict[str, Any] | None:
        """Its settings."""
        return None if self.best_index is None else self.configs[self.best_index]

    @property
    def as_good(self) -> Array:
        """Points whose paired difference from the best is within one standard error of it, ``(points,)`` of bool."""
        found = np.zeros(len(self.configs), np.bool_)
        if self.best_index is None:
            return found
        found[self.best_index] = True
        n = self.scores.shape[1]
        if n > 1:
            differences = (self.scores - self.scores[self.best_index]) * (-1 if self.larger else 1)
            found |= differences.mean(axis=1) <= differences.std(axis=1, ddof=1) / np.sqrt(n)
        return found

    def refit(self, X: npt.ArrayLike, y: npt.ArrayLike, seed: int | None = None) -> MLP:
        """A network of the best settings, trained on all of these rows, none held out.

        Raises
        ------
        ValueError
            There is no best point, or its training needs rows held out.
        """
        if self.best_index is None:
            raise ValueError("no point has finished with all its seeds: there is nothing to train again")
        net: MLP
        net, arguments = self.plan(self.configs[self.best_index], self.seeds[0] if seed is None else seed)
        net.fit(X, y, **arguments)
        return net

    # --- as a table -----------------------------------------------------------------------------------------

    def columns(self) -> Columns:
        """A line a run."""
        n = len(self.seeds)
        repeated = [config for config in self.configs for _ in range(n)]
        runs = [one for line in self.histories for one in line]
        last = [one.loss[-1] if one is not None and one.loss else float("nan") for one in runs]
        return {
            **space.keys(list(self.configs[0]), repeated), "seed": self.seeds * len(self.configs),
            "status": self.status.ravel().tolist(), self.metric: self.scores.ravel(), "train_loss": last,
            "epochs": [0 if one is None else len(one.loss) for one in runs],
        }  # fmt: skip

    def document(self) -> dict[str, Any]:
        """Settings, means and errors of the points, the best, and the runs."""
        points = [
            {**{name: documents.plain(value) for name, value in config.items()}, "mean": m, "error": e, "as_good": g}
            for config, m, e, g in zip(
                self.configs, self.mean.tolist(), self.error.tolist(), self.as_good.tolist(), strict=True
            )
        ]
        return {"metric": self.metric, "larger_is_better": self.larger, "seeds": self.seeds, "points": points,
                "best": self.best, "runs": self.columns()}  # fmt: skip

    def draw(self) -> Any:
        """The metric by each setting: means of points with their errors."""
        names = list(self.configs[0])
        figure = new_figure(4 * len(names), 4)
        axes = np.atleast_1d(figure.subplots(1, len(names), sharey=True))
        for ax, (name, values) in zip(axes, space.keys(names, self.configs).items(), strict=True):
            if all(isinstance(one, int | float) for one in values):
                ax.errorbar(values, self.mean, self.error, fmt="o")
                numbers = np.asarray(values, np.float64)
                if (numbers > 0).all() and numbers.max() > 20 * numbers.min():
                    ax.set_xscale("log")
            else:
                texts = [str(one) for one in values]
                ax.errorbar(range(len(texts)), self.mean, self.error, fmt="o")
                ax.set_xticks(range(len(texts)), texts, rotation=90)
            ax.set_xlabel(name)
        axes[0].set_ylabel(self.metric)
        return figure

    def __str__(self) -> str:
        order = np.argsort(np.where(np.isfinite(self.mean), -self.mean if self.larger else self.mean, np.inf))
        rows = [[*self.configs[0], self.metric, "+-", "finished", ""]]
        for k in order[:LINES]:
            mark = "best" if k == self.best_index else "as good" if self.as_good[k] else ""
            cells = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in self.configs[k].values()]
            ended = f"{(self.status[k] == 'finished').sum()}/{len(self.seeds)}"
            rows.append([*cells, f"{self.mean[k]:.4g}", f"{self.error[k]:.1g}", ended, mark])
        widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        if len(self.configs) > LINES:
            lines.append(f"... and {len(self.configs) - LINES} more points")
        return "\n".join(lines)


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
    if arguments.get("validation_data") is None:
        arguments.setdefault("validation_split", HELD_OUT)
    if steps is not None:
        steps = check_positive_int("steps", steps)
        if "epochs" in arguments or "epochs" in axes:
            raise ValueError("give steps or epochs, not both")
    share = arguments.get("validation_split", 0.0)
    n_train = len(np.asarray(y)) - round(len(np.asarray(y)) * share)

    def at(config: Mapping[str, Any], seed: int) -> tuple[MLP, dict[str, Any]]:
        options, given = space.parts(config, arguments.get("optimizer", "adam"), arguments)
        if steps is not None:
            each = -(-n_train // given.get("batch_size", 32))
            given["epochs"] = max(1, round(steps / each))
        return variant(net, seed, options), given

    todo = _tasks(configs, chosen, at, X, y)
    scorer = None if measure.function is None else _Scorer(measure, X, y, arguments.get("validation_data"))
    for task in todo:
        task.after = scorer
    completed = plan.train(todo, networks=plan.journal is not None)

    def again(config: Mapping[str, Any], seed: int) -> tuple[MLP, dict[str, Any]]:
        made, given = at(config, seed)
        return made, {name: value for name, value in given.items() if not name.startswith("validation")}

    result = _result(todo, configs, chosen, measure, again)
    if not completed:
        raise many.interrupted(todo, plan.journal, result)
    return result


def _tasks(configs: list[dict[str, Any]], seeds: list[int], at: Any, X: Any, y: Any) -> list[Task]:
    runs = [(config, seed) for config in configs for seed in seeds]
    nets, given = [], []
    for config, seed in runs:
        try:
            made, arguments = at(config, seed)
        except (ValueError, TypeError) as error:
            raise type(error)(f"at {config}: {error}") from error
        nets.append(made)
        given.append(arguments)

    def named(number: int) -> str:
        config, seed = runs[number]
        return f"at {config}, seed {seed}"

    names = dict.fromkeys(name for one in given for name in one)
    columns = {name: [one[name] for one in given] for name in names if name not in ("sample_weight", "callbacks")}
    shared = {name: given[0][name] for name in ("sample_weight", "callbacks") if name in names}
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


def _result(todo: list[Task], configs: Any, seeds: list[int], measure: Metric, plan: Any) -> Sweep:
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
    result = Sweep(configs, seeds, scores, measure.name, measure.larger, histories, status, None, plan)
    if result.best_index is not None:
        line = scores[result.best_index]
        seed = int(np.nanargmax(line) if measure.larger else np.nanargmin(line))
        result.best_net = todo[result.best_index * len(seeds) + seed].net
    return result
