"""`fastbp info MODEL`: what a model's file holds, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastbp.cli.output import print_json, say
from fastbp.cli.table import table_score_text

if TYPE_CHECKING:
    from fastbp.network import MLP
    from fastbp.tables.model import TableModel

_SHOWN = 12  # categories of a column


def contents(path: str, as_json: bool, plot: str | None = None) -> None:
    """Show them, and draw the weights of the first layer."""
    import fastbp
    from fastbp.tables import model_file

    if not model_file.is_table(path):
        net = fastbp.load(path)
        if plot is not None:
            fastbp.plots.first_layer(net, path=plot)
        if as_json:
            print_json(_network(net))
        else:
            say("network", _shape(net))
        return
    model = fastbp.TableModel.load(path)
    assert model.net is not None
    if plot is not None:
        fastbp.plots.first_layer(model, path=plot)
    if as_json:
        print_json(_network(model.net) | _table(model))
        return
    for label, text in _lines(model):
        say(label, text)


def _network(net: MLP) -> dict[str, Any]:
    return {
        "sizes": net.sizes, "activations": net.activations, "loss": net.loss.name, "dtype": net.dtype.name,
        "parameters": net.n_parameters, "regularization": net.regularization.as_arguments(), "seed": net.seed,
        "class_labels": net.class_labels,
    }  # fmt: skip


def _shape(net: MLP) -> str:
    hidden = ",".join(dict.fromkeys(net.activations)) or "linear"
    return f"{'-'.join(map(str, net.sizes))}, {hidden}, {net.n_parameters:,} parameters, {net.loss.name}, {net.dtype}"


def _table(model: TableModel) -> dict[str, Any]:
    assert model.encoder is not None
    assert model.target is not None
    return {
        "target": model.target.to_dict(), "roles": model.roles.to_dict(), "reading": model.reading.to_dict(),
        "columns": model.encoder.to_dict()["columns"], "constant": model.encoder.constant,
        "trained": model.trained, "scores": model.scores, "notes": model.notes,
    }  # fmt: skip


def _lines(model: TableModel) -> Iterator[tuple[str, str]]:
    assert model.net is not None
    assert model.encoder is not None
    assert model.target is not None
    kind = ", ".join(map(str, model.classes or ["quantities"]))
    yield "target", f"{', '.join(model.target.names)}: {kind}{', learned as a logarithm' * model.target.log}"
    for number, column in enumerate(model.encoder.columns):
        yield "" if number else "columns", f"{column.name}: {_column(column)}"
    if model.encoder.constant:
        yield "", f"{', '.join(model.encoder.constant)}: left out, never varied"
    for label in ("id", "drop", "weight", "group", "time"):
        if names := getattr(model.roles, label):
            yield label, names if isinstance(names, str) else ", ".join(names)
    yield "network", _shape(model.net)
    trained = model.trained
    rows = trained.get("refit_rows", trained["rows"])
    best = f", the best of {trained['epochs']} epochs {trained['best_epoch']}" if "best_epoch" in trained else ""
    yield "trained", f"on {rows:,} rows{best}, seed {model.seed}"
    if recipe := trained.get("recipe"):
        how = {"standard": "mean and deviation", "robust": "median and quartiles"}.get(recipe["scaling"])
        said = [recipe["optimizer"], f"{recipe['epochs']} epochs", f"batches of {recipe['batch_size']}"]
        said += [recipe[name] for name in ("schedule", "class_weight") if name in recipe]
        yield "recipe", ", ".join([*said, f"numbers by {how}" if how else "numbers as they are"])
    for name, scores in model.scores.items():
        yield "scores", f"{name}: {table_score_text(scores)}"


def _column(column: Any) -> str:
    kind = column.kind.name
    if kind == "number":
        missing = f", missing ones {column.fill:g}" if column.marked else ""
        return f"number around {column.scale.center:.4g}, by {column.scale.scale:.4g}{missing}"
    if kind == "category":
        shown = ", ".join(column.levels[:_SHOWN])
        more = f" and {len(column.levels) - _SHOWN} more" if len(column.levels) > _SHOWN else ""
        return f"category, {shown}{more}{f'; {len(column.rare)} rare ones together' if column.rare else ''}"
    if kind == "date":
        return f"date as {', '.join(part for part, _, _ in column.parts)}"
    return str(kind)
