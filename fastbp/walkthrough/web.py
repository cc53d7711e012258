"""The story as a web page that needs nothing else: the network to point at, a slider of rates, all stages."""

from __future__ import annotations

import html
from os import PathLike
from typing import Any

import numpy as np

from fastbp.many import web
from fastbp.walkthrough.descent import WORDS, Descent
from fastbp.walkthrough.drawing import Drawing
from fastbp.walkthrough.numbers import shown
from fastbp.walkthrough.stages import Grid, Stage

TITLE = "One row through a network and back"
_DIGITS = 6
_WORD = ' class="word"'
# Whether lines have numbers, and circles -> what to say of the drawing.
_LEGEND = {
    (True, True): "On the lines stand the weight (w) and its gradient (g), in the circles the forward values.",
    (False, True): "In the circles stand the forward values.",
    (False, False): "",
}


def write(story: Any, path: str | PathLike[str], command: str | None) -> None:
    """Write the page; see `Explanation.to_html`."""
    web.write(path, page(story, command))


def page(story: Any, command: str | None) -> str:
    """The whole page; all text that is not ours is escaped."""
    drawing, descent = Drawing(story.numbers, story.view), story.descent
    body = web.fill("explain.html", {
        "tiles": web.tiles(_tiles(story)),
        "legend": _LEGEND[drawing.labelled, drawing.large],
        "network": drawing.svg(),
        "without": " hidden" * (descent is None),
        "last": str(0 if descent is None else len(descent.rates) - 1),
        "chosen": str(0 if descent is None else descent.chosen),
        "stages": "\n".join(_stage(number, one) for number, one in enumerate(story.stages, 1)),
    }, "walkthrough")  # fmt: skip
    about = " · ".join(filter(None, [story.title, story.subject.place]))
    return web.framed(
        body, "", _data(descent), ["explain.js"], title=TITLE, command=command, package="walkthrough",
        about=about, style=web.part("explain.css", "walkthrough"),
    )  # fmt: skip


def _data(descent: Descent | None) -> dict[str, Any]:
    """What the script draws."""
    if descent is None:
        return {"rates": [], "costs": [[0.0]], "moved": []}
    decade = round(1 / np.log10(descent.rates[1] / descent.rates[0]))
    return {
        "rates": _short(descent.rates), "costs": _short(descent.costs), "verdicts": descent.verdicts, "words": WORDS,
        "moved": _short(descent.moved), "chosen": descent.chosen, "decade": decade,
    }  # fmt: skip


def _short(values: Any) -> Any:
    """Numbers with as many digits as can be seen."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if isinstance(values, list):
        return [_short(one) for one in values]
    return float(f"{values:.{_DIGITS}g}") if np.isfinite(values) else None


def _tiles(story: Any) -> list[tuple[str, str, str]]:
    """The result in a few large figures."""
    numbers, descent = story.numbers, story.descent
    largest = max(float(np.abs(one.d_weight).max()) for one in numbers.layers)
    found = [("cost J", shown(numbers.cost), "of this row")]
    if descent is not None:
        cost = descent.costs[descent.chosen, 1]
        found.append(("after one step", shown(cost) if np.isfinite(cost) else "not finite",
                      f"{story.optimizer.name}, learning rate {shown(story.optimizer.lr)}"))  # fmt: skip
    found.append(("largest slope", shown(largest), "of all weights"))
    found.append(("gradient", "right" if story.agrees else "in doubt", "checked by finite differences"))
    return found


def _stage(number: int, stage: Stage) -> str:
    """A card."""
    formulas = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in stage.formulas)
    parts = [f'<section class="card stage" id="stage-{number}">', f"<h2>{number}. {html.escape(stage.title)}</h2>",
             f'<p class="lead">{html.escape(stage.about)}</p>', f"<dl>{formulas}</dl>" if formulas else ""]  # fmt: skip
    for grid in stage.grids:
        label = html.escape(grid.caption or f"Numbers of stage {number}")
        parts.append(f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">{_table(grid)}</div>')
    if stage.written:
        parts.append(f"<pre>{html.escape(chr(10).join(stage.written))}</pre>")
    if stage.notes:
        kind = "" if stage.good is None else ' class="good"' if stage.good else ' class="bad"'
        parts.append(f"<ul{kind}>{''.join(f'<li>{html.escape(note)}</li>' for note in stage.notes)}</ul>")
    return "\n".join(filter(None, [*parts, "</section>"]))


def _table(grid: Grid) -> str:
    words = [any(isinstance(row[c], str) and row[c] for row in grid.rows) for c in range(len(grid.head))]
    head = "".join(
        f'<th scope="col"{_WORD * word}>{html.escape(name)}</th>' for name, word in zip(grid.head, words, strict=True)
    )
    rows = "".join(
        f'<tr><th scope="row">{html.escape(str(row[0]))}</th>' + "".join(map(_cell, row[1:])) + "</tr>"
        for row in grid.rows
    )
    caption = f"<caption>{html.escape(grid.caption)}</caption>" if grid.caption else ""
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cell(value: float | str) -> str:
    return f"<td{_WORD}>{html.escape(value)}</td>" if isinstance(value, str) else f"<td>{shown(value)}</td>"
