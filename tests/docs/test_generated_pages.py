"""The tables and charts of README.md and docs/ are those of the results files."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from typing import Any

import pytest
from support.pages import REPOSITORY, read

SCRIPT = REPOSITORY / "docs" / "results_tables.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


def test_every_page_shows_the_results() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("page", "figure"),
    [
        ("README.md", "1.16x"),
        ("docs/performance.md", "(1.39x)"),
        ("docs/performance.md", "geometric mean **1.22x**"),
        ("docs/arm.md", "170.5 / 273.6"),
        ("docs/index.md", "1.63 times"),
    ],
)
def test_a_figure_of_another_file_is_put_right(
    script: dict[str, Any], page: str, figure: str
) -> None:
    text = read(page)
    assert figure in text
    assert script["fill"](text.replace(figure, "9.99x")) == text


def test_every_block_is_on_a_page_and_every_chart_on_the_front_page(script: dict[str, Any]) -> None:
    shown = {name for page in script["PAGES"] for name in re.findall(r"results: (\S+)", read(page))}
    assert shown == set(script["BLOCKS"])
    for name in script["HEADLINES"]:
        assert f"(images/{name}.svg)" in read("docs/index.md")
        svg = (REPOSITORY / "docs" / "images" / f"{name}.svg").read_text(encoding="utf-8")
        assert "var(--" not in svg and "<title" in svg
