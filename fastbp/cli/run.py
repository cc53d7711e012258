"""One training at the command line: fitted, saved, tested, compared; what is kept when it is interrupted."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import TYPE_CHECKING, Any

from fastbp.cli import build
from fastbp.cli.checks import beyond_numpy
from fastbp.cli.defaults import Hyperparameters
from fastbp.cli.output import Interrupted, make_ready, quiet, say, score_text, seconds_text, shows_progress, warn
from fastbp.cli.summary import chosen, describe
from fastbp.errors import DivergenceError

if TYPE_CHECKING:
    from fastbp.cli.subject import Subject
    from fastbp.data.prepare import PreparedData
    from fastbp.network import MLP


@dataclasses.dataclass
class Run:
    """One training: fit, save, test, compare. An interruption at any point tells what was kept."""

    settings: Any  # of `fastbp train`
    hyper: Hyperparameters
    optimizer: Any
    prepared: PreparedData
    net: MLP
    subject: Subject
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
        if self._write_history():
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
        if self._write_history():
            kept.append(f"its losses are in {self.settings.history}")
        return kept or ["nothing was kept (--out FILE keeps the network)"]

    def _write_history(self) -> bool:
        """Write what --history and --plot ask for, once; False where there is no file of losses."""
        history, path, plot = self.net.history, self.settings.history, self.settings.plot
        if history is None or not history.loss:
            return False
        if not self.written:
            if path is not None:
                (history.to_csv if path.endswith(".csv") else history.to_json)(path)
            if plot is not None:
                history.plot(plot)
            self.written = True
        return path is not None

    @property
    def n_told(self) -> int:
        """Of these rows those that are told beside the method."""
        return self.n_held

    def _say(self, label: str, text: str) -> None:
        if not self.settings.as_json:
            say(label, text)

    def _note(self, label: str, text: str) -> None:
        if not quiet():
            self._say(label, text)

    def _describe(self) -> dict[str, Any]:
        about = (self.settings, self.hyper, self.optimizer, self.prepared, self.net, self.n_told)
        for label, text in () if quiet() else describe(*about):
            self._say(label, text)
        return chosen(*about)

    def _fit(self) -> dict[str, Any]:
        startup = make_ready([self.net.dtype.name], self.settings.precision)
        n_train = self.n_train
        resumed = self._resumed()
        with warnings.catch_warnings():
            # Warnings of checkpoints that could not be written, and of rare classes, are shown whatever filters say.
            warnings.showwarning = _say_warning  # type: ignore[assignment]
            for kind in (UserWarning, RuntimeWarning):
                warnings.simplefilter("always", kind)
            history = self._train(
                callbacks=build.callbacks(self.settings),
                resume=self.settings.checkpoint if self.settings.resume else None,
                progress=shows_progress(self.settings.as_json),
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
        if self.settings.plot is not None and history.loss:
            self._say("picture", f"in {self.settings.plot}")
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

    @property
    def n_train(self) -> int:
        """Rows that are trained on."""
        return len(self.prepared.X_train) - self.n_held

    def _train(self, **arguments: Any) -> Any:
        """`fit`, and its history."""
        split = build.validation_split(self.settings)
        return self.net.fit(
            self.prepared.X_train,
            self.prepared.y_train,
            epochs=self.hyper.epochs,
            batch_size=len(self.prepared.X_train) if self.optimizer.full_batch else self.hyper.batch_size,
            optimizer=self.optimizer,
            schedule=build.schedule(self.settings, self.hyper.epochs, held_out=split > 0.0),
            validation_split=split,
            class_weight=self.settings.class_weight,
            threads=self.settings.threads,
            precision=self.settings.precision,
            **arguments,
        )

    def _resumed(self) -> int | None:
        """Say whether the training goes on from a checkpoint; returns the epochs that it has had, or None."""
        if not self.settings.resume:
            return None
        from fastbp.training.checkpoints import progress_of

        assert self.settings.checkpoint is not None
        earlier = progress_of(self.settings.checkpoint)
        if earlier is None:
            self._note("resume", f"no checkpoint in {self.settings.checkpoint}: starting afresh")
            return None
        self._note("resume", f"after {earlier['epochs']} epochs, from {self.settings.checkpoint}")
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


class TableRun(Run):
    """The same for a table, whose model knows its columns."""

    @functools.cached_property
    def n_held(self) -> int:
        assert self.subject.ready is not None
        held = self.subject.ready.validation
        return 0 if held is None else len(held)

    @property
    def n_train(self) -> int:
        return len(self.prepared.X_train)

    @property
    def n_told(self) -> int:
        return 0  # the data's own lines tell them

    def _describe(self) -> dict[str, Any]:
        assert self.subject.ready is not None
        schedule = self.subject.ready.recipe.training.get("schedule")
        if self.settings.schedule is None and schedule is not None:
            self.settings = dataclasses.replace(self.settings, schedule=type(schedule).__name__.lower())
        found = super()._describe()
        names = list(self.subject.ready.target.names)
        found["target"] = names[0] if len(names) == 1 else names
        found["train_rows"] += self.n_held
        found["validation_rows"] = self.n_held
        found["standardize"] = self.subject.ready.recipe.scaling != "none"
        found["validation_split"] = self.n_held / found["train_rows"]
        return found

    def _train(self, **arguments: Any) -> Any:
        model, ready = self.subject.model, self.subject.ready
        assert model is not None
        assert ready is not None
        told = len(model.notes)
        history = model.train(ready, **arguments)
        self.advice = model.notes[told:]
        return history

    def _save(self) -> None:
        if self.settings.out is not None:
            assert self.subject.model is not None
            self.subject.model.save(self.settings.out)
            self.saved = True

    def _test(self) -> dict[str, Any]:
        from fastbp.cli.table import table_score_text

        model, ready = self.subject.model, self.subject.ready
        assert model is not None
        assert ready is not None
        assert model.net is not None
        scores = model.score(ready)
        self._save()  # with the scores
        if "best_epoch" in model.trained and self.n_held:
            again = ", then trained on all rows" if "refit_rows" in model.trained else ""
            self._say("best", f"epoch {model.trained['best_epoch']} of {model.trained['epochs']}{again}")
        for line in self.advice:
            self._say("note", line)
        self._say("test", table_score_text(scores["test"]) if "test" in scores else "none: no rows were held out")
        if self.settings.out is not None:
            self._say("saved", f"to {self.settings.out}")
        return {"test": scores.get("test"), "validation": scores.get("validation"), "out": self.settings.out}


def _say_warning(message: Warning | str, *_: object) -> None:
    """A warning as the one line that a failure is."""
    warn(str(message))
