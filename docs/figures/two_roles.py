"""Run docs/tutorial/two-roles.md: write its outputs into it, and draw its figures from the numbers that it computes.

python docs/figures/two_roles.py  # with the extra plot
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from drawing import BLUE, FAINT, GREEN, INK, ORANGE, RED, STYLE, new_figure, save
from pages import filled, run

PAGE = Path(__file__).resolve().parents[1] / "tutorial" / "two-roles.md"
COLOURS = (BLUE, GREEN, ORANGE, RED)
CURVE = ("crawls", "arrives", "jumps over, arrives", "jumps over, diverges")
SURFACE = ("crawls", "arrives", "zigzags", "diverges")


def data(names: dict[str, Any]) -> dict[str, Any]:
    """The numbers behind each figure, from what the page has left behind."""
    runs = names["runs"]
    return {
        "two-roles-network": {"W": names["W"], "v": names["v"], "x": names["x"]},
        "two-roles-curve": names["curve"],
        "two-roles-surface": {alpha: path[:, :2] for alpha, path in names["surface"].items()},
        "two-roles-saddle": {"path": beside_the_saddle(names["saddle"], names["ends"])},
        "two-roles-schedule": {name: {"loss": one.loss, "lr": one.lr} for name, one in runs.items()},
    }


def beside_the_saddle(net: Any, ends: Any, steps: int = 150) -> list[list[float]]:
    """Where descent goes from a place beside the saddle."""
    w, path = np.array([0.9, -0.85]), []
    for _ in range(steps + 1):
        path.append(w.tolist())
        net.set_weights(list(w.reshape(2, 1, 1)), [[0.0], [0.0]])
        w = w - 0.1 * np.array(net.backprop(ends, ends).weights).ravel()
    return path


def network(shown: dict[str, Any]) -> Any:
    """Units as circles, each weight on its line."""
    figure = new_figure(6.4, 2.9)
    axes = figure.subplots()
    at = {"x1": (0, 1), "x2": (0, 0), "h1": (1.5, 1), "h2": (1.5, 0), "p": (3, 0.5)}
    W, v, x = (np.asarray(shown[name]) for name in ("W", "v", "x"))
    hidden = np.maximum(x @ W, 0.0).ravel()
    inside = dict(
        zip(
            at,
            [*(f"{value:g}" for value in x.ravel()), *(f"{h:.1f}" for h in hidden), f"{hidden @ v.ravel():.1f}"],
            strict=True,
        )
    )
    lines = [(f"x{i + 1}", f"h{j + 1}", W[i, j]) for i in range(2) for j in range(2)]
    lines += [(f"h{j + 1}", "p", v[j, 0]) for j in range(2)]
    for begin, end, weight in lines:
        (x0, y0), (x1, y1) = at[begin], at[end]
        colour = BLUE if weight > 0 else RED
        axes.plot([x0, x1], [y0, y1], color=colour, lw=0.8 + 1.6 * abs(weight), zorder=1)
        share = 0.3 if y0 != y1 and begin[0] == "x" else 0.5
        place = (x0 + share * (x1 - x0), y0 + share * (y1 - y0))
        box = {"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none"}
        axes.text(*place, f"{weight:.1f}", ha="center", va="center", color=colour, bbox=box, zorder=2)
    for name, (x0, y0) in at.items():
        axes.scatter([x0], [y0], s=900, color="white", edgecolor=INK, zorder=3)
        axes.text(x0, y0, inside[name], ha="center", va="center", zorder=4)
    for place, word in ((0, "inputs"), (1.5, "hidden units (relu)"), (3, "output")):
        axes.text(place, 1.38, word, ha="center", color=FAINT)
    axes.text(3, 0.12, "right would be 1", ha="center", color=FAINT)
    axes.set(xlim=(-0.4, 3.5), ylim=(-0.3, 1.5))
    axes.axis("off")
    return figure


def curve(shown: dict[str, Any]) -> Any:
    """The parabola, and the steps on it, for each rate."""
    figure = new_figure(7.2, 5.4)
    for axes, (alpha, path), word, colour in zip(
        figure.subplots(2, 2, sharex=True, sharey=True).flat, shown.items(), CURVE, COLOURS, strict=True
    ):
        w = np.linspace(-1.55, 0.25, 200)
        axes.plot(w, (2 * w + 1.3) ** 2, color=FAINT, lw=1.2)
        steps = np.array(path)
        axes.plot(steps[:, 0], steps[:, 1], "o-", color=colour, ms=4, lw=1.2)
        axes.plot(*steps[0], "o", color=INK, ms=6)
        axes.annotate("start", steps[0], xytext=(-10, -1), textcoords="offset points", ha="right", va="top")
        axes.plot(-0.65, 0, "|", color=INK, ms=12)
        axes.set_title(f"alpha = {alpha}: {word}", color=colour)
        axes.set(xlim=(-1.6, 0.3), ylim=(-0.15, 2.4))
    figure.supxlabel("the weight w")
    figure.supylabel("the cost J")
    return figure


def surface(shown: dict[str, Any], names: dict[str, Any]) -> Any:
    """Contours of J over two weights, and the path of each rate."""
    figure = new_figure(7.2, 6.0)
    H = np.maximum(names["X"] @ names["W"], 0.0)
    a, b = np.meshgrid(np.linspace(-1.6, 1.7, 120), np.linspace(-1.0, 1.6, 120))
    J = np.mean((H[:, :1, None] * a + H[:, 1:, None] * b - names["Y"][:, :, None]) ** 2, axis=0)
    best = np.linalg.lstsq(H, names["Y"].ravel(), rcond=None)[0]
    for axes, (alpha, path), word, colour in zip(
        figure.subplots(2, 2, sharex=True, sharey=True).flat, shown.items(), SURFACE, COLOURS, strict=True
    ):
        lowest = float(np.mean((H @ best - names["Y"].ravel()) ** 2))
        axes.contour(a, b, J - lowest, levels=np.geomspace(0.02, 20, 12), colors=FAINT, linewidths=0.6)
        steps = np.array(path)
        axes.plot(steps[:, 0], steps[:, 1], "o-", color=colour, ms=3.5, lw=1.2)
        axes.plot(*steps[0], "o", color=INK, ms=6)
        axes.annotate("start", steps[0], xytext=(-2, 8), textcoords="offset points", ha="center")
        axes.plot(*best, "+", color=INK, ms=11, mew=1.8)
        axes.set_title(f"alpha = {alpha}: {word}", color=colour)
        axes.set(xlim=(-1.6, 1.7), ylim=(-1.0, 1.6), aspect="equal")
    figure.supxlabel("weight from hidden unit 1 to the output")
    figure.supylabel("weight from hidden unit 2 to the output")
    return figure


def saddle(shown: dict[str, Any]) -> Any:
    """J = (w1 w2 - 1)^2 around 0, 0."""
    figure = new_figure(5.4, 4.8)
    axes = figure.subplots()
    a, b = np.meshgrid(np.linspace(-1.7, 1.7, 150), np.linspace(-1.7, 1.7, 150))
    drawn = axes.contour(
        a, b, (a * b - 1) ** 2, levels=[0.02, 0.1, 0.3, 0.6, 1, 1.5, 2.5, 4, 7], colors=FAINT, linewidths=0.7
    )
    axes.clabel(drawn, levels=[0.1, 0.6, 1, 2.5], fontsize=8)
    path = np.array(shown["path"])
    axes.plot(path[:, 0], path[:, 1], "o-", color=GREEN, ms=3, lw=1.2)
    axes.plot(0, 0, "X", color=RED, ms=10)
    axes.annotate("start", path[0], xytext=(6, -4), textcoords="offset points", color=INK)
    axes.annotate("saddle: all slopes are 0", (0, 0), xytext=(-8, 8), textcoords="offset points", color=RED, ha="right")
    axes.annotate("minimum, J = 0", path[-1], xytext=(6, 8), textcoords="offset points", color=GREEN, ha="center")
    axes.set(xlabel="w1", ylabel="w2", aspect="equal")
    return figure


def schedule(shown: dict[str, Any]) -> Any:
    """The cost by epoch for both rates, and the rates below."""
    figure = new_figure(7.2, 4.6)
    top, bottom = figure.subplots(2, sharex=True, height_ratios=(3, 1))
    for (name, one), colour in zip(shown.items(), (RED, GREEN), strict=True):
        epochs = range(1, len(one["loss"]) + 1)
        top.plot(epochs, one["loss"], color=colour, lw=1.6)
        top.text(*((18, 1e4) if name == "constant" else (38, 1e-2)), name, color=colour)
        bottom.step(epochs, one["lr"], color=colour, lw=1.6, where="mid")
    top.set(yscale="log", ylabel="cost J", ylim=(1e-5, 1e6))
    bottom.set(xlabel="epoch", ylabel="alpha", ylim=(0, 0.6))
    return figure


def main() -> None:
    """Fill the page, and draw its figures."""
    page = PAGE.read_text(encoding="utf-8")
    names, printed = run(page, PAGE.name)
    PAGE.write_text(filled(page, printed), encoding="utf-8")
    shown = data(names)
    draw = {"network": network, "curve": curve, "saddle": saddle, "schedule": schedule}
    with matplotlib.rc_context(STYLE):
        for name, numbers in shown.items():
            short = name.removeprefix("two-roles-")
            figure = surface(numbers, names) if short == "surface" else draw[short](numbers)
            save(figure, name, numbers)
    print(f"wrote {PAGE} and {len(shown)} figures")


if __name__ == "__main__":
    main()
