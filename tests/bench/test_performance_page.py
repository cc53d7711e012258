"""`benchmarks/report.py`: what is reached beside the limit of the machine, its rivals and where the rest goes."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from fastbp.bench import report
from fastbp.bench.result import (
    HALF_DIVERGING,
    ONE_THREAD,
    BenchResult,
    Block,
    Peak,
    RivalResult,
    Setting,
    Start,
    StartUp,
    Verification,
    WorkloadResult,
)  # fmt: skip
from fastbp.bench.workloads import HELD, PREDICTIONS, SWEEPS, WORKLOADS, Workload

GOOD = Verification(True, 1e-5, 0.0, Setting(), (1.0,), (1.0,))
ROOT = Path(__file__).parents[2]


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import report as made

    return made


def timed(name: str, microseconds: float, *lines: float, threads: int | None = None) -> RivalResult:
    """One block, or one for each state of the cores, of which the second takes twice as long."""
    blocks = [Block(microseconds * 1e-6, 1)] if not lines else []
    blocks += [Block((k + 1) * microseconds * 1e-6, 1, line, line) for k, line in enumerate(lines)]
    return RivalResult(name, Setting(threads), GOOD, (), tuple(blocks))


def run(*workloads: WorkloadResult, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "date": "2030-01-02T03:04:05+00:00",
        "machine": {
            "processor": "Test CPU", "architecture": "x86_64", "system": "Linux", "python": "3.11.0",
            "available_threads": 2,
            "blas": [{"of": "numpy", "library": "openblas", "version": "0.3", "kernel": "Zen", "threads": 2}],
        },
        "versions": {"fastbp": "0.1.0", "numpy": "2.0.0"}, "threads": 2,
        "settings": {"blocks": 5, "block_seconds": 0.5, "idle_seconds": 0.3}, "peaks": (Peak("float32", 2, 100.0),),
        "workloads": workloads, "startup": StartUp(Start(0.5, 0.25, 9.0), Start(0.5, 0.25, 0.125)),
        "warnings": ("OPENBLAS_CORETYPE=Haswell: slow",),
    }  # fmt: skip
    return BenchResult(**(given | changes)).to_document()


def documents() -> dict[str, Any]:
    """What the five commands write."""
    mnist = WorkloadResult(
        WORKLOADS["mnist"],
        (timed("fastbp", 600.0, 45.0, 130.0), timed("numpy", 1800.0), timed("jax", 1350.0), timed("torch", 2700.0)),
        timed("bare products", 1000.0),
        {"gather": 1e-4, "forward": 7e-4, "loss": 1e-4, "backward": 7e-4, "update": 2e-4},
    )
    row = WorkloadResult(PREDICTIONS["predict-row"], (timed("fastbp", 2.0), timed("onnxruntime", 7.0)))
    parts = [
        {"phase": "forward", "layer": 0, "seconds": 3e-4, "roof_seconds": 2.5e-4},
        {"phase": "gather", "layer": -1, "seconds": 5e-5, "roof_seconds": 5e-5},
        {"phase": "waiting", "layer": -1, "seconds": 1.5e-4, "roof_seconds": 0.0},
        {"phase": "barrier", "layer": -1, "seconds": 1e-4, "roof_seconds": 0.0},
    ]
    profile = {"workload": {"name": "mnist"}, "seconds": 6e-4, "parts": parts, "line_nanoseconds": 45.0}
    variants = [
        {"name": "digits, adam", "by": "time", "limit": 1.0, "reached": 1.08},
        {"name": "width 1 beside NumPy", "by": "flops", "limit": None, "reached": 24.0},
    ]
    (name, *_) = SWEEPS
    sweep: Workload = SWEEPS[name]
    rivals = (
        timed("fastbp", 1.0, threads=2),
        timed(ONE_THREAD, 1.5),
        timed(HALF_DIVERGING, 0.5),
        timed("jax, vmap", 3.0),
    )
    return {
        "bench": run(mnist, row), "profile": {"profiles": [profile]}, "variants": {"variants": variants},
        "sweep": run(WorkloadResult(sweep, rivals)),
        "held": run(WorkloadResult(HELD["held-45"], (timed("fastbp", 17.0), timed("numpy", 68.0)))),
    }  # fmt: skip


def made(page: ModuleType, folder: Path) -> str:
    for name, document in documents().items():
        report.save(document, folder / f"{name}.json")
    paths = [str(folder / f"{name}.json") for name in ("bench", "profile", "variants", "sweep")]
    options = ["--held", str(folder / "held.json"), "--out", str(folder / "page.md")]
    done = CliRunner().invoke(page.main, [*paths, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return (folder / "page.md").read_text(encoding="utf-8")


def test_the_page_has_what_is_reached_its_limit_rivals_and_causes(page: ModuleType, tmp_path: Path) -> None:
    text = made(page, tmp_path)
    # 300 µs at the roofs of 900 (the median of both states); waiting 25 % and the barrier 17 % of a profiled step.
    row = "| mnist 784-128-10, 128 | near 600, far 1,200 | 300 | 33.3 % | 58.2 % | 1.5x | 2x, numpy |"
    assert f"{row} waiting 25 %, barrier 17 %, forward 0 8 % |" in text
    assert "mnist near (45 ns, 1 blocks), mnist far (130 ns, 1 blocks)" in text
    assert "| held-45 45-45-45-10, 64 | 17 |" in text
    assert "4x, numpy |" in text
    assert "| 64-64-10, 1 at a time | 2 | 0.0947 | 4.74 % | 3.5x |" in text
    assert "| 3x |  |  |  | 75 % | 50 % |" in text
    assert "1.80x its bare matrix products" in text
    assert "cold operands 400, gathering and the loop 100, loss 100, update 200" in text
    assert "| width 1 beside NumPy | flops | 24.00 |  |" in text
    assert "| mnist | 600 |" in text
    assert "near, 45 ns |" in text
    assert "numpy's openblas 0.3, kernel Zen, 2 threads" in text
    assert "OPENBLAS_CORETYPE=Haswell: slow" in text


def test_nothing_is_held_against_figures_of_another_machine(page: ModuleType, tmp_path: Path) -> None:
    text = made(page, tmp_path)
    for word in ("missed", "target", "at most 1", "at least 1", "to be at"):
        assert word not in text, word
    assert "target" not in json.dumps(documents())
