"""A real headless Chromium for tests of pages."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


def programs() -> tuple[str, str]:
    """Paths of Chromium and its driver; where there are none the test is skipped, unless they are required."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        missing = "the page cannot be looked at: install chromium and chromium-driver"
        if os.environ.get("FASTBP_REQUIRE_BROWSER"):
            pytest.fail(missing)
        pytest.skip(missing)
    return browser, driver


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A browser with a fresh profile, which ends with the block."""
    browser, driver = programs()
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    try:
        chrome.set_page_load_timeout(120)
        yield chrome
    finally:
        chrome.quit()


def resize(chrome: Any, width: int, height: int, scheme: str) -> None:
    """A window of this size, in "light" or "dark"; below 500 pixels Chromium takes it only as that of a device."""
    chrome.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
