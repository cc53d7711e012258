"""The documentation site is built without a warning, knows every public name, and is read in a real browser."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, resize
from peers import needs_heavy
from public_names import public_names

ROOT = Path(__file__).resolve().parent.parent
pytestmark = needs_heavy("sphinx", "furo", "myst_parser", "sphinx_click")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages: a warning, such as a link that leads nowhere, is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", str(ROOT / "docs"), str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as chrome:
        yield chrome


def pages(site: Path) -> list[Path]:
    found = sorted(path for path in site.rglob("*.html") if "_static" not in path.parts)
    assert len(found) > 30
    return found


def test_every_public_name_is_in_the_inventory(site: Path) -> None:
    data = (site / "objects.inv").read_bytes()
    lines = zlib.decompress(data.split(b"\n", 4)[4]).decode("utf-8").splitlines()
    there = {line.split()[0] for line in lines if line.split()[1].startswith("py:")}
    assert {"fastbp.MLP.fit", "fastbp.schedules.Cosine"} <= there
    assert public_names() <= there


def test_every_command_is_told_with_its_options(site: Path) -> None:
    from fastbp.cli.main import COMMANDS

    text = (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f'id="fastbp-{name}"' in text
    assert "--warmup-epochs" in text


def test_nothing_is_fetched_from_a_network(site: Path) -> None:
    for page in pages(site):
        fetched = re.findall(r'<(?:script|img|link|iframe)\b[^>]*?(?:src|href)="([^"]+)"', page.read_text("utf-8"))
        assert fetched
        assert not [one for one in fetched if one.startswith(("http:", "https:", "//"))], page.name


def test_no_page_is_wider_than_a_phone(site: Path, browser: Any) -> None:
    resize(browser, 390, 844, "light")
    wide = {}
    for page in pages(site):
        browser.get(page.as_uri())
        width = browser.execute_script("return document.documentElement.scrollWidth")
        if width > 390:
            wide[str(page.relative_to(site))] = width
    assert not wide


def test_the_first_page_has_its_pictures_and_no_errors(site: Path, browser: Any) -> None:
    for width, scheme in ((1280, "light"), (1280, "dark"), (390, "dark")):
        resize(browser, width, 900, scheme)
        browser.get((site / "index.html").as_uri())
        sizes = browser.execute_script(
            "return [...document.querySelectorAll('main img, article img')].map(i => i.naturalWidth)"
        )
        assert len(sizes) >= 2
        assert min(sizes) > 100
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_search_finds_a_name_without_a_server(site: Path, browser: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    resize(browser, 1280, 900, "light")
    browser.get((site / "search.html").as_uri() + "?q=lr_sweep")
    look = "return [...document.querySelectorAll('#search-results li a')].map(a => a.getAttribute('href'))"
    found = WebDriverWait(browser, 60).until(lambda chrome: chrome.execute_script(look))
    assert any("fastbp.lr_sweep" in target for target in found), found
