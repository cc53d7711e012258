"""Files with every fault that real tables have: the exact words that each gets at the command line."""

from __future__ import annotations

from pathlib import Path

import faulty
import pytest
from click.testing import CliRunner

import fastbp
from fastbp.cli.main import main
from fastbp.io.faults import TableError


@pytest.mark.parametrize("fault", list(faulty.faults()), ids=lambda fault: fault.name)
def test_what_is_said(fault: faulty.Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(fault.file).write_bytes(fault.content)
    done = CliRunner().invoke(main, ["train", fault.file, *fault.options, "--epochs", "2"])
    if fault.trains:
        assert (done.exit_code, done.stderr) == (0, "")
        said = " ".join(done.stdout.split())  # lines are wrapped to the screen
        for line in fault.says:
            assert " ".join(line.split()) in said
    else:
        first, *others = fault.says
        assert done.stderr.splitlines() == [f"fastbp: {fault.file}{first}", *others]
        assert (done.exit_code, done.stdout) == (1, "")


def test_in_python_options_are_arguments(tmp_path: Path) -> None:
    faulty.write(tmp_path)
    for name, target, says in (
        ("quantity-or-classes", "points", "say numeric=['points'] if they are quantities, categorical=['points'] if"),
        ("identifier", "price", "say drop=['user'], id=['user'] to have it beside"),
        ("one-word", "price", "say missing=['unknown'] if that means a missing value, or categorical=['area'] if"),
        ("day-or-month", "price", "say dates={'sold': '%d/%m/%Y'} or dates={'sold': '%m/%d/%Y'}"),
    ):
        with pytest.raises(TableError) as caught:
            fastbp.TableModel().fit(tmp_path / f"{name}.csv", target)
        assert says in str(caught.value)
