"""`benchmarks/scaling.py`: placements measured, and predictions that follow the model of costs."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from fastbp.bench.workloads import WORKLOADS
from fastbp.engine.placement import Placement

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import scaling as made

    monkeypatch.setattr(made, "NAMES", ("digits-deep",))
    monkeypatch.setattr(made, "BLOCK_SECONDS", 0.001)
    monkeypatch.setattr(made, "ROUNDS", 1)
    return made


def test_the_command_measures_every_placement_and_the_page_shows_it(
    scaling: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTBP_NUM_THREADS", "2")
    out = tmp_path / "scaling.json"
    done = CliRunner().invoke(scaling.main, ["--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    document = json.loads(out.read_text(encoding="utf-8"))
    found = [row["placement"] for row in document["measured"]]
    assert found == [[1, 0, 1], [2, 0, 1], [2, 1, 2], [2, 2, 2]]
    assert all(row["seconds"] > 0.0 for row in document["measured"])
    import report

    text = "\n".join(report.scaling_tables(document))
    assert "| digits-deep | 2 | 1 by columns, 2 parts |" in text
    assert "| digits-deep | dies of eight | 1.0 |" in text
    assert document["machine"]["processor"]


def test_predictions_begin_at_the_speed_of_one_thread_and_lose_between_dies(scaling: ModuleType) -> None:
    rows = list(scaling.predict(WORKLOADS["mnist"], 300e-6))
    assert rows[0]["seconds"] == pytest.approx(300e-6, rel=0.01)
    by_cores = {(row["cores"], row["dies"]): row["seconds"] for row in rows}
    assert [by_cores[n, 1] for n in scaling.COUNTS] == sorted(by_cores[n, 1] for n in scaling.COUNTS)[::-1]
    assert by_cores[64, 1] < by_cores[64, 8] < by_cores[8, 1]
    assert all(Placement(*row["placement"]).threads <= row["cores"] for row in rows)


def test_the_page_tells_the_best_placement_of_each_number_of_threads(scaling: ModuleType) -> None:
    import report

    def row(placement: list[int], microseconds: float) -> dict[str, object]:
        common = {"workload": "mnist", "line_nanoseconds": 100.0, "predicted": 1e-4}
        return {**common, "placement": placement, "seconds": 1e-6 * microseconds}

    measured = [row([1, 0, 1], 400.0), row([2, 0, 1], 300.0), row([2, 1, 2], 200.0), row([16, 0, 1], 100.0)]
    machine = {"processor": "Test CPU", "available_threads": 16}
    text = "\n".join(report.more_cores_table({"machine": machine, "measured": measured}))
    assert "Test CPU, 16 processors, 100 to 100 ns a line" in text
    assert "| mnist | 400 (1x) | 200 (2x, 1 by columns) | 100 (4x) |" in text
