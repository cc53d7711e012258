"""Two sweeps compared, and maps of two settings: words, figures and pages."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from test_advice import QUARTERS, bowl, seeded
from test_sweep import made

import fastbp
from fastbp.cli.main import main
from fastbp.many import against, against_points, report, sweep_page
from fastbp.many.heat import HeatMap
from fastbp.many.sweep_result import Sweep

ABOUT = {
    "data": "100 rows",
    "loss": "mse",
    "network": "<MLP>",
    "optimizer": "Adam()",
    "schedule": None,
    "batch_size": 8,
}


def sweep(losses: Any, **about: Any) -> Any:
    return made(losses, rates=QUARTERS, about={**ABOUT, **about})


def earlier(tmp_path: Path, losses: Any, **about: Any) -> against.Earlier:
    sweep(losses, **about).to_json(tmp_path / "old.json")
    return against.read(tmp_path / "old.json")


def test_the_difference_is_paired_by_seed(tmp_path: Path) -> None:
    """Seeds differ by 30 %: unpaired, 5 % would be nothing."""
    losses = seeded(bowl(QUARTERS, 0.0316))
    old = earlier(tmp_path, losses)
    new = losses * (0.95 + 0.002 * np.random.default_rng(3).standard_normal(5))
    found = against.lines(sweep(new, optimizer="SGD()"), old)
    assert found[0] == "optimiser Adam() before, SGD() now"
    assert found[1] == "recommended lr 0.0316 before, 0.0316 now"
    mean = losses[6].mean()
    assert f"loss there {mean:.4g} before, {new[6].mean():.4g} now: {new[6].mean() - mean:+.2g}" in found[2]
    assert found[2].endswith("(paired by seed), beyond the noise")
    assert against.lines(sweep(losses), old)[0] == "network, optimiser, schedule, batch size and epochs are the same"
    unpaired = against.lines(made(new, rates=QUARTERS, seeds=np.arange(7, 12), about=ABOUT), old)[-1]
    assert unpaired.endswith("(seeds differ), within the noise")


def test_other_data_are_said(tmp_path: Path) -> None:
    losses = seeded(bowl(QUARTERS, 0.0316))
    found = against.lines(sweep(losses, data="99 rows"), earlier(tmp_path, losses))
    assert found[0] == "not comparable: the data are not the same"
    single = against.lines(sweep(losses[:, :1]), earlier(tmp_path, losses[:, :1]))
    assert single[-1].endswith("without an error for a single seed")
    nothing = against.lines(sweep(np.full((13, 2), np.nan)), earlier(tmp_path, losses))
    assert nothing[-1] == "recommended lr 0.0316 before, none now"


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"learning_rates": [1]}', b"\xff", b"3"])
def test_other_files_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "old.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"old.json is not a learning-rate sweep as"):
        against.read(path)
    done = CliRunner().invoke(main, ["sweep", "--against", str(path)])
    assert done.exit_code == 2
    assert "is not a learning-rate sweep" in " ".join(done.stderr.split())


def test_the_command_compares_with_its_own_output(tmp_path: Path) -> None:
    words = ["sweep", "--hidden", "8", "--epochs", "1", "--seeds", "2", "--lr", "1e-3:1e-1:3", "--json"]
    first = CliRunner().invoke(main, words)
    assert first.exit_code == 0, first.output
    (tmp_path / "old.json").write_text(first.stdout)
    again = CliRunner().invoke(main, [*words, "--against", str(tmp_path / "old.json")])
    changes = json.loads(again.stdout)["against"]
    assert changes[0] == "network, optimiser, schedule, batch size and epochs are the same"
    assert ": +0 +- 0 (paired by seed), within the noise" in changes[-1]
    assert json.loads(again.stdout)["about"]["data_name"] == "the embedded digits"
    told = CliRunner().invoke(main, [*words[:-1], "--against", str(tmp_path / "old.json")])
    assert "against network, optimiser" in " ".join(told.stdout.split())


@pytest.fixture(scope="module")
def points() -> fastbp.Sweep:
    X, y = fastbp.datasets.load_digits()
    net = fastbp.MLP([64, 4, 10], seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fastbp.sweep(net, X[:200], y[:200], {"batch_size": [16, 32], "lr": [0.003, 0.01]}, seeds=3, epochs=2)


def test_points_of_two_sweeps_are_paired_by_seed(points: fastbp.Sweep, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    points.to_json(path)
    old = against_points.read(path)
    same = against_points.lines(points, old)
    assert same[1:3] == [
        "4 points in both sweeps, 0 only now, 0 only before",
        "of these, 0 better and 0 worse beyond the noise",
    ]
    assert all(line.endswith("now: +0 +- 0 (paired by seed), within the noise") for line in same[3:])
    scores = points.scores * [[0.9], [1.001], [1.0], [1.0]]
    configs = [*points.configs[:3], {"batch_size": 32, "lr": 0.02}]  # the seeds differ by more than these changes
    changed = Sweep(configs, points.seeds, scores, "loss", False, points.histories, points.status, about=points.about)
    found = against_points.lines(changed, old, most=2)
    assert found[1:3] == [
        "3 points in both sweeps, 1 only now, 1 only before",
        "of these, 1 better and 1 worse beyond the noise",
    ]
    assert found[-1] == "... and 1 more point"
    assert len(found) == 6
    page = sweep_page.page(changed, "", None, old)
    assert "Against the earlier sweep" in page
    assert page.count("(paired by seed)") == 3
    named = {name: getattr(points, name) for name in ("configs", "seeds", "scores", "histories", "status")}
    other = Sweep(**named, metric="accuracy", larger=True, about={**points.about, "data": "others", "batch_size": "8"})
    found = against_points.lines(other, old)
    assert found[:2] == ["not comparable: the data are not the same", "batch size not set before, 8 now"]
    assert found[-1] == "not comparable: by loss before, by accuracy now"


def test_the_command_compares_sweeps_over_settings(tmp_path: Path) -> None:
    words = ["sweep", "--hidden", "8", "--epochs", "1", "--seeds", "2", "--over", "batch_size=16,32", "--json"]
    first = CliRunner().invoke(main, words)
    (tmp_path / "old.json").write_text(first.stdout)
    again = CliRunner().invoke(main, [*words, "--against", str(tmp_path / "old.json")])
    assert "2 points in both sweeps, 0 only now, 0 only before" in json.loads(again.stdout)["against"]
    told = CliRunner().invoke(main, [*words[:-1], "--against", str(tmp_path / "old.json")])
    assert "against of these, 0 better and 0 worse" in " ".join(told.stdout.split())
    refused = CliRunner().invoke(main, ["sweep", "--lr", "0.1", "--against", str(tmp_path / "old.json")])
    assert refused.exit_code == 2
    assert "is not a learning-rate sweep" in " ".join(refused.stderr.split())
    (tmp_path / "rates.json").write_text('{"learning_rates": [1]}')
    refused = CliRunner().invoke(main, [*words, "--against", str(tmp_path / "rates.json")])
    assert refused.exit_code == 2
    assert "is not a sweep over settings" in " ".join(refused.stderr.split())


def test_the_page_shows_the_earlier_sweep_and_every_run(tmp_path: Path) -> None:
    losses = seeded(bowl(QUARTERS, 0.0316))
    old = earlier(tmp_path, 2 * losses, optimizer='SGD("</script>")')
    page = report.page(sweep(losses), "", None, None, old)
    assert "Against the earlier sweep" in page
    assert "</script>&quot;" not in page
    view = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert view["earlier"]["mean"] == pytest.approx((2 * losses).mean(axis=1), rel=1e-5)
    assert [run["loss"] for run in view["runs"]] == pytest.approx(losses.ravel(), rel=1e-5)
    assert view["runs"][7]["val"] == pytest.approx([losses[1, 2] + 1, losses[1, 2]], rel=1e-5)
    assert view["runs"][7]["seed"] == 2
    assert "Data: 100 rows" in page
    assert json.loads(report.page(sweep(losses), "", None, None).partition('id="data">')[2].partition("</script>")[0])[
        "earlier"
    ] is None  # fmt: skip


def test_every_chart_has_a_name(tmp_path: Path) -> None:
    for result in (sweep(seeded(bowl(QUARTERS, 0.0316))), sweep(np.full((13, 2), np.nan))):
        page = report.page(result, "", None, None)
        names = re.findall(r'<div class="chart[^>]* role="img" aria-label="([^"]+)"', page)
        assert len(names) == page.count('class="chart') == 4
        assert page.count('role="group" aria-label=') == 4
        assert ("lowest near 0.0316" in names[0]) == (result.best_lr is not None)


def colours(scheme: int) -> dict[str, str]:
    """The names of a scheme of the page: 0 light, 1 dark."""
    css = (Path(report.__file__).parent / "page" / "page.css").read_text(encoding="utf-8")
    found = [dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{([^}]*)\}", css)]
    return found[scheme]


def luminance(colour: str) -> float:
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_a_contrast_of_four_and_a_half(scheme: int) -> None:
    """By WCAG 2: on the page, on cards, and on the tinted rows of the interval."""
    named = colours(scheme)

    def mixed(share: float) -> str:
        pairs = zip(re.findall("..", named["interval"][1:]), re.findall("..", named["card"][1:]), strict=True)
        return "#" + "".join(f"{round(share * int(a, 16) + (1 - share) * int(b, 16)):02x}" for a, b in pairs)

    grounds = {"back": ("text", "soft"), "card": ("text", "soft", "interval", "bad", "faint", "accent")}
    pairs = [(ink, named[ground]) for ground, inks in grounds.items() for ink in inks]
    pairs += [(ink, mixed(0.11)) for ink in ("text", "interval", "soft")]
    pairs += [("card", named["accent"]), ("warn-text", named["warn-back"])]
    for ink, ground in pairs:
        low, high = sorted((luminance(named[ink]), luminance(ground)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


# --- maps of two settings


@pytest.fixture
def heat() -> HeatMap:
    losses = np.array([[0.5, 0.2, np.nan], [5.0, 0.3, 0.4]])
    return HeatMap(("batch size", "<weight decay>"), [16, 32], [0.0, 0.001, "none"], losses)


def test_a_map_of_two_settings(heat: HeatMap, tmp_path: Path) -> None:
    assert heat.chosen == (0, 1)
    values, label = heat.levels
    assert label == "log10 of validation loss"
    np.testing.assert_allclose(values, np.log10(heat.losses))
    page = heat.card()
    assert "<weight decay>" not in page
    cells = re.findall(r"<td( class=best)?>([^<]*)</td>", page)
    assert cells == [("", "0.5"), (" class=best", "0.2"), ("", "-"), ("", "5"), ("", "0.3"), ("", "0.4")]
    assert 'role="img" aria-label="Validation loss by batch size and &lt;weight decay&gt;; the best, 0.2, is at' in page
    view = heat.view()
    assert view["losses"][0] == [0.5, 0.2, None]
    assert view["best"] == [0, 1]
    texts = [text.get_text() for text in heat.draw().axes[0].texts]
    assert texts == ["0.5", "0.2", "x", "5", "0.3", "0.4"]


def test_a_map_without_a_result() -> None:
    nothing = HeatMap(("a", "b"), [1], [2, 3], np.full((1, 2), np.nan))
    assert nothing.chosen is None
    assert "nan" not in nothing.card()
    assert nothing.draw() is not None
    straight = HeatMap(("a", "b"), [1], [2, 3], np.array([[-1.0, 2.0]]), best=(0, 1))
    assert straight.levels[1] == "validation loss"
    assert straight.chosen == (0, 1)
