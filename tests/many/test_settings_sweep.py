"""Sweeps over several settings: what they advise on scores whose answer is known, and their pages."""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import chromium, resize

import fastbp
from fastbp.history import History
from fastbp.many import report, sweep_page
from fastbp.many.points import Grid
from fastbp.many.statistics import student

RATES = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
NASTY = "</script><b>"


def made(over: dict[str, list[Any]], scores: Any, **options: Any) -> fastbp.Sweep:
    """A sweep over a grid with these scores, ``(points, seeds)``."""
    configs = [dict(zip(over, one, strict=True)) for one in itertools.product(*over.values())]
    scores = np.asarray(scores, float)
    history = History("accuracy", loss=[2.0, 1.0], val_loss=[2.0, 1.5], seconds=[0.1, 0.1])
    histories: Any = [[history] * scores.shape[1] for _ in configs]
    status = np.where(np.isfinite(scores), "finished", "diverged")
    fields = {"metric": "loss", "larger": False} | options
    return fastbp.Sweep(configs, list(range(scores.shape[1])), scores, histories=histories, status=status, **fields)


def noisy(means: Any, own: float = 0.01, shared: float = 0.3) -> Any:
    """Five seeds that differ much, and points that differ little with each of them."""
    rng = np.random.default_rng(0)
    means = np.asarray(means, float)
    return means[:, None] * np.exp(rng.normal(0, own, (len(means), 5)) + rng.normal(0, shared, 5))


def test_a_lucky_point_does_not_win_and_words_have_no_neighbours() -> None:
    """Along the rate a point among poor ones is luck; of optimisers each stands for itself."""
    by_rate = [3.0, 0.9, 3.0, 1.0, 1.0]
    found = made({"lr": RATES, "optimizer": ["sgd", "adam"]}, noisy(np.repeat(by_rate, 2)))
    assert found.top_index in (2, 3)
    assert found.best is not None
    assert found.best["lr"] in (3e-2, 1e-1)
    assert any("has the best mean" in note and "neighbours do not bear it out" in note for note in found.notes)
    words = made({"optimizer": ["sgd", "adam", "rmsprop", "lion", "nadam"]}, noisy(by_rate))
    assert words.best == {"optimizer": "adam"}
    assert not any("bear it out" in note for note in words.notes)


def test_smoothing_by_hand() -> None:
    """A quarter of the way to its neighbours along each of two axes; the end of an axis has no neighbours along it."""
    scores = np.arange(9.0).reshape(9, 1) ** 2 + 1.0
    found = made({"lr": [0.01, 0.02, 0.04], "batch_size": [16, 32, 64]}, np.repeat(scores, 2, axis=1))
    logs = np.log(scores[:, 0]).reshape(3, 3)
    smooth = logs.copy()
    smooth[1] += 0.25 * (0.5 * (logs[0] + logs[2]) - logs[1])
    smooth[:, 1] += 0.25 * (0.5 * (logs[:, 0] + logs[:, 2]) - logs[:, 1])
    np.testing.assert_allclose(found.difference, (smooth - smooth[0, 0]).ravel(), atol=1e-12)
    far = made({"lr": [0.001, 0.01, 0.1]}, noisy([1.0, 3.0, 1.0]))  # a decade away says nothing
    assert far.difference[1] == pytest.approx(math.log(3.0), abs=0.05)
    assert Grid.of([{"l2": one} for one in (0.0, 0.1, 0.2, 0.3, 0.4)]).pairs(1) == {0: (0, 2)}  # a quarter of the range
    assert Grid.of([{"l2": one} for one in (0.0, 0.1, 0.2)]).pairs(1) == {}


def test_differences_are_paired_by_seed() -> None:
    scores = noisy([1.0, 1.02, 1.5])
    found = made({"activation": ["relu", "tanh", "elu"]}, scores)
    means = scores.mean(axis=1)
    parts = scores[1] / means[1] - scores[0] / means[0]
    difference = math.log(means[1] / means[0])
    error = parts.std(ddof=1) / math.sqrt(5)
    assert found.difference[1] == pytest.approx(difference)
    assert found.difference_error[1] == pytest.approx(error)
    assert found.as_good.tolist() == [True, difference <= student(4) * error, False]
    assert found.error[1] > 3 * found.difference_error[1] * means[1]  # unpaired, all would be as good
    assert "+50 %" in str(found) or "+49 %" in str(found) or "+51 %" in str(found)
    # Accuracy has no logarithm: differences are in its units, and a smaller one is worse.
    other = made({"activation": ["relu", "tanh"]}, [[0.5, 0.6], [0.8, 0.9]], metric="accuracy", larger=True)
    assert other.best == {"activation": "tanh"}
    assert other.difference.tolist() == pytest.approx([0.3, 0.0])
    assert "-0.3" in str(other)
    assert json.loads(json.dumps(other.document()["points"]))[0]["difference"] == pytest.approx(0.3)


def test_the_end_of_an_axis_and_divergence_are_said() -> None:
    rising = noisy(np.repeat([5.0, 4.0, 3.0, 2.0, 1.0], 2))
    found = made({"lr": RATES, "l2": [0.0, 0.1]}, rising)
    assert [note for note in found.notes if "extend" in note] == [
        "the best lr, 0.1, is the highest of those swept: extend the sweep upwards"
    ]
    flat = made({"lr": RATES}, noisy([1.0] * 5, own=0.0))
    assert flat.as_good.all()
    assert not any("extend" in note for note in flat.notes)
    bowl = noisy(np.array([5.0, 3.0, 1.0, 1.1, 9.0]))
    bowl[3, 2] = np.nan
    found = made({"lr": RATES}, bowl)
    assert found.best == {"lr": 1e-2}
    assert "next to the best, at lr 0.03, 1 of 5 runs diverge: a lr below 0.01 is safer" in found.notes
    assert not found.as_good[3]
    nothing = made({"lr": RATES}, np.full((5, 2), np.nan))
    assert nothing.best is nothing.best_net is None
    assert "no point has finished" in nothing.notes[0]
    assert "no point has finished" in sweep_page.page(nothing, "")


def test_the_map_is_of_two_settings_with_the_best_of_the_others() -> None:
    scores = noisy([4.0, 3.0, 2.0, 1.0, 5.0, 6.0, 7.0, 8.0], own=0.0, shared=0.0)
    over: dict[str, list[Any]] = {"lr": [0.1, 0.2], "dtype": ["float32"], "hidden": [(8,), (4, 4)], "l2": [0.0, 0.1]}
    heat = made(over, scores).heat_map
    assert heat is not None
    assert heat.names == ("lr", "hidden")
    assert heat.columns == ["8", "4-4"]
    assert heat.losses.tolist() == [[3.0, 1.0], [5.0, 7.0]]
    assert heat.chosen == (0, 1)
    assert made({"lr": RATES}, noisy([1.0] * 5)).heat_map is None
    larger = made({"lr": [0.1, 0.2], "l2": [0.0, 0.1]}, scores[4:], metric="r2", larger=True).heat_map
    assert larger is not None
    assert larger.chosen == (1, 1)
    assert larger.draw().axes[0].images[0].get_cmap().name == "viridis"


def test_a_single_seed_has_no_error() -> None:
    found = made({"lr": RATES}, [[1.0], [1.01], [2.0], [3.0], [4.0]])
    assert np.isnan(found.difference_error[1:]).all()
    assert found.as_good.sum() == 1
    assert any("one seed" in note for note in found.notes)


# --- the page -----------------------------------------------------------------------------------------------


@pytest.fixture
def two() -> fastbp.Sweep:
    scores = noisy(np.repeat([3.0, 2.0, 1.0, 1.5, 2.0], 2))
    scores[9, 3] = np.nan
    about = {"network": f"<MLP {NASTY}>", "data": "9 rows", "data_name": "<data>", "held_out": "20%, by seed"}
    return made({"lr": RATES, "activation": ["relu", NASTY]}, scores, about=about)


def test_the_page_holds_points_runs_and_names(two: fastbp.Sweep) -> None:
    page = sweep_page.page(two, "", f"fastbp {NASTY}")
    assert NASTY not in page
    assert "Data: &lt;data&gt;, 9 rows" in page
    view = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert [point["mean"] for point in view["points"]][:9] == pytest.approx(two.mean[:9], rel=1e-5)
    assert view["points"][9]["scores"][3] is view["points"][9]["mean"] is None
    assert len(view["runs"]) == 50
    assert view["runs"][0]["val"] == [2.0, 1.5]
    assert view["map"]["names"] == ["lr", "activation"]
    charts = re.findall(r'<div class="chart[^"]*" id="(\w+)" role="img" aria-label="([^"]+)"', page)
    assert [name for name, _ in charts] == ["heat", "setting0", "setting1", "runs"]
    rows = re.findall(r"<tr class=.*?</tr>", page)
    assert "best" in rows[0]
    assert "diverged (1 of 5)" in rows[-1]


def test_the_browser_draws_it(two: fastbp.Sweep, tmp_path: Path) -> None:
    two.report(tmp_path / "page.html", command="fastbp")
    with chromium(tmp_path / "profile") as chrome:
        for width, scheme in ((1280, "light"), (390, "dark")):
            resize(chrome, width, 844, scheme)
            chrome.get((tmp_path / "page.html").as_uri())
            assert chrome.execute_script("return document.documentElement.scrollWidth") == width
            for name in ("heat", "setting0", "setting1", "runs"):
                assert chrome.execute_script(f"return document.querySelector('#{name} .main-svg') !== null")
            for button in chrome.find_elements("css selector", ".switches button, th button"):
                chrome.execute_script("arguments[0].click()", button)
        assert [entry for entry in chrome.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


# --- contrast -----------------------------------------------------------------------------------------------


def colours() -> dict[str, dict[str, str]]:
    """Scheme -> name -> colour, as the style has them."""
    style = (Path(report.__file__).parent / "page" / "page.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    found = {"light": dict(re.findall(r"--([\w-]+): (#\w{6})", light))}
    return found | {"dark": found["light"] | dict(re.findall(r"--([\w-]+): (#\w{6})", dark))}


def light_of(colour: Any) -> float:
    """Relative luminance, by WCAG 2."""
    parts = np.asarray(colour) / 255
    return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722))


def contrast(one: Any, other: Any) -> float:
    high, low = sorted((light_of(one), light_of(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(scheme: str) -> None:
    """4.5 to 1 of text and of lines that carry meaning on their ground, the tinted rows of tables among them."""
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    rgb = {name: [int(c[k : k + 2], 16) for k in (1, 3, 5)] for name, c in colours()[scheme].items()}
    tinted = 0.11 * np.array(rgb["interval"]) + 0.89 * np.array(rgb["card"])
    inks = ("text", "soft", "accent", "validation", "training", "interval", "bad", "faint")
    pairs = [(ink, rgb["card"]) for ink in inks]
    pairs += [(ink, rgb["back"]) for ink in ("text", "soft")]
    pairs += [(ink, tinted) for ink in ("text", "soft", "interval", "bad")]
    pairs += [("warn-text", rgb["warn-back"]), ("card", rgb["accent"])]
    for ink, ground in pairs:
        assert contrast(rgb[ink], ground) >= 4.5, (ink, ground)
