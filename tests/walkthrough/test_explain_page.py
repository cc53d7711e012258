"""The page of `fastbp.explain`: what is in it, what is escaped, and how a real browser shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import chromium, resize

import fastbp
from fastbp.walkthrough.web import page

NASTY = 'fastbp explain "</script><script>alert(1)</script>" [[data]] <b>'


def nasty() -> fastbp.Explanation:
    net = fastbp.MLP([40, 3, 2], seed=0)
    net.class_labels = ["<b>no</b>", NASTY]
    return fastbp.explain(net, np.linspace(-1, 1, 40), 1)


def test_the_page_holds_the_numbers_and_escapes_what_is_not_ours() -> None:
    story = nasty()
    text = page(story, NASTY)
    assert "<b>" not in text
    assert "<script>alert" not in text
    assert re.findall(r"\[\[\w+\]\]", text) == ["[[data]]"]  # as it stands in the command
    data = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)[0])
    assert np.array(data["costs"]) == pytest.approx(story.descent.costs, rel=1e-5)  # type: ignore[union-attr]
    assert "+ 32 others" in text
    for stage in story.stages:
        assert text.count(f". {stage.title.replace(chr(39), '&#x27;')}</h2>") == 1
    units, lines = text.count('class="unit'), text.count('class="edge"')
    assert (units, lines) == (8 + 3 + 2, 8 * 3 + 3 * 2)


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser that shows the small network, and knows where another page is."""
    folder = tmp_path_factory.mktemp("browser")
    with chromium(folder / "profile") as browser:
        fastbp.explain().to_html(folder / "page.html", command=NASTY)
        browser.get((folder / "page.html").as_uri())
        yield browser


def text(chrome: Any, name: str) -> str:
    found: str = chrome.find_element("id", name).text
    return found


def test_the_slider_shows_the_descent(chrome: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    assert text(chrome, "verdict").startswith("At 0.01 it comes down. J is 0.49 before, 0.15022 after one step")
    slider = chrome.find_element("id", "rate")
    assert slider.accessible_name == "Learning rate"
    before = chrome.find_element("css selector", "#steps .run").get_attribute("d")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert text(chrome, "rate-shown") == "0.012589"
    assert slider.get_attribute("aria-valuetext") == "0.012589: comes down"
    assert chrome.find_element("css selector", "#steps .run").get_attribute("d") != before
    slider.send_keys(Keys.HOME)
    assert "crawls" in text(chrome, "verdict")
    slider.send_keys(Keys.END)
    assert "climbs" in text(chrome, "verdict")
    slider.send_keys(*[Keys.ARROW_LEFT] * 20)
    assert text(chrome, "rate-shown") == "0.01"


def test_units_and_lines_tell_their_numbers_to_the_keyboard(chrome: Any) -> None:
    edges = chrome.find_elements("css selector", "g.edge[tabindex='0']")
    assert len(edges) == 6
    chrome.execute_script("arguments[0].focus()", edges[2])
    assert text(chrome, "told") == (
        "x2 to h1: weight 0.3, gradient 2 * 1.4 = 2.8; one step at the learning rate 0.01 makes it 0.272."
    )
    unit = chrome.find_elements("css selector", "g.unit")[2]
    assert "h1: z = 2, a = relu(z) = 2" in unit.accessible_name
    gradients = chrome.find_elements("css selector", "#shown button")[1]
    gradients.click()
    assert gradients.get_attribute("aria-pressed") == "true"
    assert "gradients" in chrome.find_element("css selector", "svg.network").get_attribute("class").split()


CONTRAST = """
const light = (text) => {
  const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const parts = text.match(/[\\d.]+/g).slice(0, 3).map((one) => linear(one / 255));
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
};
const ground = (element) => {
  for (; element; element = element.parentElement) {
    const found = getComputedStyle(element).backgroundColor;
    if (found && !found.endsWith(", 0)") && found !== "transparent") return found;
  }
};
const poor = [];
for (const element of document.querySelectorAll("main *")) {
  const own = [...element.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
  if (!own || !element.getClientRects().length) continue;
  const style = getComputedStyle(element), ink = element.closest("svg") ? style.fill : style.color;
  const [a, b] = [light(ink), light(ground(element))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) poor.push([element.tagName, element.textContent.slice(0, 30), ratio]);
}
return poor;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_can_be_read_at_any_width(chrome: Any, width: int, scheme: str) -> None:
    resize(chrome, width, 900, scheme)
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= width
    assert chrome.execute_script(CONTRAST) == []
    assert chrome.execute_script("return performance.getEntriesByType('resource').map(e => e.name)") == []
    assert [entry for entry in chrome.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_without_a_descent_there_is_no_slider(chrome: Any, tmp_path: Path) -> None:
    """Of a network that has grown without bound."""
    net = fastbp.MLP([2, 2, 1], loss="mse", dtype="float64", seed=0)
    net.set_weights([np.full((2, 2), 1e300), np.full((2, 1), 1e300)], [[0.0, 0.0], [0.0]])
    fastbp.explain(net, [1.0, 2.0], 1.0).to_html(tmp_path / "page.html")
    chrome.get((tmp_path / "page.html").as_uri())
    assert not chrome.find_element("id", "rate").is_displayed()
    assert "inf" in chrome.find_element("css selector", ".stage table").find_element("xpath", "//main").text
    assert [entry for entry in chrome.get_log("browser") if entry["level"] == "SEVERE"] == []
