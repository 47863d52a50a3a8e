"""Pages opened in a real browser, as people use them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

WIDTHS = (1400, 400)
"""Of a window on a desk and of a telephone, pixels."""

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def opened_browser() -> Iterator[Any]:
    """A browser without a window; skips the test, with a word, where there is none."""
    selenium = pytest.importorskip("selenium.webdriver", reason="no selenium to drive a browser with")
    binary = next(filter(None, map(shutil.which, _NAMES)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium with its driver is installed")
    options = selenium.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"):
        options.add_argument(argument)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        # Chromium refuses to run its sandbox as root.
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


def check_page(browser: Any, page: Path) -> int:
    """Opens a page at all widths and clicks everything; returns how many elements that were.

    Fails on an error in the console, a request that leaves the machine, or a page that is wider than its window.
    """
    clicked = 0
    for width in WIDTHS:
        browser.set_window_size(width, 900)
        # On a telephone a window is narrower than a desktop's may be.
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, "wider than its window"
        for element in browser.find_elements("css selector", "summary, button, a[href]"):
            browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
            element.click()
            clicked += 1
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width, "wider when opened"
        assert browser.current_url.split("#")[0] == page.as_uri()
        complaints = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert not complaints, complaints
        messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
        urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        assert all(url.split("#")[0] == page.as_uri() or url.startswith("data:") for url in urls), urls
    return clicked
