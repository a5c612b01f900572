"""The report stage, as a user calls it."""

from __future__ import annotations

import csv
import html.parser
import importlib.util
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.result_rows import results, row

from tvm_mobilenet import report
from tvm_mobilenet.results import schema

GOLDEN = Path(__file__).parents[1] / "golden" / "report.md"
HOSTILE = "<script>alert(1)</script> | a\nb `c`"

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None,
    reason="needs matplotlib: pip install 'tvm-mobilenet[report]'",
)

RESULTS = results(
    row("bundle", 9.0, tuned=True),
    row("pytorch", 20.0),
    row("onnxruntime", 8.5),
    row("openvino", None),
    row("bundle", 0.3, alpha=0.25, resolution=128),
    row("onnxruntime", 0.41, alpha=0.25, resolution=128),
)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("results.json")
    schema.dump(RESULTS, path)
    return path


def run(*arguments: object) -> int:
    return report.main([str(argument) for argument in arguments])


def test_markdown_is_the_golden_file(file: Path) -> None:
    """Set UPDATE_GOLDEN=1 to accept what comes out."""
    assert run(file, "-o", "report.md") == 0
    text = Path("report.md").read_text()
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_losses_are_in_the_table(file: Path) -> None:
    run(file, "-o", "report.md")
    lines = [line for line in Path("report.md").read_text().splitlines() if "onnxruntime" in line]
    assert any(line.endswith("| slower |") for line in lines)


def test_terminal(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(file) == 0
    out = capsys.readouterr().out
    assert "Imaginary CPU, 2 cores" in out
    assert "tvm-mobilenet bench b.tar" in out
    for word in ("bundle", "pytorch", "slower", "faster", "not run"):
        assert word in out


class Page(html.parser.HTMLParser):
    """Collects what a page refers to, and its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and not (value or "").startswith(
                ("#", "data:")
            ):
                self.outside.append(value or "")


@needs_matplotlib
def test_html_is_one_file_with_plots(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(file, "-o", "report.html") == 0
    assert capsys.readouterr().out == "wrote report.html\n"
    text = Path("report.html").read_text()
    page = Page(text)
    assert page.outside == []
    # ratios and work over the two networks (one has a published accuracy), and two charts of each
    assert page.tags.count("svg") == 6
    assert page.tags.count("table") == 6
    assert "currentColor" in text and "#0102" not in text
    assert "mobilenet_v1 0.25-128" in text


def test_csv_has_a_line_for_every_row(file: Path) -> None:
    assert run(file, "-o", "report.csv") == 0
    with open("report.csv", newline="") as text:
        lines = list(csv.DictReader(text))
    assert [line["engine"] for line in lines] == [one.engine for one in RESULTS.results]
    ours, pytorch, onnxruntime, openvino = lines[:4]
    assert float(ours["p50_ms"]) == pytest.approx(9.0, rel=0.01)
    assert pytorch["ours_is"] == "faster" and onnxruntime["ours_is"] == "slower"
    assert openvino["status"] == "not run" and openvino["reason"].startswith("openvino is not")
    assert float(pytorch["low"]) < float(pytorch["over_ours"]) < float(pytorch["high"])


def test_a_spreadsheet_computes_nothing_of_a_file(file: Path) -> None:
    schema.dump(results(row("=1+1", 9.0)), file)
    run(file, "-o", "report.csv")
    assert "'=1+1" in Path("report.csv").read_text()


@needs_matplotlib
def test_html_is_the_same_every_time(file: Path) -> None:
    run(file, "-o", "a.html")
    run(file, "-o", "b.html")
    assert Path("a.html").read_text() == Path("b.html").read_text()


@needs_matplotlib
def test_text_from_a_file_stays_text(file: Path) -> None:
    schema.dump(results(row(HOSTILE, 9.0), row("b", None, reason=HOSTILE)), file)
    run(file, "-o", "report.html")
    text = Path("report.html").read_text()
    assert Page(text).tags.count("script") == 1 and "alert(1)</script>" not in text  # our own
    run(file, "-o", "report.md")
    assert r"\<script\>alert(1)\</script\> \| a b \`c\`" in Path("report.md").read_text()


@needs_matplotlib
def test_reports_of_nothing_measured(file: Path) -> None:
    schema.dump(results(row("bundle", None), row("pytorch", None)), file)
    for name in ("report.html", "report.md"):
        assert run(file, "-o", name) == 0
        assert "not run" in Path(name).read_text()
    schema.dump(results(), file)
    assert run(file, "-o", "report.html") == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["none.json"], "error: none.json: cannot be read: No such file or directory\n"),
        (["bad.json"], "error: bad.json: results[0].batch: missing\n"),
        (
            ["results.json", "-o", "r.pdf"],
            "-o r.pdf: expected a name that ends in .html, .md, .csv",
        ),
        (["results.json", "-o", "none/r.md"], "-o none/r.md: not a file in an existing directory"),
    ],
)
def test_bad_input_is_one_line(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    document = json.loads(file.read_text())
    del document["results"][0]["batch"]
    Path("bad.json").write_text(json.dumps(document))
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.count("\n") == 1


@pytest.mark.parametrize("output", [(), ("-o", "report.html")], ids=["terminal", "html"])
@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('"format_version": 1', '"format_version": 2', "format_version: 2 is newer than"),
        ('"p50": ', '"p50": NaN, "x": ', "not JSON: NaN"),
        ('"samples_ms": [', '"samples_ms": [-1.0, ', "results[0].samples_ms[0]: expected a number"),
        ('"samples_ms": [', '"samples_ms": [0.0, ', "results[0].latency_ms.n: 100, but"),
        ('"results": [', '"rows": [', "no results of `bench`, and no profile, in it"),
        ('"results": [', '"results": [', "not JSON"),  # and the end is cut off
    ],
)
def test_a_file_that_is_none_is_one_line(
    file: Path,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    complaint: str,
    output: tuple[str, ...],
) -> None:
    text = file.read_text().replace(old, new, 1)
    file.write_text(text[: len(text) // 2] if old == new else text)
    assert run(file, *output) == 2
    error = capsys.readouterr().err
    assert f"results.json: {complaint}" in error and error.count("\n") == 1
    assert not Path("report.html").exists()


def test_html_without_matplotlib_says_what_to_install(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run(file, "-o", "report.html") == 2
    assert "pip install 'tvm-mobilenet[report]'" in capsys.readouterr().err


def test_report_loads_no_engine(
    file: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    heavy = "{'torch', 'tvm', 'tvm_ffi', 'onnx', 'onnxruntime', 'openvino'}"
    code = (
        "import sys; from tvm_mobilenet import report; "
        f"report.main([{str(file.absolute())!r}, '-o', {str(file.absolute().parent / 'r.md')!r}]); "
        f"loaded = {heavy} & set(sys.modules); assert not loaded, loaded; "
        "assert not [m for m in sys.modules if m.startswith('tvm_mobilenet.benchmark.engines')]"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
