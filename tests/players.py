"""Plays a page: its Python blocks are one program, its shell blocks are typed between them, all in the present folder.

python -m tests.players PAGE writes what they print into the text blocks that follow them.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner

from fastbp.cli.bench import bench
from fastbp.cli.main import main

BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```\n(\n```text\n(.*?)^```\n)?", flags=re.DOTALL | re.MULTILINE)
#: What is not typed here: it installs, measures for long, or belongs to a shell. `.ci/run` runs the first.
LEFT = (
    "python3 -m venv ",
    "pip install ",
    ". .venv/",
    "python examples/",
    "python docs/",
    "python benchmarks/",
    "eval ",
)
LEFT += (
    "_FASTBP_COMPLETE=",
    "ruff ",
    "python -m pytest ",
    "dask ",
    "mpiexec ",
    "git ",
    "dask ",
    "export ",
    "sphinx-build ",
)


def commands(block: str) -> list[str]:
    """The commands of a shell block, without their comments."""
    lines = (line.partition(" #")[0].strip() for line in block.replace("\\\n", " ").splitlines())
    return [line for line in lines if line]


def typed(line: str) -> str:
    """What a command prints. Commands of a kind that nobody knows here are an error, and so is one that fails."""
    if line.startswith("fastbp "):
        done = CliRunner().invoke(main, shlex.split(line)[1:])
        assert done.exit_code == 0, f"{line}\n{done.output}"
        return done.output
    if line.startswith("python bench.py"):
        assert bench.make_context("bench.py", shlex.split(line)[2:]).params
        return ""
    assert line.startswith(LEFT), f"a command that no test runs or knows: {line}"
    return ""


def parsed(line: str) -> None:
    """A command of fastbp has these options and arguments."""
    _, name, *arguments = shlex.split(line)
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.make_context(name, arguments).params


def played(page: str, name: str) -> tuple[dict[str, Any], list[str]]:
    """The names that the Python blocks leave behind, and what each block printed."""
    names: dict[str, Any] = {"__name__": name}
    printed = []
    for found in BLOCK.finditer(page):
        if found[1] == "python":
            lines_before = page[: found.start(2)].count("\n")
            with contextlib.redirect_stdout(io.StringIO()) as said:
                exec(compile("\n" * lines_before + found[2], name, "exec"), names)
            printed.append(said.getvalue())
        else:
            printed.append("".join(map(typed, commands(found[2]))))
    return names, printed


def filled(page: str, printed: list[str]) -> str:
    """The page with what its blocks printed, wherever a text block follows."""
    left = iter(printed)

    def pair(found: re.Match[str]) -> str:
        said = next(left)
        if not found[3]:
            return found[0]
        return f"```{found[1]}\n{found[2]}```\n\n```text\n{said.rstrip()}\n```\n"

    return BLOCK.sub(pair, page)


if __name__ == "__main__":
    path = Path(sys.argv[1]).resolve()
    os.chdir(tempfile.mkdtemp())
    text = path.read_text(encoding="utf-8")
    path.write_text(filled(text, played(text, path.name)[1]), encoding="utf-8")
