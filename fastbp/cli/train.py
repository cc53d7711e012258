"""`fastbp train`: a network trained on a table or on the embedded digits, measured, and saved."""

from __future__ import annotations

import dataclasses
import functools
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastbp.cli import build
from fastbp.cli.checks import beyond_numpy, check_callbacks, check_compare, check_effects, check_outs
from fastbp.cli.defaults import CHECKPOINT_MINUTES, TOL_EPOCHS, VALIDATION_SPLIT, Hyperparameters, complete
from fastbp.cli.options import FRACTION, NOT_NEGATIVE, POSITIVE, data_options, default, run_options, schedule_option
from fastbp.cli.output import Interrupted, json_option, make_ready, print_json, say, score_text, seconds_text, warn
from fastbp.cli.summary import chosen, describe
from fastbp.errors import DivergenceError

if TYPE_CHECKING:
    from fastbp.data.prepare import PreparedData
    from fastbp.network import MLP


TEST_FRACTION = 0.2


@dataclasses.dataclass(frozen=True)
class Settings:
    """The options of the command; None means that the defaults or the data decide."""

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
    weight_decay: float | None
    momentum: float | None
    nesterov: bool
    clip_norm: float | None
    clip_value: float | None
    label_smoothing: float
    class_weight: str | None
    schedule: str
    warmup_epochs: float
    validation_split: float | None
    early_stopping: int | None
    tol: float | None
    max_seconds: float | None
    checkpoint: str | None
    checkpoint_minutes: float | None
    resume: bool
    history: str | None
    seed: int
    threads: int | None
    out: str | None
    compare: str | None
    as_json: bool


@click.command()
@data_options
@click.option("--lr", type=float, help=f"Learning rate.  {default('lr')}")
@click.option("--epochs", type=click.IntRange(min=1), help=f"Passes over the data.  {default('epochs')}")
@click.option(
    "--test-fraction",
    type=FRACTION,
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
    type=NOT_NEGATIVE,
    default=0.0,
    show_default=True,
    help="Epochs (or fractions) in which the learning rate rises from zero, before the schedule begins.",
)
@click.option(
    "--validation-split",
    type=FRACTION,
    help="Share of the training rows that is held out to validate the training.  "
    f"[default: 0; with --early-stopping {VALIDATION_SPLIT:g}]",
)
@click.option(
    "--early-stopping",
    type=click.IntRange(min=1),
    metavar="EPOCHS",
    help="Stop when the loss on the rows of --validation-split has not improved for so many epochs, and keep the best "
    "weights.",
)
@click.option(
    "--tol",
    type=NOT_NEGATIVE,
    help=f"Stop when the training loss has not fallen by more than this for {TOL_EPOCHS} epochs.",
)
@click.option("--max-seconds", type=POSITIVE, help="Stop after so long, in the middle of an epoch too.")
@click.option(
    "--checkpoint",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Write the training there now and then, to go on from after a crash.",
)
@click.option(
    "--checkpoint-minutes",
    type=POSITIVE,
    help=f"Time from one checkpoint to the next.  [default: {CHECKPOINT_MINUTES:g}]",
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
    check_outs(settings, ("out", "history"))
    if settings.history is not None and Path(settings.history).suffix not in (".csv", ".json"):
        raise click.BadParameter("must end in .csv or .json", param_hint="--history")
    # Names are checked before the data is read: a mistyped option is wrong usage, whatever the data.
    hyper = complete(settings)
    optimizer = build.optimizer(settings, hyper)
    check_effects(settings, hyper, optimizer)
    check_compare(settings, optimizer)
    check_callbacks(settings, hyper)

    from fastbp.cli.load import load_data

    prepared = load_data(settings.data, settings.target, settings.loss, settings.test_fraction, settings.seed)
    net = build.network(settings, hyper, prepared)
    build.check_class_weight(settings.class_weight, net, prepared.y_train)
    result = _Run(settings, hyper, optimizer, prepared, net).result()
    if settings.as_json:
        print_json(result)


@dataclasses.dataclass
class _Run:
    """One training: fit, save, test, compare. An interruption at any point tells what was kept."""

    settings: Settings
    hyper: Hyperparameters
    optimizer: Any
    prepared: PreparedData
    net: MLP
    saved: bool = False
    written: bool = False  # the history is written

    @functools.cached_property
    def n_held(self) -> int:
        """Rows that `fit` will hold out to validate the training."""
        split = build.validation_split(self.settings)
        if not split:
            return 0
        from fastbp.data.splits import hold_out

        y = self.prepared.y_train
        return len(hold_out(self.net.session.spec, None, y, y, split, self.net.seed)[1])

    def result(self) -> dict[str, Any]:
        try:
            result = self._describe() | self._fit()
            result |= self._test()
            return result | self._compare(result)
        except KeyboardInterrupt:
            epochs = len(getattr(self.net.history, "loss", ()))  # no history before the first fit
            done = f"interrupted after {epochs} of {self.hyper.epochs} epochs"
            raise Interrupted("; ".join([done, *self._kept()])) from None
        except DivergenceError as error:
            self._keep_best(error)
            raise

    def _keep_best(self, error: DivergenceError) -> None:
        """Keep what early stopping had found before the training diverged, and let the error say where."""
        if error.best_epoch is not None and self.settings.out is not None:
            self._save()
            error.add_note(f"the network of epoch {error.best_epoch}, the best, is in {self.settings.out}")
        if self.settings.history is not None and self._write_history():
            error.add_note(f"the losses are in {self.settings.history}")

    def _kept(self) -> list[str]:
        """Keep what there is after an interruption, and say where."""
        kept = []
        if self.settings.checkpoint is not None:
            kept.append("--resume goes on with it")
        if self.settings.out is not None:
            if not self.saved:
                self._save()
            kept.append(f"the network as it stood is in {self.settings.out}")
        if self.settings.history is not None and self._write_history():
            kept.append(f"its losses are in {self.settings.history}")
        return kept or ["nothing was kept (--out FILE keeps the network)"]

    def _write_history(self) -> bool:
        """Write what --history asks for, once; False if there has been no epoch."""
        history, path = self.net.history, self.settings.history
        if path is None or history is None or not history.loss:
            return False
        if not self.written:
            (history.to_csv if path.endswith(".csv") else history.to_json)(path)
            self.written = True
        return True

    def _say(self, label: str, text: str) -> None:
        if not self.settings.as_json:
            say(label, text)

    def _describe(self) -> dict[str, Any]:
        about = (self.settings, self.hyper, self.optimizer, self.prepared, self.net, self.n_held)
        for label, text in describe(*about):
            self._say(label, text)
        return chosen(*about)

    def _fit(self) -> dict[str, Any]:
        startup = make_ready([self.net.dtype.name])
        batch_size = len(self.prepared.X_train) if self.optimizer.full_batch else self.hyper.batch_size
        split, n_train = build.validation_split(self.settings), len(self.prepared.X_train) - self.n_held
        resumed = self._resumed()
        with warnings.catch_warnings():
            # Warnings of checkpoints that could not be written, and of rare classes, are shown whatever filters say.
            warnings.showwarning = _say_warning  # type: ignore[assignment]
            for kind in (UserWarning, RuntimeWarning):
                warnings.simplefilter("always", kind)
            history = self.net.fit(
                self.prepared.X_train,
                self.prepared.y_train,
                epochs=self.hyper.epochs,
                batch_size=batch_size,
                optimizer=self.optimizer,
                schedule=build.schedule(self.settings, self.hyper.epochs, held_out=split > 0.0),
                callbacks=build.callbacks(self.settings),
                resume=self.settings.checkpoint if self.settings.resume else None,
                validation_split=split,
                class_weight=self.settings.class_weight,
                threads=self.settings.threads,
                progress=not self.settings.as_json and sys.stderr.isatty(),
            )
        seconds = sum(history.seconds)
        rate = n_train * len(history.loss) / max(seconds, 1e-9)
        self._write_history()
        self._save()  # before a word of it: what is printed may meet a closed pipe
        done = "on a part of the first epoch"
        if history.loss:
            done = f"in {seconds_text(seconds)}, {rate:,.0f} samples/s, loss {history.loss[-1]:.4g}"
        self._say("trained", f"{done} (after {seconds_text(startup)} of start-up)")
        if history.stop_reason:
            self._say("stopped", f"after {len(history.loss)} epochs: {history.stop_reason.partition(': ')[2]}")
        return {
            "train_loss": history.loss,
            "val_loss": history.val_loss,
            "val_score": history.val_score,
            "score": history.score_name,
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
        from fastbp.training.checkpoints import progress_of

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
        X, y = self.prepared.X_test, self.prepared.y_test
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
        plain = self.settings.data is None and not beyond_numpy(self.settings, self.optimizer)
        default = "numpy" if plain else "none"
        if (self.settings.compare or default) == "none":
            return {}
        from fastbp.cli import numpy_twin

        rival = numpy_twin.twin(self.net, self.settings.seed)
        X, y = self.prepared.scaled(self.net.scaling, "train")
        seconds = numpy_twin.seconds(rival, X, y, self.hyper, self.optimizer)
        ratio = seconds / max(result["seconds"], 1e-9)
        scores = None
        if self.prepared.X_test is not None:
            scores = rival.evaluate(*self.prepared.scaled(self.net.scaling, "test"))
        found = f"; its test: {score_text(scores)}" if scores is not None else ""
        self._say("NumPy", f"the same in {seconds_text(seconds)}, {ratio:.1f} times as long{found}")
        return {"numpy": {"seconds": seconds, "ratio": ratio, "test": scores}}


def _say_warning(message: Warning | str, *_: object) -> None:
    """A warning as the one line that a failure is."""
    warn(str(message))
