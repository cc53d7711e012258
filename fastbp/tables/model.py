"""`TableModel`: a network for tables of mixed columns, from a data frame or file to predictions in its words."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from fastbp import losses
from fastbp.callbacks.base import Callback
from fastbp.engine import precisions
from fastbp.history import History
from fastbp.io import frames
from fastbp.io.frames import Frame
from fastbp.network import MLP
from fastbp.tables import apply, explain, model_file, onnx_file, recipe
from fastbp.tables import training as halves
from fastbp.tables.encoder import Encoder
from fastbp.tables.kinds import Reading
from fastbp.tables.overview import overview
from fastbp.tables.prepared import Part, Prepared, Roles, names_of
from fastbp.tables.target import CLASSES, QUANTITIES, Target
from fastbp.types import Array
from fastbp.validation import check_dtype, check_flag, check_fraction, check_seed


class TableModel:
    """A network for a table of numbers, categories, booleans and dates, with all that prepares it.

    Columns are known by their names. What they are is told by their types, or decided by what text says; numbers are
    scaled, missing ones filled, categories become inputs of their own, all by the training rows alone. The file that
    `save` writes holds all of it.

    Parameters
    ----------
    features : list of str, optional
        Columns to learn from; by default all others.
    drop : list of str
        Columns to leave out.
    id : str or list of str, optional
        Columns that identify rows: no features, but `fastbp predict` writes them beside the predictions.
    categorical, numeric : list of str
        Columns, the target too, that are categories (classes), or numbers (quantities), whatever they look like.
    dates : dict of str to str
        Formats of columns of dates, where they are not found: ``{"day": "%d/%m/%Y"}``.
    missing : list of str
        Cells that mean a missing value, beside ``NA``, ``?``, ``nan``, empty ones and their like: ``["-999"]``.
    decimal, thousands : str, optional
        How numbers are written in text; found if None.
    delimiter, encoding : str, optional
        Of text files; found if None.
    log_target : bool
        Learn the logarithm of a skewed quantity.
    refit : bool
        Train once more on all training rows, the validation rows too, for as many epochs as were best.
    loss : str or Loss, optional
        By default cross_entropy for classes, mse for quantities; a loss also says which of them the target is.
    network, training : dict
        Arguments of `fastbp.MLP` and of its `fit` that replace those of the recipe: ``training={"epochs": 50}``;
        ``network={"hidden": (64,)}``.
    recipe : callable
        What to do where nothing is said: a function of the number of rows, of inputs and the kind of target ("classes",
        "quantities", "flags") that returns a `fastbp.tables.recipe.Recipe`.
    validation : float, optional
        Share of the training rows that chooses the best epoch; 0 keeps the last epoch. By default the recipe's.
    dtype : {"float32", "float64"}
    seed : int
        Of the splits and the network.
    threads : int, optional
    precision : {"float32", "bfloat16"}
        Of the operands of products in training, as in `fastbp.MLP.fit`.

    Attributes
    ----------
    net : MLP or None
        The network.
    classes : list or None
        In the order of `predict_proba`.
    history : History or None
    scores : dict
        Of the rows held out: by `evaluate`, for "validation" and "test", where there are such rows.
    notes : list of str
        What was found in the table, for people.

    Examples
    --------
    >>> model = fastbp.TableModel(seed=0).fit(frame, target="price")
    >>> model.predict(frame)
    """

    def __init__(
        self,
        *,
        features: Sequence[str] | None = None,
        drop: Sequence[str] = (),
        id: str | Sequence[str] | None = None,
        categorical: Sequence[str] = (),
        numeric: Sequence[str] = (),
        dates: Mapping[str, str] | None = None,
        missing: Sequence[str] = (),
        decimal: str | None = None,
        thousands: str | None = None,
        delimiter: str | None = None,
        encoding: str | None = None,
        log_target: bool = False,
        refit: bool = False,
        loss: Any = None,
        network: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        recipe: recipe.Chooser = recipe.default,
        validation: float | None = None,
        dtype: str = "float32",
        seed: int = 0,
        threads: int | None = None,
        precision: str = "float32",
        shell: bool = False,
    ) -> None:
        self.reading = Reading(
            names_of("categorical", categorical), names_of("numeric", numeric), dict(dates or {}),
            tuple(str(one) for one in names_of("missing", missing)), decimal, thousands, shell,
        )  # fmt: skip
        self.roles = Roles(
            (),
            None if features is None else names_of("features", features),
            names_of("drop", drop),
            names_of("id", id or ()),
        )
        self.file_options = {"delimiter": delimiter, "encoding": encoding}
        self.log_target, self.refit = check_flag("log_target", log_target), check_flag("refit", refit)
        self.loss = None if loss is None else losses.get(loss)
        self.network, self.training = dict(network or {}), dict(training or {})
        self.chooser, self.dtype = recipe, dtype
        self.validation = None if validation is None else check_fraction("validation", validation)
        self.seed, self.threads = check_seed(seed) or 0, threads
        self.precision = precisions.check(precision, check_dtype(dtype))
        self.net: MLP | None = None
        self.encoder: Encoder | None = None
        self.target: Target | None = None
        self.trained: dict[str, Any] = {}  # what the file tells of the training
        self.scores: dict[str, Any] = {}
        self.notes: list[str] = []

    def __repr__(self) -> str:
        if self.target is None or self.net is None:
            return "<fastbp.TableModel, not trained>"
        return f"<fastbp.TableModel of {', '.join(self.target.names)} ({self.target.kind}), {self.net!r}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: scores, what was found in the table, and the picture of the training."""
        history = self.history
        return overview(self).html(None if history is None or len(history.loss) < 2 else history.draw)

    @property
    def classes(self) -> list[Any] | None:
        """The classes in the order of `predict_proba`; None for quantities."""
        if self.target is None or self.target.kind == QUANTITIES:
            return None
        return [False, True] if self.target.boolean else list(self.target.labels)

    @property
    def history(self) -> History | None:
        """Of the training."""
        return None if self.net is None else self.net.history

    # --- training -------------------------------------------------------------------------------------------

    def fit(
        self,
        data: Any,
        target: str | Sequence[str],
        *,
        weight: str | None = None,
        group: str | None = None,
        time: str | None = None,
        test: Any = None,
        test_fraction: float = 0.0,
        validation_data: Any = None,
        callbacks: Sequence[Callback] = (),
        resume: Any = None,
        progress: bool = False,
    ) -> TableModel:
        """Learn the target from the other columns.

        Parameters
        ----------
        data : path, binary file, data frame or dict of columns
            CSV and other delimited text, Parquet, Arrow (Feather), NPZ with X and y; a frame of Polars, pandas, PyArrow
            or another package that narwhals knows.
        target : str or list of str
            The column to learn; or several, all quantities or all of two values.
        weight : str, optional
            The column of weights of the rows: of the training and of all scores.
        group : str, optional
            Rows with the same value there never fall on both sides of a split.
        time : str, optional
            Rows are split by this column of dates or numbers: the last ones are held out.
        test : as data, optional
            Rows to test on.
        test_fraction : float
            Or the share of the rows of `data` that is held out for it.
        validation_data : as data, optional
            Rows that choose the best epoch, in place of a share of `data`.
        callbacks, resume, progress
            As of `MLP.fit`.

        Raises
        ------
        TableError
            With all that is wrong with the table, each with line (or row) and column.
        """
        roles = dataclasses.replace(
            self.roles, target=names_of("target", target), weight=weight, group=group, time=time
        )
        ready = self.prepare(data, roles, test, test_fraction, validation_data)
        self.train(ready, callbacks=callbacks, resume=resume, progress=progress)
        self.score(ready)
        return self

    def prepare(
        self, data: Any, roles: Roles, test: Any = None, test_fraction: float = 0.0, validation_data: Any = None
    ) -> Prepared:
        """The first half of `fit`: all but the training; makes the network. `roles` say what the columns are for."""
        held_out = check_fraction("test_fraction", test_fraction)
        return halves.prepare(self, data, roles, test, held_out, validation_data)

    def frame(self, data: Any, target: str | None = None, **options: Any) -> Frame:
        """A table as this model reads it; `options`, delimiter and encoding, replace those of the training."""
        asked = {name: one for name, one in options.items() if one is not None}
        found = frames.frame(data, **(self.file_options | asked), target=target)
        columns = self.trained.get("columns", ())
        return (
            found.named(columns)
            if found.positional and len(columns) == found.data.width - (target in found.names)
            else found
        )

    def train(
        self,
        ready: Prepared,
        *,
        callbacks: Sequence[Callback] = (),
        resume: Any = None,
        progress: bool = False,
        **arguments: Any,
    ) -> History:
        """The second half of `fit`: train the network on what `prepare` returned; `arguments` replace the recipe's."""
        return halves.train(self, ready, arguments, list(callbacks), resume, progress)

    def rows(self, part: Part) -> tuple[Array, ...]:
        """What `MLP.fit` takes."""
        assert self.target is not None
        assert self.net is not None
        y = self.target.learned(part.y)
        if self.target.kind == CLASSES and not self.net.loss.link.one_class:
            y = y.astype(np.float64)
        return (part.X, y) if part.weight is None else (part.X, y, part.weight)

    def score(self, ready: Prepared) -> dict[str, Any]:
        """The last part of `fit`: measure the rows held out, and keep that in `scores`."""
        for name, part in (("validation", ready.validation), ("test", ready.test)):
            if part is not None and len(part) and not (name == "validation" and "refit_rows" in self.trained):
                self.scores[name] = apply.scores(self, part)
        return self.scores

    # --- use ------------------------------------------------------------------------------------------------

    def predict(self, data: Any) -> Array:
        """Classes, or quantities in their own units, ``(n,)``; ``(n, n_out)`` of several targets.

        Columns are found by their names; others are ignored, with a warning that names them. Categories that the
        training rows did not have count as none of the known ones, and are told as well.

        Raises
        ------
        TableError
            Columns are missing, or cells cannot be read.
        """
        return apply.predictions(self, apply.inputs(self, self.frame(data)))

    def predict_proba(self, data: Any) -> Array:
        """Probabilities of the `classes`, ``(n, n_classes)``; of several targets, that of the second value of each."""
        return apply.probabilities(self, apply.inputs(self, self.frame(data)))

    def evaluate(self, data: Any) -> dict[str, Any]:
        """Scores in the user's units, beside those of a trivial prediction (``"baseline"``).

        Of classes accuracy, balanced_accuracy, log_loss, auc and confusion; of quantities rmse, mae and r2. Rows
        without a target do not count; those with weights by them.
        """
        part, said = apply.part(self, self.frame(data))
        for one in said:
            warnings.warn(one, UserWarning, stacklevel=2)
        return {**apply.scores(self, part), "rows": len(part)}

    def importance(self, data: Any, *, repeats: int = 5, seed: int | None = None) -> dict[str, float]:
        """How much worse the model gets when a column is shuffled, the most important first.

        Parameters
        ----------
        data : as of `fit`
            Rows that were not trained on, with their targets.
        repeats : int
            Shuffles of each column, whose mean is taken.

        Returns
        -------
        dict
            Of each column the increase of the log loss, or of the root of the mean squared error.
        """
        return explain.importance(
            self, apply.part(self, self.frame(data))[0], repeats, self.seed if seed is None else seed
        )

    def attribution(self, data: Any, output: Any = None) -> dict[str, Array]:
        """How much each column adds to the output of each row, to first order: gradient times input.

        Parameters
        ----------
        data : as of `fit`
            One row or several.
        output : optional
            A class, or the name of a target; by default the class that is predicted, or the first target.

        Returns
        -------
        dict
            Of each column ``(n,)``: logits, or units of the target (of its logarithm, where that is learned). An input
            of zero, as the mean of a number or a category that is not the row's, adds nothing.
        """
        return explain.attribution(self, apply.inputs(self, self.frame(data)), output)

    # --- keeping --------------------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str]) -> None:
        """Write network, columns, categories, scores and all else that predictions need to one safetensors file."""
        model_file.save(path, self)

    def to_onnx(self, path: str | PathLike[str]) -> None:
        """Write the model as an ONNX file (extra `onnx`), with all that prepares the columns.

        There is an input ``(rows, 1)`` of each column that is used, by its name: of numbers in float64, NaN where they
        are missing; of categories as text, empty where it is missing; of booleans 1 and 0 in float64, or NaN; of dates
        microseconds since 1970 in int64, as ``column.astype("datetime64[us]").astype("int64")`` makes them. The outputs
        are ``prediction`` and, of classes, ``probabilities``, as `predict` and `predict_proba` return them; where a
        column has their name, they have a number. The entry ``fastbp`` of the metadata is JSON that tells all of it.

        Raises
        ------
        ImportError
            onnx is not installed.
        ValueError
            The model is not trained.
        """
        onnx_file.write(path, self)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> TableModel:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            The file is not a table model, or damaged.
        """
        model = cls()
        model_file.restore(path, model)
        return model
