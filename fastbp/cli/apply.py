"""`fastbp predict` and `fastbp evaluate`: a saved network applied to a table."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastbp.cli import several
from fastbp.cli.checks import check_out, check_picture
from fastbp.cli.options import TEXT_OPTIONS
from fastbp.cli.output import echo, example, json_option, make_ready, print_json, quiet, quiet_option, score_text
from fastbp.cli.subject import opened
from fastbp.cli.table import prediction_columns, table_score_text, told

if TYPE_CHECKING:
    from fastbp.data.tables import Array, Table
    from fastbp.network import MLP

_model_argument = click.argument("model", type=click.Path(dir_okay=False))
_data_argument = click.argument("data", type=click.Path(dir_okay=False))


_by_option = click.option(
    "--by", metavar="COLUMN", help="The column that names the groups, of networks of groups that know no columns."
)


def _of_text(command: Any) -> Any:
    """Options of delimited text."""
    for option in TEXT_OPTIONS:
        command = option(command)
    return command


_EXAMPLE = (
    "python -c \"print('x,y',*(f'{k/4},{k/2}' for k in range(99)),sep='\\n')\" >a.csv",
    "fastbp train a.csv --target y --epochs 20 --out a.safetensors",
)


@click.command(epilog=example(*_EXAMPLE, "fastbp predict a.safetensors a.csv -o predictions.csv"))
@_model_argument
@_data_argument
@_of_text
@click.option("--target", metavar="NAME", help="A column to leave out, of a model that knows no columns.")
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False), metavar="FILE", help="Write to FILE (.csv, .npz), not stdout."
)
@_by_option
@click.option("--proba", is_flag=True, help="Add the probability of every class; a model of a table always does.")
@quiet_option
@json_option
def predict(
    model: str, data: str, target: str | None, out: str | None, by: str | None, proba: bool, as_json: bool,
    **text: str | None,
) -> None:  # fmt: skip
    """Apply the network in file MODEL, or the networks, to each row of DATA: a table, or an NPZ with X.

    Prints CSV: the columns that identify rows, a column `prediction` (or one for each output), and one for the
    probability of each class. A model of a table finds its columns by their names, and says which it does not know.
    """
    import numpy as np

    import fastbp

    found = load(model)
    if of_table(found):
        _no_column(by)
        make_ready([found.dtype])
        with told():
            columns, arrays = _of_table(found, data, text)
        _write(columns, arrays, out, as_json)
        return
    net = found if isinstance(found, fastbp.MLP) else several.first_of(found)
    _no_text_options(text)
    if proba and not net.loss.link.classifies:
        raise click.UsageError(f"--proba needs a classifier, but {model} was trained with the loss {net.loss.name}")
    table = read(net, data, target, needs_y=False, beside=_column(found, data, by))
    make_ready([net.dtype.name])
    acting = found if found is net else several.acting(found, table)
    predicted = np.asarray(acting.predict(table.X))
    labels = net.class_labels
    if labels is not None and predicted.ndim == 1:
        predicted = np.asarray(labels)[predicted.astype(np.int64)]
    arrays = {"prediction": predicted}
    columns = _columns("prediction", predicted, labels or range(net.sizes[-1]))
    if proba:
        arrays["proba"] = np.asarray(acting.predict_proba(table.X))
        columns |= _columns("proba", arrays["proba"], labels or range(net.sizes[-1]))
    _write(columns, arrays, out, as_json)


def of_table(found: Any) -> bool:
    """Whether a model knows the columns of its table."""
    from fastbp.tables.model import TableModel
    from fastbp.tables.several import SeveralTables

    return isinstance(found, TableModel | SeveralTables)


def _column(found: Any, data: str, by: str | None) -> str | None:
    """The column of DATA that names groups."""
    if not hasattr(found, "nets"):
        _no_column(by)
        return None
    return several.column_of(found, data, by)


def _no_column(by: str | None) -> None:
    if by is not None:
        raise click.UsageError("--by is for networks of groups that know no columns: leave it out")


def _no_text_options(text: dict[str, str | None]) -> None:
    if given := [name for name, value in text.items() if value is not None]:
        raise click.UsageError(f"--{given[0]} is for a model of a table; this one takes columns by position")


def load(path: str) -> Any:
    """The network of a file, the model of a table, or several of them."""
    import fastbp
    from fastbp.tables import model_file
    from fastbp.tables import several as files

    if (found := files.load(path)) is not None:
        return found
    return fastbp.TableModel.load(path) if model_file.is_table(path) else fastbp.load(path)


def _of_table(model: Any, data: str, text: dict[str, str | None]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Predictions for a table, as columns of a CSV and as arrays; columns that identify rows are among the first."""
    import numpy as np

    frame = model.frame(opened(data), model.roles.target[0], **text)
    arrays = {"prediction": np.asarray(model.predict(frame))}
    if model.classes is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # they have been told
            arrays["proba"] = model.predict_proba(frame)
    ids = {
        name: np.array(["" if one is None else one for one in frame.data[name].to_list()])
        for name in model.roles.id
        if name in frame.names
    }
    return ids | prediction_columns(model, arrays), arrays


def _write(columns: dict[str, Array], arrays: dict[str, Array], out: str | None, as_json: bool) -> None:
    """Predictions to a file, as JSON or as CSV."""
    from fastbp.data import tables

    n = len(arrays["prediction"])
    if out is not None:
        tables.write_predictions(out, columns, arrays)
    if as_json:
        print_json(dict(arrays) if out is None else {"rows": n, "out": out})
    elif out is not None:
        if not quiet():
            echo(f"wrote {n:,} predictions to {out}")
    else:
        tables.write_columns(sys.stdout, columns)


@click.command(epilog=example(*_EXAMPLE, "fastbp evaluate a.safetensors a.csv --plot evaluation.png"))
@_model_argument
@_data_argument
@_of_text
@click.option("--target", metavar="NAME", help="The column of the true values, for a model that knows no columns.")
@_by_option
@click.option(
    "--plot",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Draw the confusion matrix and the calibration, or predicted against true values: .png, .svg or .pdf.",
)
@json_option
def evaluate(
    model: str, data: str, target: str | None, by: str | None, plot: str | None, as_json: bool, **text: str | None
) -> None:  # fmt: skip
    """Measure the network in file MODEL on DATA: loss, and accuracy or r2; for a model of a table, more.

    Networks of an ensemble are measured together, those of groups together and each on its own.

    DATA is a table, or an NPZ with X and y (X_test and y_test are used instead, if it has them).
    """
    import fastbp

    check_out(plot, "--plot")
    check_picture(plot, "--plot")
    found = load(model)
    if plot is not None and hasattr(found, "nets"):
        several.refuse(model, "--plot")
    if of_table(found):
        _no_column(by)
        make_ready([found.dtype])
        with told():
            frame = found.frame(opened(data), found.roles.target[0], **text)
            scores = found.evaluate(frame)
        if plot is not None:
            fastbp.plots.evaluation(found, frame, path=plot)
        if as_json:
            print_json({**scores, "part": "all rows", "data": data, "model": model})
        else:
            echo(f"{table_score_text(scores)}  ({scores['rows']:,} rows)")
            _echo_groups(scores, of_table=True)
        return
    net = found if isinstance(found, fastbp.MLP) else several.first_of(found)
    _no_text_options(text)
    table = read(net, data, target, needs_y=True, beside=_column(found, data, by))
    X, y = (table.X, table.y) if table.X_test is None else (table.X_test, table.y_test)
    assert y is not None  # read_table was told that it is needed
    make_ready([net.dtype.name])
    targets = targets_for(net, y)
    scores = (found if found is net else several.acting(found, table)).evaluate(X, targets)
    if plot is not None:
        fastbp.plots.evaluation(net, X, targets, path=plot)
    part = "all rows" if table.X_test is None else "X_test, y_test"
    if as_json:
        print_json({**scores, "rows": len(X), "part": part, "data": data, "model": model})
    else:
        echo(f"{score_text(scores)}  ({len(X):,} rows: {part})")
        _echo_groups(scores, of_table=False)


def _echo_groups(scores: dict[str, Any], *, of_table: bool) -> None:
    if "groups" in scores and not quiet():
        for line in several.group_lines(scores["groups"], of_table=of_table):
            echo(line)


def targets_for(net: MLP, y: Array) -> Array:
    """Return the targets of a file in the form that `net.evaluate` takes: class labels as class indices."""
    from fastbp.data import tables

    text = y.dtype.kind in "US"
    if net.class_labels is None and not text and not net.loss.link.one_class:
        return y
    if not net.loss.link.classifies:
        return tables.numbers_of(y, net.loss.name)
    if y.ndim == 2 and y.shape[1] == 1 and net.loss.link.one_class:
        y = y[:, 0]
    if y.ndim != 1:
        return y
    if tables.whole_numbers(y):
        y = y.astype("int64")
    if net.class_labels is None and not text:
        return y
    return tables.encode(y, net.class_labels or range(max(2, net.sizes[-1])))


def read(net: MLP, data: str, target: str | None, *, needs_y: bool, beside: str | None) -> Table:
    """Read a table for a network; a column too many is most likely the target."""
    from fastbp.data import tables

    names = bool(net.class_labels) and isinstance(net.class_labels[0], str)  # type: ignore[index]
    try:
        table = tables.read_table(data, target, needs_y=needs_y, names=names, beside=beside)
    except tables.TargetNeeded as error:
        raise click.UsageError(str(error)) from error
    if target is None and Path(data).suffix.lower() != ".npz" and table.X.shape[1] == net.sizes[0] + 1:
        raise click.UsageError(
            f"{data} has {table.X.shape[1]} columns, the network takes {net.sizes[0]}; name the one to leave out "
            "with --target NAME"
        )
    return table


def _columns(name: str, array: Array, labels: Any) -> dict[str, Array]:
    """Name the columns of an array: `name` alone if there is one, else `name_label`."""
    if array.ndim == 1:
        # The one probability of a binary classifier is that of its second class.
        return {f"{name}_{labels[-1]}" if name == "proba" and len(labels) == 2 else name: array}
    return {f"{name}_{label}": array[:, k] for k, label in enumerate(labels)}
