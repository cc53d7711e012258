"""The figure that all pictures are drawn on: matplotlib's, which shows itself in a notebook without pyplot."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure that belongs to no window; as the last line of a cell a notebook shows it, once."""

    def __repr__(self) -> str:
        width, height = self.get_size_inches()
        return f'<fastbp picture, {width:g} x {height:g} inches: .savefig("picture.png") writes it>'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """One image, whether the notebook has loaded matplotlib's own display or not."""
        file = BytesIO()
        self.savefig(file, format="png")
        return {"text/plain": repr(self), "image/png": file.getvalue()}
