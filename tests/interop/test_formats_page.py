"""`docs/reference/formats.md`: its blocks run and print what it says; its reader needs NumPy and safetensors alone."""

from __future__ import annotations

import ast
import contextlib
import doctest
import inspect
import io
import re
from pathlib import Path

import numpy as np
import pytest
from peers import needs

import fastbp

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "formats.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|text)\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


@needs("torch", "sklearn", "onnx", "onnxruntime", "h5py")
def test_the_blocks_run_and_print_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    printed = io.StringIO()
    for kind, block in BLOCKS:
        if kind == "text":
            assert printed.getvalue() == block
        else:
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(block, "formats.md", "exec"), names)
    declared = re.search(r"^```c\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    assert declared
    source = re.sub(r" /\*.*\*/", "", (tmp_path / "digits.c").read_text())
    assert all(line in source.splitlines() for line in declared[1].splitlines())


def test_the_reader_needs_numpy_and_safetensors_alone() -> None:
    reader = next(block for kind, block in BLOCKS if "safe_open(" in block)
    found = {ast.unparse(node) for node in ast.walk(ast.parse(reader)) if isinstance(node, ast.Import | ast.ImportFrom)}
    assert found == {"import json", "import numpy as np", "from safetensors import safe_open"}
    assert "fastbp." not in reader.replace('"fastbp"', "")


@needs("torch", "sklearn")
@pytest.mark.parametrize("name", ["from_torch", "from_sklearn", "from_keras"])
def test_the_examples_of_the_functions_run(name: str) -> None:
    y = np.arange(60) % 3
    names = {"fastbp": fastbp, "X": np.random.default_rng(0).standard_normal((60, 4)), "y": y}
    examples = doctest.DocTestParser().get_doctest(inspect.getdoc(getattr(fastbp, name)) or "", names, name, None, None)
    assert examples.examples
    said: list[str] = []
    doctest.DocTestRunner().run(examples, out=said.append)
    assert not said, "".join(said)
