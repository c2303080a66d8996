"""A server of a small collection, and a real browser to look at it."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# The importlib mode of pytest does not find modules beside the tests by itself.
sys.path.append(str(Path(__file__).parent))

from pagemaking import Kept, Served, made, serve

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def server() -> Iterator[Served]:
    yield from serve(Kept(made(100)))


@pytest.fixture
def served(server: Served, tmp_path: Path) -> Served:
    """A hundred pictures, served, of which nothing is decided."""
    server.live.begin(tmp_path / "decisions.jsonl")
    return server


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A real Chromium, without a window."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no playwright: pip install playwright"
    )
    if found is None:
        pytest.skip("no browser: apt-get install --no-install-recommends chromium")
    with playwright.sync_playwright() as started:
        # Chromium's own sandbox cannot be had by root, as which containers run.
        chromium = started.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    """An empty tab; the test fails if its page had an error or asked another host."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on(
        "console",
        lambda m: faults.append(m.text) if m.type == "error" and "404" not in m.text else None,
    )
    page.on(
        "request",
        lambda r: (
            faults.append(f"asked {r.url}")
            if not r.url.startswith(("http://127.0.0.1:", "file:", "data:", "blob:"))
            else None
        ),
    )
    page.set_default_timeout(10_000)
    yield page
    context.close()
    assert faults == []
