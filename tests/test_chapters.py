"""The chapters that are run: their code prints what stands there, which is true; their figures are fresh."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp.cli.bench import bench

DOCS = Path(__file__).resolve().parent.parent / "docs"
CHAPTERS = ["two_roles", "how_it_is_fast"]  # modules of docs/figures


@pytest.fixture(scope="module")
def tools() -> Iterator[dict[str, ModuleType]]:
    """The modules of docs/figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS / "figures"))
        import drawing
        import how_it_is_fast
        import pages
        import two_roles

        yield {"drawing": drawing, "pages": pages, "two_roles": two_roles, "how_it_is_fast": how_it_is_fast}


@pytest.fixture(scope="module")
def chapters(tools: dict[str, ModuleType]) -> dict[str, tuple[str, dict[str, Any], list[str]]]:
    """By the module that fills it: a page, the names that its code leaves behind, and what its blocks printed."""
    texts = {name: tools[name].PAGE.read_text(encoding="utf-8") for name in CHAPTERS}
    return {name: (page, *tools["pages"].run(page, f"{name}.md")) for name, page in texts.items()}


@pytest.fixture
def names(chapters: Any) -> dict[str, Any]:
    """Those of the chapter about the two roles."""
    found: dict[str, Any] = chapters["two_roles"][1]
    return found


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_outputs_on_the_page_are_those_of_its_code(name: str, tools: dict[str, ModuleType], chapters: Any) -> None:
    page, _, printed = chapters[name]
    assert len(printed) == page.count("```python") > 5
    assert all(printed), "each block is a claim, and prints it"
    assert tools["pages"].filled(page, printed) == page, f"run python docs/figures/{name}.py"
    assert tools["pages"].filled(page.replace(printed[0], "something else\n"), printed) == page


def test_the_notebook_is_the_chapter(tools: dict[str, ModuleType], chapters: Any) -> None:
    page, _, printed = chapters["two_roles"]
    notebook = json.loads((DOCS / "tutorial" / "two-roles.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    blocks = [found[1].strip() for found in tools["pages"].PYTHON.finditer(page)]
    assert ["".join(cell["source"]) for cell in cells] == blocks, "run python benchmarks/examples.py"
    assert ["".join(one["text"]) for cell in cells for one in cell["outputs"]] == printed


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_figures_show_the_numbers_of_the_page(name: str, tools: dict[str, ModuleType], chapters: Any) -> None:
    page, names, _ = chapters[name]
    drawing = tools["drawing"]
    shown = tools[name].data(*([names] if name == "two_roles" else []))
    pictures = {figure: text for text, figure in re.findall(r"!\[([^\]]+)\]\(\.\./figures/([\w-]+)\.svg\)", page)}
    assert set(shown) <= set(pictures)
    assert all((DOCS / "figures" / f"{figure}.svg").exists() for figure in pictures)
    assert all(len(text.split()) > 8 for text in pictures.values()), "a text in the place of each picture"
    for figure, numbers in shown.items():
        old, new = flat(drawing.data_of(figure)), flat(drawing.rounded(numbers))
        assert old == pytest.approx(new, rel=1e-3, abs=1e-9), f"run python docs/figures/{name}.py"


def test_the_commands_that_make_pages_are_there() -> None:
    pages = [DOCS.parent / "CONTRIBUTING.md", *DOCS.glob("*/*.md")]
    named = {
        path for page in pages for path in re.findall(r"python ((?:docs|benchmarks)/\S+?\.py)", page.read_text("utf-8"))
    }
    assert len(named) > 9
    assert not [path for path in named if not (DOCS.parent / path).exists()]


def test_the_roofline_is_a_command() -> None:
    page = (DOCS / "explanation" / "how-it-is-fast.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^fastbp bench (.*)$", page, flags=re.MULTILINE)
    parsed = bench.make_context("bench", shlex.split(line)).params
    assert parsed["profile"]
    assert parsed["plot_path"] == Path("roofline.png")


def flat(data: Any, at: str = "") -> dict[str, float]:
    """All numbers by the way to them."""
    if isinstance(data, float):
        return {at: data}
    pairs = data.items() if isinstance(data, dict) else enumerate(data)
    return {key: value for name, one in pairs for key, value in flat(one, f"{at}/{name}").items()}


def test_what_the_chapter_says_of_the_gradient(names: dict[str, Any]) -> None:
    assert names["by_backprop"] == pytest.approx(2.8, rel=1e-12)
    assert names["by_difference"] == pytest.approx(2.8, rel=1e-7)
    assert names["updated"].weights[0][1, 0] == names["stepped"].weights[0][1, 0] == pytest.approx(0.272, rel=1e-12)
    assert names["moved"](names["downhill"]) < min(names["others"])
    assert max(names["others"]) < names["moved"](-names["downhill"])


def test_what_the_chapter_says_of_the_step_size(names: dict[str, Any]) -> None:
    for alpha, path in names["curve"].items():
        distance = np.array([w for w, _ in path]) + 0.65
        np.testing.assert_allclose(distance[1:], (1 - 8 * alpha) * distance[:-1], atol=1e-12)
    assert names["walk"](0.125, 1)[-1][1] == pytest.approx(0.0, abs=1e-24)
    assert [np.sign(np.diff([J for _, J in names["walk"](alpha)])).sum() for alpha in (0.249, 0.251)] == [-8, 8]
    hessian = np.mean([2 * np.outer(h, h) for h in np.maximum(names["X"] @ names["W"], 0)], axis=0)
    flat_way, steep_way = np.linalg.eigvalsh(hessian)
    assert 4.0 < steep_way / flat_way < 4.1
    assert 0.29 < 2 / steep_way < 0.32
    for alpha, path in names["surface"].items():
        np.testing.assert_allclose(np.linalg.norm(np.diff(path[:, :2], axis=0), axis=1), alpha * path[:-1, 3])


def test_what_the_chapter_says_of_flat_places(names: dict[str, Any]) -> None:
    assert names["stand"](0.0, 0.0) == (1.0, [0.0, 0.0, 0.0, 0.0])
    assert names["stand"](0.5, 0.5)[0] < 1.0 < names["stand"](0.5, -0.5)[0]
    off, X, Y = names["off"], names["X"], names["Y"]
    assert not np.any(off.backprop(X, Y).weights[0])
    assert off.forward(X).ravel() == pytest.approx(float(np.mean(Y)))
    assert names["larger"].evaluate(X, Y)["loss"] < 1e-9 < names["trained"].evaluate(X, Y)["loss"]
    off.set_weights([[[1, -1], [1, -1]], [[0.5], [1 / 3]]], [[-1, 0], [0]])  # there is a way to 0 for it too
    assert off.evaluate(X, Y)["loss"] == pytest.approx(0.0, abs=1e-30)
    constant, following = names["runs"]["constant"], names["runs"]["follows the cost"]
    assert constant.loss[-1] > 1e9
    assert following.loss[-1] < 1e-3
    assert following.lr[-1] < following.lr[0] == constant.lr[-1]
    assert isinstance(names["reader"], fastbp.MLP)
    assert names["reader"].evaluate(names["test"], names["y_test"])["accuracy"] > 0.93
