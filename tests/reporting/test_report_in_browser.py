"""The HTML report in a real browser: what it shows is what the JSON says, on every screen."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.pages import REPOSITORY

from tvm_mobilenet import report
from tvm_mobilenet.results import schema

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RESULTS = REPOSITORY / "benchmarks" / "results"
CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
FILES = ("x86-znver5-demo.json", "x86-znver4-pp-ocr-detector.json", "x86-znver5-profile.json")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="needs a browser: apt-get install chromium-headless-shell; pip install playwright",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # no sandbox: tests run as root in a container
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    log = REPOSITORY / "tuning_logs" / "x86-znver5"
    assert report.main([*(str(RESULTS / name) for name in FILES), str(log), "-o", str(path)]) == 0
    return path


def open_page(browser: Browser, path: Path, width: int, scheme: Any) -> tuple[Page, list[str]]:
    """The page, and what it complained of or asked for beyond itself."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda one: said.append(one.url) if "report.html" not in one.url else None)
    page.goto(path.as_uri())
    return page, [one for one in said if not one.startswith("data:")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_every_screen(browser: Browser, report_file: Path, width: int, scheme: str) -> None:
    page, said = open_page(browser, report_file, width, scheme)
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1").inner_text().lower() == "latency report"
    # every text stands out from what is behind it, in charts too (WCAG: 4.5 to 1)
    least = page.evaluate(CONTRAST)
    assert least["ratio"] >= 4.5, least
    page.context.close()


# The least contrast of a text on the page, with the text; colours as the browser computes them.
CONTRAST = """() => {
  const light = color => { const c = color.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]; };
  const back = light(getComputedStyle(document.body).backgroundColor);
  let least = {ratio: 99};
  for (const one of document.querySelectorAll("body *")) {
    const own = [...one.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || ["SCRIPT", "title", "desc"].includes(one.tagName)) continue;
    const style = getComputedStyle(one);
    const ink = light(one.tagName === "text" || one.tagName === "tspan" ? style.fill : style.color);
    const ratio = (Math.max(ink, back) + 0.05) / (Math.min(ink, back) + 0.05);
    if (ratio < least.ratio) least = {ratio, text: one.textContent.slice(0, 40)};
  }
  return least;
}"""


def test_the_tables_say_what_the_json_says(browser: Browser, report_file: Path) -> None:
    page, _ = open_page(browser, report_file, 1400, "light")
    shown = page.locator("table:has(caption:text-is('Latency')) tbody tr").all_inner_texts()
    cells = [[cell.strip() for cell in row.split("\t")] for row in shown]
    rows = [r for name in FILES[:2] for r in schema.load(RESULTS / name).results]
    assert len(cells) == len(rows)
    for cell, row in zip(cells, rows, strict=True):
        assert row.latency_ms is not None
        assert cell[0].split(",")[0] == row.engine
        assert float(cell[1]) == pytest.approx(row.latency_ms.p50, abs=0.0051)
        assert int(cell[4]) == len(row.samples_ms)
    page.context.close()


def test_tables_sort_by_mouse_and_by_keyboard(browser: Browser, report_file: Path) -> None:
    page, _ = open_page(browser, report_file, 1400, "light")
    table = page.locator("table:has(caption:text-is('Layers'))")

    def column(number: int) -> list[str]:
        return table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()

    heading = table.get_by_role("button", name="µs", exact=True)
    heading.click()
    times = [float(text) for text in column(3)]
    assert times == sorted(times)
    heading.focus()
    page.keyboard.press("Enter")
    assert [float(text) for text in column(3)] == sorted(times, reverse=True)
    assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    table.get_by_role("button", name="kernel").press("Space")
    assert column(2) == sorted(column(2), key=natural)
    page.context.close()


def natural(text: str) -> list[tuple[bool, int, str]]:
    """Numbers within words by their value, as a browser's collation has it."""
    return [
        (not part.isdigit(), int(part) if part.isdigit() else 0, part)
        for part in re.findall(r"\d+|\D+", text)
    ]


def test_charts_have_names_and_paper_shows_what_is_folded(
    browser: Browser, report_file: Path
) -> None:
    page, _ = open_page(browser, report_file, 1400, "light")
    charts = page.get_by_role("img")
    names = [chart.locator("title").first.text_content() for chart in charts.all()]
    assert len(names) == page.locator("svg").count() == len(set(names)) > 8
    assert all(chart.locator("desc").first.text_content() for chart in charts.all())
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.context.close()
