"""Files of several networks at the command line: an ensemble, or one network a group, applied and described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from fastbp.cli.output import score_text
from fastbp.cli.subject import is_npz
from fastbp.cli.table import table_score_text

if TYPE_CHECKING:
    from fastbp.data.tables import Table
    from fastbp.many.groups import GroupModel
    from fastbp.network import MLP
    from fastbp.types import Array

SHOWN = 10  # groups


class Routed:
    """One network a group, for rows whose groups are known, in the place of a network."""

    def __init__(self, model: GroupModel, names: list[Any]) -> None:
        self.model, self.names = model, names

    def predict(self, X: Array) -> Array:
        found: Array = self.model.predict(X, by=self.names)
        return found

    def predict_proba(self, X: Array) -> Array:
        found: Array = self.model.predict_proba(X, by=self.names)
        return found

    def evaluate(self, X: Array, y: Array) -> dict[str, Any]:
        """The means of the scores over all rows, and the scores of each group."""
        groups = {str(name): one for name, one in self.model.evaluate(X, y, by=self.names).items()}
        rows = {name: sum(str(one) == name for one in self.names) for name in groups}
        keys = next(iter(groups.values()), {})
        means = {key: sum(rows[name] * one[key] for name, one in groups.items()) / len(self.names) for key in keys}
        return {**means, "groups": {name: {**one, "rows": rows[name]} for name, one in groups.items()}}


def first_of(found: Any) -> MLP:
    """A network, of which the others have the kind."""
    nets = found.nets.nets if hasattr(found, "table") else found.nets
    net: MLP = next(iter(nets.values())) if isinstance(nets, dict) else nets[0]
    return net


def refuse(path: str, option: str) -> None:
    """What is for one network."""
    raise click.UsageError(f"{option} is for one network, but {path} holds several")


def column_of(model: Any, data: str, by: str | None) -> str | None:
    """The column of DATA that names the groups, where there are some that no table of the model's knows."""
    if not isinstance(model.nets, dict):
        if by is not None:
            raise click.UsageError("--by is for networks of groups, which MODEL does not hold")
        return None
    column: str | None = by or model.by
    if column is None:
        raise click.UsageError("the networks are of groups: say by --by COLUMN which column of DATA names them")
    if is_npz(data):
        raise click.UsageError(f"the groups are named by a column, {column!r}, which an NPZ lacks: give a table")
    return column


def acting(model: Any, table: Table) -> Any:
    """What predicts the rows of a table."""
    if table.beside is None:
        return model
    known = {str(name): name for name in model.groups}
    return Routed(model, [known.get(name, name) for name in table.beside])


def group_lines(groups: dict[Any, dict[str, Any]], *, of_table: bool) -> Iterator[str]:
    """The scores of groups, the worst first."""
    key = next((name for name in ("log_loss", "rmse", "loss") if all(name in one for one in groups.values())), None)
    ordered = sorted(groups.items(), key=lambda one: -one[1][key] if key else 0)
    for name, scores in ordered[:SHOWN]:
        yield f"{name}: {table_score_text(scores) if of_table else score_text(scores)}"
    if len(ordered) > SHOWN:
        yield f"... and {len(ordered) - SHOWN:,} groups with better scores"


def told(found: Any) -> str:
    """What the networks are, in a line."""
    nets = found.nets if hasattr(found, "table") else found
    if not isinstance(nets.nets, dict):
        combined = "the mean of their logits" if nets.combine == "mean" else "the mean of what they predict"
        return f"{len(nets)} that predict together, {combined}{', bagged' * nets.bagging}"
    shown = ", ".join(map(str, nets.groups[:SHOWN])) + ", ..." * (len(nets) > SHOWN)
    return f"{len(nets):,}, one for each {nets.by or 'group'}: {shown}"


def document(found: Any) -> dict[str, Any]:
    """The same as JSON values."""
    nets = found.nets if hasattr(found, "table") else found
    kind = "groups" if isinstance(nets.nets, dict) else "ensemble"
    return {"kind": kind, "networks": len(nets), **nets.about}
