"""Take the pictures of a report in docs/images/: both widths, light and dark.

    python docs/screenshots.py

Needs Chromium (apt-get install chromium-headless-shell) and playwright.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import sync_playwright

from tvm_mobilenet import report

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks" / "results"
FILES = ("x86-znver5-demo.json", "x86-znver5-profile.json")
LOG = DOCS.parent / "tuning_logs" / "x86-znver5"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
HEIGHTS = {400: 1800, 1400: 1250}  # the first screen, and the first chart below it
COLORS = 160  # a page has few


def main() -> int:
    chromium = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        page_file = Path(scratch) / "report.html"
        status = report.main(
            [*(str(RESULTS / one) for one in FILES), str(LOG), "-o", str(page_file)]
        )
        if status != 0:
            return status
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width, height in HEIGHTS.items():
            for scheme in SCHEMES:
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme
                )
                page = context.new_page()
                page.goto(page_file.as_uri())
                picture = Image.open(io.BytesIO(page.screenshot()))
                path = DOCS / "images" / f"report-{width}-{scheme}.png"
                path.parent.mkdir(exist_ok=True)
                picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE).save(
                    path, optimize=True
                )
                print(f"wrote {path.relative_to(DOCS.parent)}")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
