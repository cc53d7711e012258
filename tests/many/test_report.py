"""The page of a sweep: what is in it, what is escaped, and how a real browser shows it."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import chromium, resize

import fastbp
from fastbp.many import report

NASTY = 'fastbp sweep "</script><script>alert(1)</script>.npz" [[plotly]] & <b>'
CHARTS = ("curve", "losses", "best", "times")
SCRIPT = "/* the charting library */"


def data() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((240, 4))
    return X, (X @ rng.standard_normal((4, 3))).argmax(axis=1)


def sweep(**options: Any) -> fastbp.LrSweep:
    net = fastbp.MLP([4, 8, 3], seed=0)
    return fastbp.lr_sweep(net, *data(), **({"seeds": 2, "epochs": 3, "optimizer": "sgd"} | options))


@pytest.fixture(scope="module")
def result() -> fastbp.LrSweep:
    """Good rates, poor ones, and some that diverge."""
    return sweep(learning_rates=np.geomspace(1e-3, 1e5, 9))


def table(page: str) -> list[list[str]]:
    """What the cells of the table are sorted by."""
    return [re.findall(r'<td[^>]* data-value="([^"]*)"', row) for row in re.findall(r"<tr class=.*?</tr>", page)]


def test_the_page_holds_the_result(result: fastbp.LrSweep) -> None:
    page = report.page(result, SCRIPT, 0.5, NASTY)
    assert re.findall(r"\[\[\w+\]\]", page) == ["[[plotly]]"]  # as it stands in the command
    assert result.diverged.any()
    assert f'<div class="value">{result.recommended_lr:.3g}</div>' in page
    for note in result.notes:
        assert note in page
    cells = table(page)
    assert [float(row[0]) for row in cells] == result.learning_rates.tolist()
    assert [float(row[1]) if row[1] else math.nan for row in cells] == pytest.approx(result.mean_val_loss, nan_ok=True)
    assert ["diverged" in row[-1] for row in cells] == result.diverged.any(axis=1).tolist()
    assert f"fastbp {fastbp.__version__}" in page
    assert page.count(SCRIPT) == 1


@pytest.mark.filterwarnings("ignore:the best learning rate:UserWarning")
def test_the_metric_that_rates_are_compared_by_is_there() -> None:
    found = sweep(learning_rates=np.geomspace(1e-3, 1, 4), metric="accuracy")
    page = report.page(found, SCRIPT, None, None)
    assert '<div class="name">its accuracy</div>' in page
    assert "the best, by accuracy." in page
    assert [float(row[1]) for row in table(page)] == pytest.approx(found.mean_metric)
    assert [float(row[3]) for row in table(page)] == pytest.approx(found.mean_val_loss)
    assert "<h2>Accuracy by learning rate</h2>" in page
    assert f"highest near {found.best_lr:.3g}" in page
    view = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert view["validation"] == pytest.approx(found.mean_metric, rel=1e-5)
    assert view["training"] == [None] * 4
    assert [run["loss"] for run in view["runs"]] == pytest.approx(found.final_metric.ravel(), rel=1e-5)
    assert "accuracy" not in report.page(sweep(learning_rates=[0.1]), SCRIPT, None, None).partition("<main>")[2]


def test_all_text_is_escaped(result: fastbp.LrSweep) -> None:
    page = report.page(result, SCRIPT, None, NASTY)
    assert "alert(1)</script>" not in page
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page
    # Names that users give reach the page through the description of a network or a schedule.
    result = sweep(learning_rates=[0.1])
    result.about["network"] = result.about["schedule"] = NASTY
    page = report.page(result, SCRIPT, None, None)
    assert page.count("alert(1)") == page.count("&lt;/script&gt;&lt;script&gt;alert(1)") == 2
    assert "Stability line" not in page


def test_the_data_are_strict_json(result: fastbp.LrSweep) -> None:
    page = report.page(result, SCRIPT, 0.5, None)
    text = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)[0]
    view = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert view["learning_rates"] == result.learning_rates.tolist()
    assert view["stability"] == 0.5
    assert [x is None for x in view["validation"]] == np.isnan(result.mean_val_loss).tolist()
    assert len(view["runs"]) == result.status.size


EVERY_KIND = pytest.mark.parametrize(
    "options",
    [
        {"learning_rates": [0.1], "seeds": 1, "epochs": 1},
        {"learning_rates": [1e6, 1e7]},  # all diverge
        {"learning_rates": np.geomspace(1e-3, 1, 9), "halving": 3, "target_loss": 0.9},
    ],
    ids=["one", "none", "halving"],
)


@EVERY_KIND
@pytest.mark.filterwarnings("ignore:the best learning rate:UserWarning")
def test_every_kind_of_sweep_has_a_page(options: dict[str, Any]) -> None:
    result = sweep(**options)
    page = report.page(result, SCRIPT, None, None)
    assert "nan" not in page.partition("<body>")[2].partition("<script>")[0].replace("alternance", "")
    assert ("eliminated after epoch" in page) == bool(result.eliminated.any())
    assert ("no rate has finished" in page) == (result.best_lr is None)


def test_the_stability_line_is_checked(result: fastbp.LrSweep, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"stability must be .*-1"):
        result.report(tmp_path / "page.html", stability=-1.0)
    assert not list(tmp_path.iterdir())
    found = fastbp.lr_stability(fastbp.MLP([4, 8, 3], seed=0), *data(), optimizer="sgd")
    assert report.stability_line(found) == found.lines[0]


def test_without_plotly_the_extra_is_named(result: fastbp.LrSweep, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r"fastbp\[report\]"):
        result.report(tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory, result: fastbp.LrSweep) -> Iterator[Any]:
    """A browser that shows the page."""
    folder = tmp_path_factory.mktemp("browser")
    with chromium(folder / "profile") as browser:
        result.report(folder / "page.html", stability=0.5, command=NASTY)
        browser.get((folder / "page.html").as_uri())
        yield browser


def column(chrome: Any, number: int) -> list[str]:
    script = "return [...document.querySelectorAll('#rates tbody tr')].map(r => r.cells[arguments[0]].dataset.value)"
    found: list[str] = chrome.execute_script(script, number)
    return found


def traces(chrome: Any, chart: str) -> int:
    found: int = chrome.execute_script(f"return document.querySelectorAll('#{chart} .scatterlayer .trace').length")
    return found


def test_the_browser_draws_all_charts_and_asks_for_nothing(chrome: Any, result: fastbp.LrSweep) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(chrome, 60).until(lambda _: all(traces(chrome, name) for name in CHARTS))
    assert traces(chrome, "losses") >= len(result.learning_rates)
    # The page came from a file; whatever else it had loaded would be listed here.
    assert chrome.execute_script("return performance.getEntriesByType('resource').map(e => e.name)") == []
    assert chrome.find_element("css selector", "footer pre").text == NASTY
    assert [entry for entry in chrome.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_the_pointer_is_told_what_it_is_over(chrome: Any, result: fastbp.LrSweep) -> None:
    number = chrome.execute_script(
        "const found = document.getElementById('curve').data.findIndex(t => t.name === 'validation');"
        "Plotly.Fx.hover('curve', [{curveNumber: found, pointNumber: 1}]); return found;"
    )
    assert number >= 0
    text = chrome.execute_script("return document.querySelector('#curve .hoverlayer').textContent")
    assert f"lr {result.learning_rates[1]:.3g}" in text
    assert f"{result.mean_val_loss[1]:.4g}" in text


def test_a_click_on_a_heading_sorts_by_value(chrome: Any) -> None:
    heads = chrome.find_elements("css selector", "#rates th button")
    for number in (0, 1):  # rates from 0.001 to 100000: as text they would be in another order
        values = column(chrome, number)
        for order in (1, -1):
            heads[number].click()
            shown = column(chrome, number)
            first = chrome.execute_script(f"return document.querySelectorAll('#rates th')[{number}].ariaSort")
            order = 1 if first == "ascending" else -1
            known = sorted((value for value in values if value), key=float)[::order]
            assert shown == known + [""] * values.count("")


def test_the_switches_change_the_axes(chrome: Any) -> None:
    for chart, axis in (("curve", "xaxis"), ("curve", "yaxis"), ("best", "yaxis"), ("times", "xaxis")):
        before = chrome.execute_script(f"return document.getElementById('{chart}').layout.{axis}.type")
        assert before == "log"
        button = chrome.find_element("css selector", f".switches[data-chart={chart}] [data-key={axis[0]}]")
        chrome.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()
        assert chrome.execute_script(f"return document.getElementById('{chart}').layout.{axis}.type") == "linear"
        assert button.get_attribute("aria-pressed") == "false"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_the_screen(chrome: Any, width: int, scheme: str) -> None:
    resize(chrome, width, 844, scheme)
    chrome.refresh()
    size = "return [document.documentElement.scrollWidth, window.innerWidth]"
    assert chrome.execute_script(size) == [width, width]
    back = chrome.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", back)[:3])) < 200) == (scheme == "dark")
    for name in CHARTS:
        drawn = chrome.execute_script(
            f"return document.querySelector('#{name} .main-svg').getBoundingClientRect().width"
        )
        assert 0.5 * min(width, 900) < drawn <= width
    assert [entry for entry in chrome.get_log("browser") if entry["level"] == "SEVERE"] == []


@EVERY_KIND
@pytest.mark.filterwarnings("ignore:the best learning rate:UserWarning")
def test_every_kind_of_page_is_drawn(chrome: Any, options: dict[str, Any], tmp_path: Path) -> None:
    chrome.get_log("browser")
    path = tmp_path / "page.html"
    found = sweep(**options)
    if found.best_lr is None:
        found.status[:] = "open"  # as after an early Ctrl-C: nothing is known at all
        found.val_loss[:] = found.train_loss[:] = np.nan
        found.seconds[:] = found.epochs_done[:] = 0
    found.report(path)
    chrome.get(path.as_uri())
    for name in CHARTS:
        assert chrome.execute_script(f"return document.querySelector('#{name} .main-svg') !== null")
    for button in chrome.find_elements("css selector", ".switches button"):
        chrome.execute_script("arguments[0].click()", button)
    assert [entry for entry in chrome.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_a_fault_of_a_script_would_be_seen(chrome: Any, tmp_path: Path) -> None:
    """That the tests above can fail."""
    path = tmp_path / "page.html"
    path.write_text("<script>missing.name</script>", encoding="utf-8")
    chrome.get(path.as_uri())
    assert "SEVERE" in [entry["level"] for entry in chrome.get_log("browser")]
