"""Draw the two pictures of the first page, and write the table of README.md, from a stored run of the benchmark.

python bench.py --peers sklearn,torch,jax --workload tiny --workload digits --workload rl --workload mnist \
    --workload mnist-deep --out benchmarks/results/front_page.json
python docs/figures/front_page.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import matplotlib
from drawing import BLUE, FAINT, GREEN, INK, ORANGE, RED, STYLE, new_figure, save
from matplotlib.figure import Figure

import fastbp
from fastbp.bench.result import BenchResult, from_document

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "front_page.json"
README = ROOT / "README.md"
WORKLOADS = ("tiny", "digits", "rl", "mnist", "mnist-deep")
RIVALS = {
    "numpy": ("NumPy", BLUE),
    "sklearn": ("scikit-learn", ORANGE),
    "torch": ("PyTorch", RED),
    "jax": ("JAX", GREEN),
}
MARKS = ("<!-- speed -->\n", "<!-- end of speed -->")


def stored() -> BenchResult:
    """The run of the benchmark."""
    return from_document(json.loads(RESULTS.read_text(encoding="utf-8")))


def times(result: BenchResult) -> dict[str, dict[str, float]]:
    """Of each workload, the layers and batch: microseconds a step, by library."""
    found = {}
    entries = {entry.workload.name: entry for entry in result.workloads}
    for entry in map(entries.__getitem__, WORKLOADS):
        name = f"{'-'.join(map(str, entry.workload.sizes))}, batch {entry.workload.batch_size}"
        rivals = {rival: entry.find(rival) for rival in ("fastbp", *RIVALS)}
        found[name] = {rival: 1e6 * one.seconds_per_step for rival, one in rivals.items() if one}
    return found


def table(result: BenchResult) -> str:
    """The table of README.md."""
    lines = ["| network | fastbp, µs a step | " + " | ".join(label for label, _ in RIVALS.values()) + " |"]
    lines.append("|" + "---|" * (len(RIVALS) + 2))
    for name, step in times(result).items():
        ratios = (f"{step[rival] / step['fastbp']:.3g}x" for rival in RIVALS)
        lines.append(f"| {name} | {step['fastbp']:.3g} | " + " | ".join(ratios) + " |")
    machine = result.machine
    lines.append(f"\n{machine['processor']}, {result.threads} threads, {result.date[:10]}; medians.")
    return "\n".join(lines)


def filled(page: str, result: BenchResult) -> str:
    """A page with the table between its marks made anew."""
    begin, end = MARKS
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}{table(result)}\n{end}", page, flags=re.DOTALL)


def speed(result: BenchResult) -> Figure:
    """Times of the rivals over that of fastbp."""
    figure = new_figure(6.4, 3.4)
    axes = figure.add_subplot()
    found = times(result)
    for row, step in enumerate(found.values()):
        ratios = {rival: step[rival] / step["fastbp"] for rival in RIVALS}
        axes.plot([1, max(ratios.values())], [row, row], color="#d0d7de", lw=1.5, zorder=1)
        for rival, ratio in ratios.items():
            axes.scatter(ratio, row, s=62, color=RIVALS[rival][1], edgecolor="white", zorder=2)
    for label, colour in RIVALS.values():
        axes.scatter([], [], s=62, color=colour, label=label)
    axes.axvline(1, color=INK, lw=1.5)
    axes.text(1.03, -0.72, "fastbp", color=INK, weight="bold", va="center")
    ticks = [1, 2, 5, 10, 20, 50, 100, 200]
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick}x" for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_yticks(range(len(found)), list(found), color=INK)
    axes.set(ylim=(len(found) - 0.5, -1.1), xlabel="time of a training step over that of fastbp (log scale)")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=FAINT, alpha=0.2)
    axes.legend(loc="lower right", frameon=False)
    return figure


def main() -> None:
    """Write all of it."""
    result = stored()
    README.write_text(filled(README.read_text(encoding="utf-8"), result), encoding="utf-8")
    X, y = fastbp.datasets.load_digits()
    rates = [10 ** (k / 4) for k in range(-16, 1)]
    sweep = fastbp.lr_sweep(fastbp.MLP([64, 64, 10], seed=0), X, y, rates, seeds=5, epochs=5)
    with matplotlib.rc_context(STYLE):
        save(speed(result), "speed", times(result))
        figure = sweep.plot()
        figure.set_size_inches(6.4, 3.8)
        save(figure, "sweep", {"lr": rates, "loss": sweep.mean_val_loss, "interval": sweep.interval})
    print("wrote README.md, docs/figures/speed.svg and docs/figures/sweep.svg")


if __name__ == "__main__":
    main()
