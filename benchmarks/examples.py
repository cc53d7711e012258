"""Run all examples: outputs into docs/how-to/examples.md, three of them and a chapter as notebooks with outputs.

    python benchmarks/examples.py [NAME ...]

The notebooks are made of the scripts whose cells begin with ``# %%``, and of a chapter of the documentation. Jupyter is
needed (extra `heavy`), and what the examples need (extras `sklearn`, `data` and `plot`; a C compiler).
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import fastbp

ROOT = Path(fastbp.__file__).parent.parent
FOLDER = ROOT / "examples"
PAGE = ROOT / "docs" / "how-to" / "examples.md"
NOTEBOOKS = ("sweep_then_train", "ensemble", "edge_of_stability")
CHAPTER = ROOT / "docs" / "tutorial" / "two-roles.md"  # its notebook lies beside it
PICTURED = {"ensemble": -1, "edge_of_stability": -1}  # which picture of a notebook the page shows
NO_EXAMPLES = ("cart_pole",)  # what others import
MARK = re.compile(r"(<!-- output of (\w+) -->\n```text\n)(.*?)(```\n)", re.DOTALL)


def names() -> list[str]:
    """Of all examples."""
    return sorted({path.stem for path in FOLDER.glob("*.py")} - set(NO_EXAMPLES))


def environment() -> dict[str, str]:
    """Of a process that runs an example: it finds this fastbp, and draws nothing on a screen."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    return {**os.environ, "PYTHONPATH": paths, "MPLBACKEND": "agg"}


def output_of(name: str, folder: Path, *arguments: str) -> str:
    """What an example prints, run within a folder as a user would run it.

    Raises
    ------
    RuntimeError
        It failed, or warned.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", FOLDER / f"{name}.py", *arguments], cwd=folder, env=environment(),
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    if done.returncode or done.stderr:
        raise RuntimeError(f"{name}.py ended with {done.returncode}: {done.stderr[-3000:]}")
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def cells_of(name: str) -> list[tuple[str, str]]:
    """The cells of a script, as ("markdown" or "code", source)."""
    found = []
    for part in (FOLDER / f"{name}.py").read_text(encoding="utf-8").split("# %%")[1:]:
        kind, _, source = part.partition("\n")
        if kind.strip() == "[markdown]":
            lines = (line.removeprefix("#").removeprefix(" ") for line in source.strip().splitlines())
            found.append(("markdown", "\n".join(lines)))
        else:
            found.append(("code", source.strip()))
    return found


def cells_of_page(page: Path) -> list[tuple[str, str]]:
    """The blocks of Python of a page as cells, without what they print, and the text between them."""
    blocks = r"^```python\n(.*?)^```\n(?:\n```text\n.*?^```\n)?"
    parts = re.split(blocks, page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [("code" if k % 2 else "markdown", part.strip()) for k, part in enumerate(parts) if part.strip()]


def executed(name: str, folder: Path) -> Any:
    """The notebook of a script, or of the chapter, with the outputs of its cells."""
    import nbformat
    from nbclient import NotebookClient

    v4 = nbformat.v4
    makers = {"markdown": v4.new_markdown_cell, "code": v4.new_code_cell}
    cells = [
        makers[kind](source, id=f"cell-{k}")
        for k, (kind, source) in enumerate(cells_of_page(CHAPTER) if name == CHAPTER.stem else cells_of(name))
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})
    drawn = {key: value for key, value in environment().items() if key != "MPLBACKEND"}  # within the notebook
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter's own
        client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
        client.execute(env={**drawn, "PYTHONWARNINGS": "default"})
    for cell in notebook.cells:
        cell.metadata.clear()  # when it was run
        if cell.cell_type == "code":
            cell.outputs = _in_one_piece(cell.outputs)
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return notebook


def _in_one_piece(outputs: list[Any]) -> list[Any]:
    """Outputs without the cuts that chance has made in what was printed."""
    found: list[Any] = []
    for one in outputs:
        if one.output_type == "stream" and found and found[-1].get("name") == one.name:
            found[-1].text += one.text
        else:
            found.append(one)
    return found


def text_of(notebook: Any) -> str:
    """All that the cells show as text."""
    shown = [one for cell in notebook["cells"] for one in cell.get("outputs", ())]
    texts = [one["text"] if one["output_type"] == "stream" else one["data"].get("text/plain", "") for one in shown]
    return "\n".join(text if isinstance(text, str) else "".join(text) for text in texts)


def words_of(text: str) -> list[str]:
    """The words of an output: its numbers differ a little from CPU to CPU, times from run to run."""
    return re.findall(r"[A-Za-z]{2,}", text)


def pictures_of(notebook: Any) -> list[bytes]:
    """The pictures that the cells show, PNG."""
    shown = [one for cell in notebook["cells"] for one in cell.get("outputs", ())]
    found = [one["data"]["image/png"] for one in shown if "image/png" in one.get("data", ())]
    return [base64.b64decode(one) for one in found]


def path_of(name: str) -> Path:
    """Where a notebook is kept."""
    return CHAPTER.with_suffix(".ipynb") if name == CHAPTER.stem else FOLDER / f"{name}.ipynb"


def main(chosen: list[str]) -> None:
    """Run some, or all, and write what they say."""
    outputs = {}
    for name in names():
        if name not in chosen:
            continue
        with tempfile.TemporaryDirectory() as folder:
            outputs[name] = output_of(name, Path(folder))
        print(f"== {name}\n{outputs[name]}")
    page = MARK.sub(
        lambda found: found[1] + outputs.get(found[2], found[3]) + found[4], PAGE.read_text(encoding="utf-8")
    )
    PAGE.write_text(page, encoding="utf-8")
    for name in (*NOTEBOOKS, CHAPTER.stem):
        if name not in chosen:
            continue
        with tempfile.TemporaryDirectory() as folder:
            notebook = executed(name, Path(folder))
        text = json.dumps(notebook, indent=1, ensure_ascii=False)
        path_of(name).write_text(text + "\n", encoding="utf-8")
        if name in PICTURED:
            (PAGE.parent / f"{name}.png").write_bytes(pictures_of(notebook)[PICTURED[name]])


if __name__ == "__main__":
    main(sys.argv[1:] or [*names(), CHAPTER.stem])
