"""The scripts in examples/ run, keep what they promise, and say what their page shows; three are notebooks as well."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from peers import needs

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import examples  # noqa: E402 (it is beside the benchmarks)

PAGE = examples.PAGE.read_text(encoding="utf-8")
# What makes one shorter, and what it needs.
ARGUMENTS = {"memory_map": ["200000"]}
MARKS = {
    "c_program": pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler"),
    "memory_map": pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc"),
    **{name: needs("sklearn") for name in ("ensemble", "grid_search")},
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, ())) for name in examples.names()])
def test_it_runs_and_the_page_shows_what_it_says(name: str, tmp_path: Path) -> None:
    found = re.search(rf"<!-- output of {name} -->\n```text\n(.*?)```\n", PAGE, re.DOTALL)
    assert found, f"docs/how-to/examples.md has no place for the output of {name}"
    said = examples.output_of(name, tmp_path, *ARGUMENTS.get(name, ()))
    assert examples.words_of(said) == examples.words_of(found[1]), "run python benchmarks/examples.py"


def test_the_page_has_all_examples_and_no_others() -> None:
    assert sorted(re.findall(r"<!-- output of (\w+) -->", PAGE)) == examples.names()
    assert sorted(re.findall(r"^\| `(\w+)\.py`", PAGE, re.MULTILINE)) == examples.names()
    for path in (ROOT / "examples").glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 90, "an example is short"


@pytest.mark.parametrize("name", examples.NOTEBOOKS)
def test_notebooks_have_the_cells_of_their_scripts_and_outputs(name: str) -> None:
    notebook: Any = json.loads((ROOT / "examples" / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    assert cells == examples.cells_of(name), "run python benchmarks/examples.py"
    assert sum(bool(cell.get("outputs")) for cell in notebook["cells"]) >= 2
