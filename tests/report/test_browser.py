"""The page in a real browser: Debian's chromium, driven by playwright. Skips, saying what to install, without them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roughspike.evaluation.types import Evaluation
from roughspike.report.page import write_report

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)
BOXES = """() => [...document.querySelectorAll('svg.fig')].map(svg => {
  const box = svg.getBoundingClientRect();
  const size = e => e.getBBox().width + e.getBBox().height;
  const ink = [...svg.querySelectorAll('path, rect')].filter(e => size(e) > 0);
  return {width: box.width, height: box.height, marks: ink.length, left: box.left, right: box.right};
})"""
OVERLAPS = """() => {
  const found = [];
  for (const svg of document.querySelectorAll('svg.fig')) {
    const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim());
    const boxes = texts.map(t => t.getBoundingClientRect());
    for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
      const a = boxes[i], b = boxes[j];
      const w = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (w > 3 && h > 6) found.push(texts[i].textContent + ' | ' + texts[j].textContent);
    }
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on the PATH: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, headless=True, args=list(QUIET))
        yield running
        running.close()


class Visit:
    """A page opened from a file, with everything the browser asked for or complained about."""

    def __init__(self, browser: Any, path: Path, width: int = 1100):
        self.requests: list[str] = []
        self.failed: list[str] = []
        self.complaints: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.on("requestfailed", lambda r: self.failed.append(r.url))
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.goto(path.as_uri(), wait_until="load")


@pytest.mark.parametrize("kind", ["driven", "trials", "neurons", "network", "hostile"])
def test_opens_without_a_complaint(browser: Any, pages: dict[str, Evaluation], kind: str, tmp_path: Path):
    path = write_report(pages[kind], tmp_path / "report.html")
    visit = Visit(browser, path)
    assert [url for url in visit.requests if not url.startswith("data:")] == [path.as_uri()]
    assert visit.failed == [] and visit.complaints == []
    boxes = visit.page.evaluate(BOXES)
    assert len(boxes) >= 3
    for box in boxes:
        assert box["width"] > 300 and box["height"] > 60 and box["marks"] > 3
        assert box["left"] >= 0 and box["right"] <= 1100
    visit.page.close()


@pytest.mark.parametrize("kind", ["driven", "trials", "neurons", "network"])
def test_no_text_covers_another(browser: Any, pages: dict[str, Evaluation], kind: str, tmp_path: Path):
    visit = Visit(browser, write_report(pages[kind], tmp_path / "report.html"))
    assert visit.page.evaluate(OVERLAPS) == []
    visit.page.close()


@pytest.mark.parametrize("width", [1100, 420])
def test_fits_the_window(browser: Any, pages: dict[str, Evaluation], width: int, tmp_path: Path):
    visit = Visit(browser, write_report(pages["driven"], tmp_path / "report.html"), width)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.page.close()


def test_the_probe_sees_a_request(browser: Any, tmp_path: Path):
    path = tmp_path / "bad.html"
    path.write_text('<img src="missing.png"><script>console.error("x")</script>')
    visit = Visit(browser, path)
    visit.page.wait_for_load_state("networkidle")
    assert len(visit.requests) == 2 and visit.failed and "x" in visit.complaints
    visit.page.close()


def test_prints(browser: Any, pages: dict[str, Evaluation], tmp_path: Path):
    visit = Visit(browser, write_report(pages["driven"], tmp_path / "report.html"))
    assert visit.page.pdf(format="A4").startswith(b"%PDF")
    visit.page.close()
