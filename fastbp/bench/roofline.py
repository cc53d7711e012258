"""A profile as a table, and as a roofline picture (extra `plot`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fastbp.bench.profile import LEVELS, NEAR_ROOF, SECONDS, Part, Profile
from fastbp.io.figures import new_figure, save_figure


def render(profiles: Sequence[Profile]) -> RenderableType:
    """One table a workload, and how to read them."""
    first = profiles[0]
    speeds = ", ".join(f"{level} {speed * 1e-9:.0f}" for level, speed in first.bandwidths.items())
    note = Text(
        f"Mean over {first.threads} thread{'s' * (first.threads != 1)}, medians over chunks of {1e3 * SECONDS:.0f} ms; "
        "waiting: for threads that came to a barrier later; barrier: from when the last came. "
        f"Two reads and a write, GB/s: {speeds}. bytes: "
        "every operand read once, every result written once. limit: the roof that the part runs close to (over "
        f"{NEAR_ROOF:.0%}); blank: neither, so calls, latency or waiting."
    )
    return Group(*(_table(profile) for profile in profiles), note)


def _table(profile: Profile) -> Group:
    workload = profile.workload
    sizes = "-".join(map(str, workload.sizes))
    title = (
        f"{workload.name}: {sizes}, batch {workload.batch_size}, {profile.seconds * 1e6:,.1f} µs a step, "
        f"{workload.flops_per_step / profile.seconds * 1e-9:.0f} of {profile.peak_gflops:.0f} GFLOP/s{_cores(profile)}"
    )
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)  # the widest has 80 columns
    table.add_column("phase", no_wrap=True)
    for heading in ("layer", "µs", "share", "kflop", "kB", "GFLOP/s", "% of\npeak", "% of\nroof", "limit"):
        table.add_column(heading, justify="left" if heading == "limit" else "right", no_wrap=True)
    for part in profile.parts:
        table.add_row(*_cells(profile, part))
    return Group(Text(title, style="italic"), table, "")


def _cores(profile: Profile) -> str:
    """The state of the cores, and who waited, where there are more than one."""
    said = f", cores {profile.cores}, {profile.line_nanoseconds:.0f} ns a line" if profile.line_nanoseconds else ""
    if profile.placement and profile.placement[1]:
        said += f", layers by columns: {profile.placement[1]}"
    if profile.threads > 1 and profile.waiting:
        said += f", waiting by thread {', '.join(f'{1e6 * seconds:.3g}' for seconds in profile.waiting)} µs"
    return said


def _cells(profile: Profile, part: Part) -> list[str]:
    seconds = part.seconds
    gflops = part.flops / seconds * 1e-9 if part.flops and seconds else None
    return [
        part.phase,
        "" if part.layer < 0 else str(part.layer),
        f"{seconds * 1e6:,.2f}",
        f"{seconds / profile.seconds:.1%}",
        f"{part.flops / 1000:,.0f}" if part.flops else "",
        f"{part.bytes / 1000:,.1f}" if part.bytes else "",
        "" if gflops is None else f"{gflops:.1f}",
        "" if gflops is None else f"{100 * gflops / profile.peak_gflops:.0f}",
        f"{100 * part.roof_seconds / seconds:.0f}" if part.roof_seconds and seconds else "",
        part.limit,
    ]


def plot(profiles: Sequence[Profile], path: Path) -> None:
    """Draw flops a byte against flop/s, under the measured roofs.

    Raises
    ------
    ImportError
        matplotlib is not installed; the message says how to mend it.
    """
    figure = new_figure(9, 6)
    axes = figure.subplots()
    peak = max(profile.peak_gflops for profile in profiles)
    parts = [(profile, part) for profile in profiles for part in profile.parts if part.flops and part.seconds]
    intensities = [part.flops / part.bytes for _, part in parts]
    low, high = min(intensities) / 4, max(intensities) * 2
    for level, speed in profiles[0].bandwidths.items():
        ridge = peak / (speed * 1e-9)
        axes.plot([low, ridge], [low * speed * 1e-9, peak], color="0.6", lw=1)
        axes.annotate(
            f"{level}, {_size(LEVELS[level])} a thread: {speed * 1e-9:.0f} GB/s", (low, low * speed * 1e-9),
            xytext=(4, 0), textcoords="offset points", fontsize=8, color="0.25", va="top",
            bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none"},
        )  # fmt: skip
    ridges = [peak / (speed * 1e-9) for speed in profiles[0].bandwidths.values()]
    axes.plot([min(ridges), high], [peak, peak], color="0.3", lw=1.5)
    axes.annotate(f"FMA peak {peak:.0f} GFLOP/s", (high, peak), ha="right", va="bottom", fontsize=8)
    markers = {"forward": "o", "backward": "s", "update": "^"}
    for number, profile in enumerate(profiles):
        for phase, marker in markers.items():
            mine = [part for owner, part in parts if owner is profile and part.phase == phase]
            axes.scatter(
                [part.flops / part.bytes for part in mine],
                [part.flops / part.seconds * 1e-9 for part in mine],
                marker=marker, s=28, color=f"C{number % 10}",
                label=profile.workload.name if phase == "forward" else None,
            )  # fmt: skip
    axes.set(xscale="log", yscale="log", ylabel="GFLOP/s", xlim=(low, high))
    axes.set_xlabel("flop a byte: memory sets the limit on the left, arithmetic on the right")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.set_title(f"Phases of a step, {profiles[0].threads} threads: o forward, s backward, ^ gradient and update")
    axes.legend(fontsize=8, loc="lower right")
    save_figure(figure, path, dpi=130)


def _size(n: int) -> str:
    """Bytes, as caches are sized."""
    return f"{n >> 20} MB" if n >> 20 else f"{n >> 10} kB"


def check_plot() -> None:
    """Refuse a picture that cannot be drawn before, not after, the measuring."""
    new_figure(1, 1)
