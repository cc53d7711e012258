"""Run docs/explanation/how-it-is-fast.md: write its outputs into it, and draw its figures.

    python docs/figures/how_it_is_fast.py
    fastbp bench --profile --out profile.json && python docs/figures/how_it_is_fast.py profile.json

The second form takes what was measured on this machine; without it, the last measurement is drawn again.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
from drawing import BLUE, FAINT, GREEN, INK, ORANGE, RED, STYLE, data_of, new_figure, save
from matplotlib.patches import FancyArrowPatch, Rectangle
from pages import filled, run

PAGE = Path(__file__).resolve().parents[1] / "explanation" / "how-it-is-fast.md"
PALE = {BLUE: "#dbe9f9", GREEN: "#d9f0df", ORANGE: "#fde5d3", RED: "#fbdcdf", FAINT: "#eaeef2"}
SHOWN = ("tiny", "digits", "digits-deep", "mnist", "large")
PHASES = {
    "gather": "#8c959f", "forward": BLUE, "loss": "#8250df", "backward": "#1b7c83", "update": GREEN,
    "waiting": ORANGE, "barrier": RED, "other": "#d0d7de",
}  # fmt: skip


def data() -> dict[str, Any]:
    """The numbers of the diagrams; those of the measured figure are in its file."""
    return {
        "fast-tile": {"rows": 8, "vectors": 2, "lanes": 16},
        "fast-panels": {"rows": 4, "columns": 12, "panel": 4},
        "fast-fusion": {"blocks": 4, "stages": 5},
        "fast-placement": {"threads": 2},
    }


def box(axes: Any, x: float, y: float, width: float, height: float, colour: str, text: str = "", **style: Any) -> None:
    """A rectangle with a word in it."""
    axes.add_patch(Rectangle((x, y), width, height, facecolor=PALE[colour], edgecolor=colour, lw=0.8))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", **{"fontsize": 9, "color": INK, **style})


def arrow(axes: Any, begin: tuple[float, float], end: tuple[float, float], colour: str = FAINT) -> None:
    axes.add_patch(FancyArrowPatch(begin, end, arrowstyle="-|>", mutation_scale=10, color=colour, lw=1))


def canvas(width: float, height: float, right: float, top: float) -> tuple[Any, Any]:
    figure = new_figure(width, height)
    axes = figure.subplots()
    axes.set(xlim=(0, right), ylim=(0, top), aspect="equal")
    axes.axis("off")
    return figure, axes


def tile(shown: dict[str, Any]) -> Any:
    """C = A B, and the part of C whose sums stay in registers."""
    figure, axes = canvas(7.2, 3.7, 18, 9.2)
    rows, vectors = int(shown["rows"]), int(shown["vectors"])
    for r in range(rows):
        box(axes, 0.5, 0.6 + 0.5 * r, 5, 0.5, FAINT)
        box(axes, 2.6, 0.6 + 0.5 * r, 0.5, 0.5, ORANGE)
    for k in range(5):
        for j in range(vectors):
            box(axes, 8 + 4 * j, 5.4 + 0.55 * k, 4, 0.55, ORANGE if k == 2 else FAINT)
    for r in range(rows):
        for j in range(vectors):
            box(axes, 8 + 4 * j, 0.6 + 0.5 * r, 4, 0.5, GREEN)
    axes.text(3, 4.8, f"A: {rows} rows of the batch", ha="center")
    axes.text(12, 8.4, f"B: one panel of weights, {vectors} vectors of {int(shown['lanes'])} numbers", ha="center")
    axes.text(16.2, 2.6, f"C: {rows * vectors} vectors\nof sums, in\nregisters", va="center", color=GREEN)
    axes.text(3, 0.05, "column k: one number a row", ha="center", fontsize=8.5, color=ORANGE)
    axes.text(16.2, 6.75, "row k", va="center", fontsize=8.5, color=ORANGE)
    arrow(axes, (5.7, 2.6), (7.8, 2.6))
    arrow(axes, (12, 5.3), (12, 4.7))
    return figure


def panels(shown: dict[str, Any]) -> Any:
    """In which order the numbers of a matrix lie in memory: plain, and in panels."""
    rows, columns, width = (int(shown[name]) for name in ("rows", "columns", "panel"))
    figure, axes = canvas(7.2, 2.6, 27, 6.2)
    for at, title, order in (
        (0.5, "a plain matrix: row after row", lambda r, c: r * columns + c),
        (14, "panels: what a tile reads lies in one piece", lambda r, c: (c // width * rows + r) * width + c % width),
    ):
        for r in range(rows):
            for c in range(columns):
                mine = c // width == 1
                box(
                    axes,
                    at + c,
                    4 - r,
                    1,
                    1,
                    GREEN if mine else FAINT,
                    str(order(r, c)),
                    fontsize=8,
                    color=INK if mine else FAINT,
                )
        axes.text(at + columns / 2, 5.4, title, ha="center")
    axes.text(
        13.3, 0.2, "green: the weights of four units; the numbers count places in memory", ha="center", color=FAINT
    )
    return figure


def fusion(shown: dict[str, Any]) -> Any:
    """Pass after pass over the whole batch, or a block of rows through everything."""
    figure, axes = canvas(7.2, 3.4, 27, 12.2)
    blocks = int(shown["blocks"])
    stages = ("layer 1", "relu", "layer 2", "loss", "deltas")
    axes.text(6.2, 11.4, "pass after pass", ha="center")
    axes.text(20.5, 11.4, "block after block", ha="center")
    for k, stage in enumerate(stages):
        box(axes, 0.3, 8.7 - 2 * k, 4, 1.4, BLUE, stage)
        box(axes, 6.6, 8.7 - 2 * k, 5.2, 1.4, FAINT, "all rows, to and from memory", fontsize=6.5)
        arrow(axes, (4.4, 9.4 - 2 * k), (6.5, 9.4 - 2 * k))
    for b in range(blocks):
        for k, stage in enumerate(stages):
            box(axes, 14.6 + 3.2 * b, 8.7 - 2 * k, 2.7, 1.4, GREEN, stage, fontsize=7.5)
            if k:
                arrow(axes, (15.95 + 3.2 * b, 10.75 - 2 * k), (15.95 + 3.2 * b, 10.05 - 2 * k), GREEN)
        axes.text(15.95 + 3.2 * b, 0.05, f"rows {'abcd'[b]}", ha="center", fontsize=8, color=FAINT)
    return figure


def placement(shown: dict[str, Any]) -> Any:
    """Whose is which part of the batch, and of the weights."""
    figure, axes = canvas(7.2, 3.0, 27, 10.4)
    for at, title, vertical in ((0.5, "by rows", False), (14, "by columns", True)):
        axes.text(at + 6, 9.6, title, ha="center", fontsize=11)
        for part, colour in enumerate((BLUE, ORANGE)):
            name = f"thread {part + 1}"
            if vertical:
                box(axes, at + 6 * part, 5.4, 5.8, 3.2, colour, f"{name}:\nall rows, its units")
                box(
                    axes,
                    at + 6 * part,
                    1.4,
                    5.8,
                    2.6,
                    colour,
                    f"{name}: the weights\nof its units, for good",
                    fontsize=8.5,
                )
            else:
                box(axes, at, 7 - 1.6 * part, 11.8, 1.6, colour, f"{name}: its rows, all units")
                box(axes, at, 2.7 - 1.3 * part, 11.8, 1.3, colour, f"{name}: updates some of the weights, reads all")
        axes.text(at + 6, 4.5, "activations", ha="center", fontsize=8.5, color=FAINT, va="center")
        axes.text(at + 6, 0.6, "weights", ha="center", fontsize=8.5, color=FAINT, va="center")
    return figure


def step(shown: dict[str, Any]) -> Any:
    """Shares of a step by phase, measured."""
    figure = new_figure(7.2, 3.4)
    axes = figure.subplots()
    for place, one in enumerate(shown["steps"]):
        left = 0.0
        for phase, colour in PHASES.items():
            share = one["seconds"][phase] / sum(one["seconds"].values())
            axes.barh(-place, share, left=left, color=colour, label=phase if not place else None, height=0.7)
            left += share
    totals = [1e6 * sum(one["seconds"].values()) for one in shown["steps"]]
    names = [
        f"{one['name']}, {took:,.{1 if took < 100 else 0}f} µs"
        for one, took in zip(shown["steps"], totals, strict=True)
    ]
    axes.set_yticks([-k for k in range(len(names))], names)
    axes.set(xlim=(0, 1), xlabel="share of a step")
    axes.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    axes.tick_params(axis="y", labelcolor=INK)
    figure.legend(loc="outside upper center", ncols=8, frameon=False, fontsize=8, handlelength=1, columnspacing=1)
    return figure


def measured(path: str | None) -> dict[str, Any]:
    """Seconds of each phase, from a profile, or those that the figure has now."""
    if path is None:
        found: dict[str, Any] = data_of("fast-step")
        return found
    profiles = {one["workload"]["name"]: one for one in json.loads(Path(path).read_text(encoding="utf-8"))["profiles"]}
    steps = []
    for name in SHOWN:
        parts = profiles[name]["parts"]
        seconds = {phase: sum(part["seconds"] for part in parts if part["phase"] == phase) for phase in PHASES}
        steps.append({"name": name, "seconds": seconds})
    return {"steps": steps}


def main(profile: str | None = None) -> None:
    """Fill the page, and draw its figures."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(filled(page, run(page, PAGE.name)[1]), encoding="utf-8")
    draw = {
        "fast-tile": tile,
        "fast-panels": panels,
        "fast-fusion": fusion,
        "fast-placement": placement,
        "fast-step": step,
    }
    shown = {**data(), "fast-step": measured(profile)}
    with matplotlib.rc_context(STYLE):
        for name, numbers in shown.items():
            save(draw[name](numbers), name, numbers)
    print(f"wrote {PAGE} and {len(shown)} figures")


if __name__ == "__main__":
    main(*sys.argv[1:])
