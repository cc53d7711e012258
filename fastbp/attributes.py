"""Attributes of finished networks: setting one that would have no effect raises an error."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar


class Settled:
    """An object whose attributes are free while it is made; then only those in `SETTABLE` can be set, or private ones.

    A property with a setter can be set as well. A class of a user's own, made from one of these, may have more
    attributes than it knows of; what is fixed stays fixed there too.
    """

    SETTABLE: ClassVar[tuple[str, ...]] = ()
    FIXED: ClassVar[Mapping[str, str]] = {}  # name -> what to do instead
    _settled = False

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.SETTABLE and self._settled and not name.startswith("_"):
            kind, described = type(self), getattr(type(self), name, None)
            if name in self.FIXED:
                raise AttributeError(f"{name} cannot be set on a finished network: {self.FIXED[name]}")
            own = kind.__module__.partition(".")[0] == __name__.partition(".")[0]
            if own and not (isinstance(described, property) and described.fset is not None):
                known = [*self.SETTABLE, *self.FIXED]
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise AttributeError(
                    f"{kind.__name__} has no attribute {name!r}{hint} that could be set; there are "
                    f"{', '.join(self.SETTABLE)}; the rest is given to {kind.__name__}(...) when a network is made"
                )
        super().__setattr__(name, value)
