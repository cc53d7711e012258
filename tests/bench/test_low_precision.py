"""The benchmark beside bfloat16: the same losses within its rounding, its own peak, and PyTorch's autocast."""

from __future__ import annotations

import pytest

from fastbp.bench import low_precision, runner
from fastbp.bench.protocol import Protocol
from fastbp.bench.result import from_document
from fastbp.bench.rivals import Setting, Task
from fastbp.bench.verify import LOW_TOLERANCE, expected_losses, verify
from fastbp.bench.workloads import Workload, select
from fastbp.kernels.targets import TWIN, VARIABLE, pair_target
from tests.peers import needs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


@pytest.fixture(autouse=True)
def _any_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if pair_target() is None:
        monkeypatch.setenv(VARIABLE, TWIN.name)


def test_fastbp_beside_itself() -> None:
    short = Protocol(blocks=1, block_seconds=0.01, trial_seconds=0.01, idle_seconds=0.0, peak_seconds=0.0)
    found = runner.run(["tiny"], protocol=short, precision="bfloat16", threads=1)
    assert found.passed
    assert [peak.dtype for peak in found.peaks] == ["bfloat16", "float32"]
    again = from_document(found.to_document())
    rows = {result.rival: result for result in again.workloads[0].rivals}
    assert rows["fastbp, bfloat16"].precision == "bfloat16"
    assert rows["fastbp"].precision == "float32"
    assert rows["fastbp, bfloat16"].verification.tolerance == LOW_TOLERANCE  # type: ignore[union-attr]


@needs("torch")
@pytest.mark.parametrize("name", ["digits"])
def test_both_reach_the_losses(name: str) -> None:
    task = Task.of(select([name])[0])
    expected = expected_losses(task)
    for rival in (low_precision.FastbpBfloat16(), low_precision.TorchAutocast()):
        assert rival.unsupported(task.workload) is None
        rival.load()
        rival.setup(task)
        verdict = verify(rival, task, expected, [Setting(1)])
        assert verdict.passed, (rival.name, verdict.difference)
        assert verdict.difference > 1e-7, "as exact as float32: was it bfloat16?"  # type: ignore[operator]
    double = Workload("double", (4, 2), 2, 4, dtype="float64")
    assert "float32" in str(rival.unsupported(double))
