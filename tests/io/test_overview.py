"""What results show of themselves: short in a terminal, and in a notebook a small table with one picture, escaped."""

from __future__ import annotations

import base64
import re
import sys
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

import fastbp
from fastbp.history import History
from fastbp.io.overview import Overview

NASTY = 'a</td><script>alert("x")</script>&'
VOID = {"img", "br"}


class Page(HTMLParser):
    """Tags and text of a page; every tag must be closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.pictures: list[bytes] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.pictures.append(base64.b64decode(str(dict(attrs)["src"]).removeprefix("data:image/png;base64,")))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def data() -> tuple[Any, Any]:
    y = np.arange(90) % 3
    return (np.random.default_rng(0).standard_normal((90, 4)) + y[:, None]).astype(np.float32), y


def table_model() -> fastbp.TableModel:
    polars = pytest.importorskip("polars")
    X, y = data()
    frame = polars.DataFrame({NASTY: X[:, 0], "b": X[:, 1], "kind": np.array([NASTY, "middle", "other"])[y]})
    return fastbp.TableModel(seed=0, training={"epochs": 3}).fit(frame, target="kind", test_fraction=0.2)


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    X, y = data()
    net = fastbp.MLP([4, 8, 3], seed=0)
    found: dict[str, Any] = {"history": net.fit(X, y, epochs=12, validation_split=0.3), "net": net}
    found["sweep"] = fastbp.lr_sweep(net, X, y, [0.01, 0.1, 10.0], seeds=2, epochs=2)
    found["range test"] = fastbp.lr_range_test(net, X, y, n_steps=40)
    found["stability"] = fastbp.lr_stability(net, X, y, epochs=1)
    found["table"] = table_model()
    return found


KINDS = ("history", "net", "sweep", "range test", "stability", "table")


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_shows_a_small_table_and_one_picture(kind: str, results: dict[str, Any]) -> None:
    page = Page(results[kind]._repr_html_())
    assert page.tags.count("table") == 1
    assert page.tags.count("tr") <= 9
    assert [one[:4] for one in page.pictures] == [b"\x89PNG"] * (kind != "net")
    assert "script" not in page.tags
    assert "color:#" not in results[kind]._repr_html_().replace("background-color", ""), "text of the page's own colour"


@pytest.mark.parametrize("kind", KINDS)
def test_a_terminal_shows_one_line(kind: str, results: dict[str, Any]) -> None:
    shown = repr(results[kind])
    assert shown.startswith("<fastbp.")
    assert "\n" not in shown
    assert len(shown) < 250


@pytest.mark.parametrize("kind", ["history", "range test", "stability"])
def test_print_shows_a_table_of_80_columns(kind: str, results: dict[str, Any]) -> None:
    lines = str(results[kind]).splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 80


def test_without_matplotlib_there_is_the_table_alone(results: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    page = Page(results["history"]._repr_html_())
    assert page.tags.count("table") == 1
    assert page.pictures == []


def test_names_are_escaped(results: dict[str, Any]) -> None:
    shown = table_model()._repr_html_()
    assert NASTY not in shown
    assert any(NASTY in text for text in Page(shown).text)
    page = Page(Overview(NASTY, [NASTY], [[NASTY]], [NASTY]).html())
    assert page.text == [NASTY] * 4


def test_a_picture_is_shown_once(results: dict[str, Any]) -> None:
    figure = results["history"].plot()
    bundle = figure._repr_mimebundle_()
    assert bundle["image/png"][:4] == b"\x89PNG"
    assert "<Figure" not in bundle["text/plain"]
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()  # which would show it a second time


def test_a_long_history_has_a_short_table_with_its_best_epoch() -> None:
    losses = [1.0 / k + 0.01 * (k > 40) for k in range(1, 1001)]
    history = History("accuracy", loss=losses, val_loss=[abs(k - 123.0) for k in range(1, 1001)],
                      val_score=[0.5] * 1000, lr=[0.1] * 1000, seconds=[0.001] * 1000, stop_reason="why")  # fmt: skip
    text = str(history)
    epochs = [int(line.split()[0]) for line in text.splitlines() if re.match(r" *\d+ ", line) and "in 1 s" not in line]
    assert epochs[0] == 1
    assert epochs[-1] == 1000
    assert 123 in epochs
    assert len(epochs) <= 7
    assert text.splitlines()[-1] == "why"
    assert history.best_epoch == 123
    assert history.row(2) == {
        "epoch": 2, "loss": 0.5, "val_loss": 121.0, "val_accuracy": 0.5, "lr": 0.1, "seconds": 0.001,
    }  # fmt: skip


def test_histories_without_anything() -> None:
    empty = History("r2")
    assert (repr(empty), str(empty), empty.best_epoch) == ("<fastbp.History, 0 epochs>", "0 epochs in 0 s", None)
    nan = History("r2", loss=[float("nan")], lr=[0.1], seconds=[1.0])
    assert nan.best_epoch is None
    assert Page(nan._repr_html_()).pictures == []
