"""The documentation site builds without warnings and works in a browser; needs the extra docs, Playwright, Chromium."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings", "latex2mathml")),
        reason='needs pip install "fastmlp[docs]"',
    ),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def server(site):
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_pages_load_nothing_from_other_servers(site):
    page = (site / "index.html").read_text(encoding="utf-8")
    assert 'src="http' not in page and "fonts.googleapis" not in page
    assert "<math" in (site / "derivations.html").read_text(encoding="utf-8")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_navigation_and_search_in_a_browser(server):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (1280, 390):
            page = browser.new_page(viewport={"width": width, "height": 800})
            failures: list[str] = []
            page.on("requestfailed", lambda request, found=failures: found.append(request.url))
            page.on("pageerror", lambda error, found=failures: found.append(str(error)))
            page.goto(server + "index.html")
            page.click("article a:has-text('Derivations')")
            page.wait_for_selector("article h2#linear")
            assert page.locator("article math").count() > 50
            if width == 1280:
                page.click("nav.md-tabs a:has-text('Reference')")
                page.click("nav a:has-text('Optimizers and schedules')")
                page.wait_for_selector("article h2:has-text('AdamW')")
            else:
                page.click("label[for=__search]")
            page.locator("input.md-search__input").press_sequentially("LayerNorm")  # the search waits for keys
            page.click("a.md-search-result__link >> nth=0")
            page.wait_for_selector("article :text('LayerNorm')")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert not failures
            page.close()
        browser.close()
