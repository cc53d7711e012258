"""`fastbp bench`: fastbp beside NumPy and other libraries, as tables, after all files are written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
from rich.console import Console, Group

from fastbp.bench import report
from fastbp.bench.against import Comparison, compare, render
from fastbp.bench.result import BenchResult
from fastbp.bench.runner import PEER_NAMES, STARTUP_WORKLOAD, run
from fastbp.bench.workloads import NAMES, SWEEPS, select
from fastbp.cli.checks import check_out, check_precision
from fastbp.cli.output import console, example, json_option, make_ready, print_json, quiet, quiet_option

KNOWN_NAMES = {*NAMES, *SWEEPS}
MANY = "many"  # a table of its own


def _peers(_context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """Split the comma-separated names."""
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    for name in names:
        if name not in PEER_NAMES:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(PEER_NAMES)}", param=parameter)
    return names


@click.command(epilog=example("fastbp bench --quick --workload tiny"))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="Write everything measured to FILE as JSON.",
)
@quiet_option
@json_option
@click.option(
    "--workload",
    "workloads",
    metavar="NAME",
    multiple=True,
    type=click.Choice([*NAMES, MANY]),
    help="Run only this workload; may be given several times. Only if named: `sweep`, learning-rate sweeps; `held`, "
    "trainings of other shapes than the usual ones; `bfloat16`, those that --precision is measured on; "
    "`many`, many small networks side by side, by itself. "
    f"Names: {', '.join([*NAMES, MANY])}.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="The most threads any rival may use.  [default: the processors this process may run on]",
)
@click.option(
    "--against",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="OLD.json",
    help="Compare with an earlier run, row by row, and say what is noise. Runs its workloads, where none are named.",
)
@click.option(
    "--show",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.json",
    help="Measure nothing: show the run in FILE, or with --against compare it.",
)
@click.option("--quick", is_flag=True, help="Shorter blocks: everything against NumPy in under 60 s.")
@click.option(
    "--peers",
    default="",
    callback=_peers,
    metavar="NAME,...",
    help=f"Compare with these too, where installed: {','.join(PEER_NAMES)}.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    help="bfloat16: trainings in it too, beside those in float32; with the peer torch, PyTorch's autocast; with "
    "--profile, the steps in it.",
)
@click.option(
    "--profile",
    is_flag=True,
    help="Instead: take fastbp's step apart, by layer and phase, and say what limits each.",
)
@click.option(
    "--plot",
    "plot_path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE.png",
    help="With --profile: draw the parts under the machine's roofline (extra plot).",
)
def bench(
    out: Path | None,
    as_json: bool,
    workloads: tuple[str, ...],
    threads: int | None,
    against: Path | None,
    show: Path | None,
    quick: bool,
    peers: tuple[str, ...],
    precision: str,
    profile: bool,
    plot_path: Path | None,
) -> None:
    """Check that fastbp, NumPy and the peers reach the same losses, then time them side by side.

    Exits with 1 when a rival misses the losses of the float64 NumPy reference.
    """
    check_out(out, "--out")
    check_out(plot_path, "--plot")
    check_precision(SimpleNamespace(precision=precision, dtype="float32"))
    if profile:
        if against or show:
            raise click.UsageError("--against and --show take runs of the benchmark, not profiles: leave out --profile")
        _profile(workloads, threads, out, as_json, plot_path, precision)
        return
    if MANY in workloads:
        if len(workloads) > 1 or against or show or peers:
            raise click.UsageError(
                f"--workload {MANY} has a table of its own: give it alone, with --threads or --quick"
            )
        _many(threads, quick, out, as_json)
        return
    if plot_path is not None:
        raise click.UsageError("--plot draws what --profile measures: give both")
    old = None if against is None else _load(against, "--against")
    if old is not None and show is None and not workloads:
        workloads = tuple(entry.workload.name for entry in old.workloads if entry.workload.name in KNOWN_NAMES)
        if not workloads:
            raise click.UsageError(f"{against} holds no workload of this version: name one by --workload")
    result = _measure(workloads, peers, threads, quick, precision) if show is None else _load(show, "--show")
    found = None if old is None else compare(old, result)
    document = result.to_document() | ({} if found is None else {"against": found.to_document()})
    _tell(document, out, as_json, lambda width: _tables(result, found, width))
    if show is None and not result.passed:
        wrong = [
            f"{entry.rival} on {workload.workload.name}"
            for workload in result.workloads
            for entry in workload.rivals
            if entry.verification and not entry.verification.passed
        ]
        raise click.ClickException(f"losses differ from the reference, so not timed: {', '.join(wrong)}")


def _measure(
    workloads: tuple[str, ...], peers: tuple[str, ...], threads: int | None, quick: bool, precision: str
) -> BenchResult:
    """A run."""
    chosen = select(workloads)
    if all(workload.name != STARTUP_WORKLOAD for workload in chosen):  # else the cold start of the run compiles
        make_ready(sorted({workload.dtype for workload in chosen}), precision)
    try:
        return run(workloads, peers=peers, threads=threads, quick=quick, progress=_progress, precision=precision)
    except RuntimeError as error:
        raise click.ClickException(str(error)) from error
    finally:
        _progress("")


def _load(path: Path, option: str) -> BenchResult:
    """A run of before."""
    try:
        return report.load(path)
    except (OSError, ValueError) as error:
        raise click.BadParameter(str(error), param_hint=option) from error


def _tables(result: BenchResult, found: Comparison | None, width: int) -> Any:
    """What a run comes to, and beside an earlier one."""
    tables = report.render(result, width=width)
    return tables if found is None else Group(tables, render(found, width=width))


def _profile(
    workloads: tuple[str, ...], threads: int | None, out: Path | None, as_json: bool, plot_path: Path | None,
    precision: str,
) -> None:  # fmt: skip
    """`bench --profile`."""
    from fastbp.bench import profile, roofline

    if plot_path is not None:
        try:
            roofline.check_plot()
        except ImportError as error:
            raise click.ClickException(str(error)) from error
    make_ready(sorted({workload.dtype for workload in select(workloads)}), precision)
    try:
        found = profile.run(workloads, threads=threads, progress=_progress, precision=precision)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    _progress("")
    if plot_path is not None:
        roofline.plot(found, plot_path)
    document = {"kind": "fastbp-profile", "schema": 1, "profiles": [one.to_document() for one in found]}
    _tell(document, out, as_json, lambda width: roofline.render(found))


def _many(threads: int | None, quick: bool, out: Path | None, as_json: bool) -> None:
    """`bench --workload many`."""
    from fastbp.bench import many

    make_ready(["float32"])
    document = many.run(threads, quick=quick, progress=_progress)
    _progress("")
    _tell(document, out, as_json, lambda width: many.render(document))


def _tell(document: dict[str, Any], out: Path | None, as_json: bool, tables: Callable[[int], Any]) -> None:
    """Write the document to its file, then print it, or the tables; these also where the file cannot be written."""
    try:
        if out is not None:
            report.save(document, out)
    except OSError as error:
        raise click.ClickException(f"cannot write {out}: {error.strerror}; choose another --out FILE") from error
    finally:
        if as_json:
            print_json(document)
        else:
            shown = console()
            shown.print(tables(shown.width))


def _progress(message: str) -> None:
    """A line that overwrites itself, between blocks: a live display redraws in a thread that would be timed too."""
    status = Console(stderr=True, highlight=False)
    if status.is_terminal and not quiet():
        status.file.write(f"\r\x1b[2K{message}")
        status.file.flush()
