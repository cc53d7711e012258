"""How to train many networks: the arguments that cross-validation, ensembles, groups and sweeps hand on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastbp.many import fit_many as many
from fastbp.many import tasks
from fastbp.many.task import Task
from fastbp.network import MLP
from fastbp.validation import check_callbacks, listed

PLACES = ("threads", "journal", "executor", "progress")
# Share of the training rows that early stopping looks at, where nothing is said.
INNER = 0.2


@dataclasses.dataclass
class Training:
    """Arguments of `MLP.fit`, and where and with what threads it is done."""

    arguments: dict[str, Any]
    threads: int | None = None
    journal: Any = None
    executor: Any = None
    progress: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any], refused: Sequence[str] = (), why: str = "") -> Training:
        """The arguments, checked by name."""
        known = {*tasks.SETTINGS, *tasks.DATA}
        for name in given:
            if name in refused:
                raise ValueError(f"{name} is not for here: {why}")
            if name not in known and name not in PLACES:
                wanted = listed(sorted((known | set(PLACES)) - set(refused)))
                raise TypeError(f"unexpected argument {name!r}; what can be said of the training: {wanted}")
        return cls(
            {name: value for name, value in given.items() if name in known},
            **{name: given[name] for name in PLACES if name in given},
        )

    def split_for_callbacks(self) -> list[str]:
        """Hold rows out of each training where its callbacks need some; returns notes on it."""
        callbacks = check_callbacks(self.arguments.get("callbacks", ()))
        needy = [one for one in callbacks if getattr(one, "needs_validation", False)]
        if not needy:
            return []
        share = self.arguments.get("validation_split") or INNER
        self.arguments["validation_split"] = share
        return [f"{type(needy[0]).__name__} looks at {share:.0%} of the training rows, held out of each training"]

    def tasks(self, nets: Sequence[MLP], X: Any, y: Any, rows: Any, named: Callable[[int], str]) -> list[Task]:
        """One for each network."""
        return tasks.of_arguments(nets, X, y, rows, self.arguments, named)

    def train(self, todo: Sequence[Task], *, networks: bool = True) -> bool:
        """Do them all; returns False after Ctrl-C."""
        return many.train(
            todo, self.threads, journal=self.journal, networks=networks, executor=self.executor,
            progress=self.progress,
        )  # fmt: skip
