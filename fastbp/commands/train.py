"""`fastbp train`: a network trained on a table or on the embedded digits, measured, and saved."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastbp.commands import recipe as recipes
from fastbp.commands.options import check_out, default, problem_options, run_options, schedule_option
from fastbp.commands.output import Interrupted, json_option, make_ready, print_json, say, score_text, seconds_text
from fastbp.commands.recipe import DIGITS_RECIPE, TABLE_RECIPE, TOL_EPOCHS, VALIDATION_SPLIT, Recipe

if TYPE_CHECKING:
    from fastbp.commands.problem import Problem
    from fastbp.network import MLP


TEST_FRACTION = 0.2


@dataclasses.dataclass(frozen=True)
class Settings:
    """The options of the command; None means that the recipe or the data decide."""

    data: str | None
    target: str | None
    hidden: tuple[int, ...] | None
    activation: str | None
    loss: str | None
    optimizer: str | None
    lr: float | None
    epochs: int | None
    batch_size: int | None
    test_fraction: float
    standardize: bool | None
    dropout: float
    input_noise: float
    l1: float
    l2: float
    max_norm: float | None
    clip_norm: float | None
    label_smoothing: float
    class_weight: str | None
    schedule: str
    warmup_epochs: float
    early_stopping: int | None
    tol: float | None
    max_seconds: float | None
    checkpoint: str | None
    checkpoint_minutes: float
    resume: bool
    history: str | None
    seed: int
    threads: int | None
    out: str | None
    compare: str | None
    as_json: bool


@click.command()
@problem_options
@click.option("--lr", type=float, help=f"Learning rate.  {default('lr')}")
@click.option("--epochs", type=click.IntRange(min=1), help=f"Passes over the data.  {default('epochs')}")
@click.option(
    "--test-fraction",
    type=click.FloatRange(0.0, 1.0, max_open=True),
    default=TEST_FRACTION,
    show_default=True,
    help="Share of the rows held out for the test; unused if the file has X_test.",
)
@click.option(
    "--class-weight",
    type=click.Choice(["balanced"]),
    help="Let every class count the same in the training, however many rows it has; for classes.",
)
@schedule_option
@click.option(
    "--warmup-epochs",
    type=click.FloatRange(min=0.0),
    default=0.0,
    show_default=True,
    help="Epochs (or fractions) in which the learning rate rises from zero, before the schedule begins.",
)
@click.option(
    "--early-stopping",
    type=click.IntRange(min=1),
    metavar="EPOCHS",
    help=f"Hold out {VALIDATION_SPLIT:.0%} of the training rows; stop when their loss has not improved for so many "
    "epochs, and keep the best weights.",
)
@click.option(
    "--tol",
    type=click.FloatRange(min=0.0),
    help=f"Stop when the training loss has not fallen by more than this for {TOL_EPOCHS} epochs.",
)
@click.option("--max-seconds", type=click.FloatRange(min=0.0, min_open=True), help="Stop after so long.")
@click.option(
    "--checkpoint",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Write the training there now and then, to go on from after a crash.",
)
@click.option(
    "--checkpoint-minutes",
    type=click.FloatRange(min=0.0, min_open=True),
    default=1.0,
    show_default=True,
    help="Time from one checkpoint to the next.",
)
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in DIR, if there is one.")
@click.option(
    "--history", type=click.Path(dir_okay=False), metavar="FILE", help="Write losses and rates, .csv or .json."
)
@run_options
@click.option("--out", type=click.Path(dir_okay=False), metavar="FILE", help="Save the network (.safetensors).")
@click.option(
    "--compare",
    type=click.Choice(["numpy", "none"]),
    help="Run the same training in pure NumPy too.  [default: numpy for the digits, else none]",
)
@json_option
def train(**options: Any) -> None:
    """Train a network on DATA, and test it on rows held out.

    DATA is an NPZ with arrays X and y (optionally X_test and y_test), or a CSV with --target NAME whose other columns
    are numbers. Without DATA, the embedded digits: 1,797 images of 8x8 pixels in ten classes.
    """
    settings = Settings(**options)
    changing = settings.schedule != "constant" or settings.warmup_epochs
    if settings.resume and settings.checkpoint is None:
        raise click.UsageError("--resume goes on from a checkpoint: say where, by --checkpoint DIR")
    if settings.compare == "numpy" and (changing or _stops(settings) or settings.class_weight):
        raise click.UsageError("--compare numpy knows no schedule, stopping or weights: leave one of them out")
    check_out(settings.out, "--out")
    check_out(settings.history, "--history")
    if settings.history is not None and Path(settings.history).suffix not in (".csv", ".json"):
        raise click.BadParameter("must end in .csv or .json", param_hint="--history")
    # Names are checked before the data is read: a mistyped option is wrong usage, whatever the data.
    recipe = complete(settings)
    optimizer = recipes.optimizer(settings, recipe)
    _check_effects(settings, optimizer)

    from fastbp.commands.problem import load_problem

    problem = load_problem(settings.data, settings.target, settings.loss, settings.test_fraction, settings.seed)
    net = build(settings, recipe, problem)
    recipes.check_class_weight(settings.class_weight, net, problem.y_train)
    result = _Run(settings, recipe, optimizer, problem, net).result()
    if settings.as_json:
        print_json(result)


@dataclasses.dataclass
class _Run:
    """One training: fit, save, test, compare. An interruption at any point tells what was kept."""

    settings: Settings
    recipe: Recipe
    optimizer: Any
    problem: Problem
    net: MLP
    saved: bool = False

    def result(self) -> dict[str, Any]:
        try:
            result = self._describe() | self._fit()
            self._save()
            result |= self._test()
            return result | self._compare(result)
        except KeyboardInterrupt:
            epochs = len(getattr(self.net.history, "loss", ()))  # no history before the first fit
            done = f"interrupted after {epochs} of {self.recipe.epochs} epochs"
            if self.settings.checkpoint is not None:
                done += "; --resume goes on with it"
            if self.settings.out is None and self.settings.checkpoint is not None:
                raise Interrupted(done) from None
            if self.settings.out is None:
                raise Interrupted(f"{done}; nothing was kept (--out FILE keeps the network)") from None
            if not self.saved:
                self._save()
            raise Interrupted(f"{done}; the network as it stood is in {self.settings.out}") from None

    def _say(self, label: str, text: str) -> None:
        if not self.settings.as_json:
            say(label, text)

    def _describe(self) -> dict[str, Any]:
        for number, note in enumerate(self.problem.notes):
            self._say("" if number else "data", note)
        scaled = ", inputs standardized" if self.net.scaling is not None else ""
        if self.net.scaling is not None and self.net.scaling.y_mean is not None:
            scaled = ", inputs and targets standardized"
        shape = "-".join(map(str, self.net.sizes))
        self._say("network", f"{shape}, {self.recipe.activation}, {self.net.n_parameters:,} parameters{scaled}")
        if held := str(self.net.regularization):
            self._say("", held)
        self._say(
            "method",
            f"{type(self.optimizer).__name__}, "
            + ("" if self.optimizer.full_batch else f"lr {self.optimizer.lr:g}, ")
            + f"{self.recipe.epochs} epochs, "
            + ("all rows at once" if self.optimizer.full_batch else f"batches of {self.recipe.batch_size}")
            + f", seed {self.settings.seed}",
        )
        return {
            "data": self.problem.name,
            "train_rows": len(self.problem.X_train),
            "test_rows": 0 if self.problem.X_test is None else len(self.problem.X_test),
            "sizes": self.net.sizes,
            "activation": self.recipe.activation.split(","),
            "loss": self.net.loss.name,
            "optimizer": {"name": self.optimizer.name, **dataclasses.asdict(self.optimizer)},
            "epochs": self.recipe.epochs,
            "batch_size": None if self.optimizer.full_batch else self.recipe.batch_size,
            "seed": self.settings.seed,
            "standardize": self.net.scaling is not None,
            "regularization": self.net.regularization.as_arguments(),
            "class_labels": self.net.class_labels,
            "class_weight": self.settings.class_weight,
            "notes": self.problem.notes,
        }

    def _fit(self) -> dict[str, Any]:
        startup = make_ready([self.net.dtype.name])
        batch_size = len(self.problem.X_train) if self.optimizer.full_batch else self.recipe.batch_size
        resumed = self._resumed()
        with warnings.catch_warnings():
            warnings.showwarning = _say_warning  # type: ignore[assignment]  # a checkpoint that could not be written
            history = self.net.fit(
                self.problem.X_train,
                self.problem.y_train,
                epochs=self.recipe.epochs,
                batch_size=batch_size,
                optimizer=self.optimizer,
                schedule=recipes.schedule(self.settings, self.recipe.epochs),
                callbacks=recipes.callbacks(self.settings),
                resume=self.settings.checkpoint if self.settings.resume else None,
                validation_split=VALIDATION_SPLIT if self.settings.early_stopping else 0.0,
                class_weight=self.settings.class_weight,
                threads=self.settings.threads,
                progress=not self.settings.as_json and sys.stderr.isatty(),
            )
        seconds = sum(history.seconds)
        held = VALIDATION_SPLIT if self.settings.early_stopping else 0.0
        rate = (1.0 - held) * len(self.problem.X_train) * len(history.loss) / max(seconds, 1e-9)
        if self.settings.history is not None:
            write = history.to_csv if self.settings.history.endswith(".csv") else history.to_json
            write(self.settings.history)
        self._say(
            "trained",
            f"in {seconds_text(seconds)}, {rate:,.0f} samples/s, loss {history.loss[-1]:.4g} "
            f"(after {seconds_text(startup)} of start-up)",
        )
        if history.stop_reason:
            self._say("stopped", f"after {len(history.loss)} epochs: {history.stop_reason.partition(': ')[2]}")
        return {
            "train_loss": history.loss,
            "val_loss": history.val_loss,
            "lr": history.lr,
            "stop_reason": history.stop_reason,
            "resumed_epochs": resumed,
            "seconds": seconds,
            "startup_seconds": startup,
            "samples_per_second": rate,
        }

    def _resumed(self) -> int | None:
        """Say whether the training goes on from a checkpoint; returns the epochs that it has had, or None."""
        if not self.settings.resume:
            return None
        from fastbp.checkpoints import progress_of

        assert self.settings.checkpoint is not None
        earlier = progress_of(self.settings.checkpoint)
        if earlier is None:
            self._say("resume", f"no checkpoint in {self.settings.checkpoint}: starting afresh")
            return None
        self._say("resume", f"after {earlier['epochs']} epochs, from {self.settings.checkpoint}")
        return int(earlier["epochs"])

    def _save(self) -> None:
        if self.settings.out is not None:
            self.net.save(self.settings.out)
            self.saved = True

    def _test(self) -> dict[str, Any]:
        scores = None
        X, y = self.problem.X_test, self.problem.y_test
        if X is None or y is None:
            self._say("test", "none: no rows were held out")
        else:
            scores = self.net.evaluate(X, y)
            self._say("test", score_text(scores))
        if self.settings.out is not None:
            self._say("saved", f"to {self.settings.out}")
        return {"test": scores, "out": self.settings.out}

    def _compare(self, result: dict[str, Any]) -> dict[str, Any]:
        """The same training in pure NumPy: same start, same rows; its batches are shuffled by its own generator."""
        special = _stops(self.settings) or self.settings.warmup_epochs
        untold = self.settings.class_weight is not None or self.optimizer.full_batch  # what NumPy's fit does not know
        plain = not special and self.settings.schedule == "constant" and not untold
        default = "numpy" if self.settings.data is None and plain else "none"
        if (self.settings.compare or default) == "none":
            return {}
        from fastbp.commands import rival as rivals

        rival = rivals.twin(self.net, self.settings.seed)
        X, y = self.problem.scaled(self.net.scaling, "train")
        seconds = rivals.seconds(rival, X, y, self.recipe, self.optimizer)
        ratio = seconds / max(result["seconds"], 1e-9)
        scores = None
        if self.problem.X_test is not None:
            scores = rival.evaluate(*self.problem.scaled(self.net.scaling, "test"))
        found = f"; its test: {score_text(scores)}" if scores is not None else ""
        self._say("NumPy", f"the same in {seconds_text(seconds)}, {ratio:.1f} times as long{found}")
        return {"numpy": {"seconds": seconds, "ratio": ratio, "test": scores}}


def _say_warning(message: Warning | str, *_: object) -> None:
    """A warning as the one line that a failure is."""
    click.echo(f"fastbp: {message}", err=True)


def _stops(settings: Settings) -> bool:
    """Whether the training may end before its last epoch."""
    return any(value is not None for value in (settings.early_stopping, settings.tol, settings.max_seconds))


def _check_effects(settings: Settings, optimizer: Any) -> None:
    """Refuse what this optimiser would ignore, before the data is read."""
    if optimizer.full_batch and settings.batch_size is not None:
        raise click.UsageError(f"--optimizer {optimizer.name} takes all rows at once: leave --batch-size out")
    if optimizer.full_batch and settings.compare == "numpy":
        raise click.UsageError(f"--compare numpy knows no {optimizer.name}: leave one of them out")
    changing = settings.schedule != "constant" or settings.warmup_epochs
    try:
        optimizer.check_fit(1, 1, settings.schedule if changing else None)
    except (ValueError, ImportError) as error:
        raise click.BadParameter(str(error), param_hint="--optimizer") from error


def complete(settings: Settings) -> Recipe:
    """The recipe with the user's choices in it."""
    recipe = DIGITS_RECIPE if settings.data is None else TABLE_RECIPE
    given = {field.name: getattr(settings, field.name) for field in dataclasses.fields(Recipe)}
    return dataclasses.replace(recipe, **{name: value for name, value in given.items() if value is not None})


def _smoothed(loss: Any, smoothing: float) -> Any:
    """The loss with its labels smoothed."""
    from fastbp import losses

    if not smoothing:
        return loss
    if losses.get(loss).name != "cross_entropy":
        raise click.UsageError(f"--label-smoothing is for cross_entropy; the loss is {losses.get(loss).name}")
    return losses.CrossEntropy(label_smoothing=smoothing)


def build(settings: Settings, recipe: Recipe, problem: Problem) -> MLP:
    import fastbp

    if settings.dropout and not recipe.hidden:
        raise click.UsageError("--dropout needs a hidden layer; --input-noise does not")
    names = recipe.activation.split(",")
    net = fastbp.MLP(
        [problem.n_in, *recipe.hidden, problem.n_out],
        activation=names[0] if len(names) == 1 else names,
        loss=_smoothed(problem.loss, settings.label_smoothing),
        dropout=settings.dropout,
        input_noise=settings.input_noise,
        l1=settings.l1,
        l2=settings.l2,
        max_norm=settings.max_norm,
        seed=settings.seed,
    )
    net.class_labels = problem.class_labels
    on_by_default = settings.data is not None
    if on_by_default if settings.standardize is None else settings.standardize:
        net.standardize(problem.X_train, problem.y_train if net.loss.target == "real" else None)
    return net
