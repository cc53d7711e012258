"""A notebook as a user would run it: executed by Jupyter, and looked at in a browser, in its light and dark theme."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, resize
from peers import needs_heavy

pytestmark = needs_heavy("nbclient", "nbconvert", "nbformat", "ipykernel", "ipywidgets")

NASTY = "<b>price</b> & more"
CELLS = {
    "begin": "import fastbp, numpy as np\nX, y = fastbp.datasets.load_digits()\nnet = fastbp.MLP([64, 32, 10], seed=0)",
    "net": "net",
    "fit": "net.fit(X, y, epochs=200, validation_split=0.1, progress=True)",
    "plot": "net.history.plot()",
    "assigned": "figure = net.history.plot()",
    "pyplot": "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.close()\nnet.history.plot()",
    "sweep": "fastbp.lr_sweep(net, X[:300], y[:300], [0.003, 0.01, 10.0], seeds=2, epochs=2, progress=True)",
    "range": "fastbp.lr_range_test(net, X, y, n_steps=40, progress=True)",
    "stability": "fastbp.lr_stability(net, X[:100], y[:100], epochs=1)",
    "table": f"import polars\nframe = polars.DataFrame({{{NASTY!r}: y * 1.5, 'a': X[:, 20], 'b': X[:, 30]}})\n"
    f"fastbp.TableModel(seed=0, training={{'epochs': 3}}).fit(frame, target={NASTY!r}, test_fraction=0.2)",
}
WITHOUT_WIDGETS = "import sys\nsys.modules['ipywidgets'] = None\n"


def executed(*, widgets: bool, folder: Path) -> Any:
    """The notebook of the cells above, with its outputs."""
    import nbformat
    from nbclient import NotebookClient

    cells = dict(CELLS)
    if not widgets:
        cells["begin"] = WITHOUT_WIDGETS + cells["begin"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in cells.values()])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "default"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Jupyter's own
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute(env=environment)
    return notebook


def outputs(notebook: Any, name: str) -> list[Any]:
    found: list[Any] = notebook.cells[list(CELLS).index(name)].outputs
    return found


@pytest.fixture(scope="module", params=[True, False], ids=["widgets", "without"])
def notebook(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return executed(widgets=request.param, folder=tmp_path_factory.mktemp("notebook"))


def test_nothing_is_printed_and_nothing_warned_of(notebook: Any) -> None:
    streams = [one for cell in notebook.cells for one in cell.outputs if one.output_type in ("stream", "error")]
    assert streams == []


def test_what_cells_show(notebook: Any) -> None:
    for name in ("net", "stability", "table"):
        (shown,) = outputs(notebook, name)
        assert "<table" in shown.data["text/html"]
    for name in ("fit", "sweep", "range"):
        bar, shown = outputs(notebook, name)
        assert ("<progress" in bar.data["text/html"]) == (name != "range")  # whose bar is gone when it has ended
        assert "<table" in shown.data["text/html"]
        assert shown.data["text/html"].count("<img") == 1
    assert len(outputs(notebook, "fit")[1].data["text/plain"]) < 250
    assert "epoch 200/200" in outputs(notebook, "fit")[0].data["text/plain"]
    assert outputs(notebook, "assigned") == []


def test_a_picture_is_shown_once_with_pyplot_and_without(notebook: Any) -> None:
    for name in ("plot", "pyplot"):
        (shown,) = outputs(notebook, name)
        assert sorted(shown.data) == ["image/png", "text/plain"]
        assert "<Figure" not in shown.data["text/plain"]


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


# Contrast of text with what is behind it (WCAG 2), the least of all; and how wide tables and pictures are.
LOOK = """
const channel = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const numbers = text => (text.match(/[\\d.]+/g) || []).map(Number);
const light = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
const behind = e => {
  for (; e; e = e.parentElement) {
    const c = numbers(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > 0.5) return c;
  }
  return [255, 255, 255];
};
const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
const shown = [...document.querySelectorAll('.jp-RenderedHTMLCommon')].filter(e => e.querySelector('table'));
const words = shown.flatMap(e => [...e.querySelectorAll('th, td, div')]).filter(e => e.innerText.trim());
return {
  tables: shown.length,
  contrast: Math.min(...words.map(e => ratio(light(numbers(getComputedStyle(e).color)), light(behind(e))))),
  pictures: [...document.querySelectorAll('.jp-OutputArea img')].map(e => e.complete && e.naturalWidth > 300),
  widest: Math.max(...[...document.querySelectorAll('.jp-OutputArea table, .jp-OutputArea img')]
    .map(e => e.getBoundingClientRect().right)),
  bold: document.querySelectorAll('.jp-RenderedHTMLCommon b').length,
};
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_browser_shows_it(notebook: Any, chrome: Any, theme: str, tmp_path: Path) -> None:
    from nbconvert import HTMLExporter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text, _ = HTMLExporter(theme=theme, embed_images=True).from_notebook_node(notebook)
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    resize(chrome, 1000, 800, theme)
    chrome.get((tmp_path / "page.html").as_uri())
    if folder := os.environ.get("FASTBP_KEEP_PAGES"):  # to look at by eye
        resize(chrome, 1000, 6000, theme)
        chrome.save_screenshot(f"{folder}/notebook-{theme}.png")
        resize(chrome, 1000, 800, theme)
    found = chrome.execute_script(LOOK)
    assert found["tables"] == 6
    assert found["contrast"] > 4.5
    assert found["pictures"] == [True] * 7
    assert found["widest"] <= 1000
    assert found["bold"] == 0, "the name of a column became markup"
