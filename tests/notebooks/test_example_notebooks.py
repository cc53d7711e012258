"""The notebooks in examples/, and that of a chapter, run, and their outputs are those of the code as it is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from peers import needs_heavy

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import examples  # noqa: E402 (it is beside the benchmarks)

pytestmark = needs_heavy("nbclient", "nbformat", "ipykernel")


@pytest.mark.parametrize("name", [*examples.NOTEBOOKS, examples.CHAPTER.stem])
def test_outputs_are_fresh(name: str, tmp_path: Path) -> None:
    kept = json.loads(examples.path_of(name).read_text(encoding="utf-8"))
    made = examples.executed(name, tmp_path)
    assert examples.words_of(examples.text_of(made)) == examples.words_of(examples.text_of(kept))
    assert len(examples.pictures_of(made)) == len(examples.pictures_of(kept))
    streams = [one.name for cell in made.cells for one in cell.get("outputs", ()) if one.output_type == "stream"]
    assert set(streams) == {"stdout"}, "a warning, or a complaint"
