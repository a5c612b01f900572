"""Take the pictures of two reports in docs/images/: both widths, light and dark.

    python docs/screenshots.py

Needs Chromium (apt-get install chromium-headless-shell) and playwright.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image
from playwright.sync_api import sync_playwright

from tvm_mobilenet import report

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks" / "results"
# by the beginning of the pictures' names: the files, and how much of a page of which width is shown
REPORTS: dict[str, tuple[tuple[Path, ...], dict[int, int]]] = {
    "report": (
        (
            RESULTS / "x86-znver5-demo.json",
            RESULTS / "x86-znver5-profile.json",
            DOCS.parent / "tuning_logs" / "x86-znver5",
        ),
        {400: 1800, 1400: 1250},
    ),
    "sweep": (
        (RESULTS / "x86-znver5-sweep.json", RESULTS / "x86-znver4-int8-sweep.json"),
        {400: 2600, 1400: 1900},
    ),
}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
COLORS = 160  # a page has few


def main() -> int:
    chromium = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (files, heights) in REPORTS.items():
            page_file = Path(scratch) / f"{name}.html"
            status = report.main([*map(str, files), "-o", str(page_file)])
            if status != 0:
                return status
            for width, height in heights.items():
                for scheme in SCHEMES:
                    picture = shoot(browser, page_file, (width, height), scheme)
                    path = DOCS / "images" / f"{name}-{width}-{scheme}.png"
                    picture.save(path, optimize=True)
                    print(f"wrote {path.relative_to(DOCS.parent)}")
        browser.close()
    return 0


def shoot(
    browser: Browser, file: Path, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> Image.Image:
    """The page's top, in as few colours as it needs."""
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.goto(file.as_uri())
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    context.close()
    # the rare colours count: they tell lines apart
    return picture.quantize(COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


if __name__ == "__main__":
    sys.exit(main())
