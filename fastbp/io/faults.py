"""All that is wrong with a table, told at once: a list of faults, each with its place."""

from __future__ import annotations

SHOWN = 20  # faults of a table that are listed


class TableError(ValueError):
    """A table cannot be used as it is.

    Attributes
    ----------
    source : str
        The file, or "the data".
    faults : list of str
        What is wrong, each with its place and what to do.
    """

    def __init__(self, source: str, faults: list[str]) -> None:
        self.source, self.faults = source, list(faults)
        if len(self.faults) == 1:
            text = f"{source}{', ' if self.faults[0].startswith(('line ', 'row ')) else ': '}{self.faults[0]}"
        else:
            shown = "".join(f"\n  {fault}" for fault in self.faults[:SHOWN])
            more = len(self.faults) - SHOWN
            text = f"{source}: {len(self.faults)} faults{shown}{f'{chr(10)}  ... and {more} more' if more > 0 else ''}"
        super().__init__(text)

    def __reduce__(self) -> tuple[type[TableError], tuple[str, list[str]]]:
        return TableError, (self.source, self.faults)
