"""Counted instructions in the results file and in every report: no latency is made of them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from rich.console import Console
from support import result_rows
from support.result_rows import counted

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.provenance import MeasuredDevice
from tvm_mobilenet.reporting import html, markdown, terminal
from tvm_mobilenet.results import schema, tables
from tvm_mobilenet.results.counts import count_tables

LARGE = (counted("bundle", 171_000_000), counted("onnxruntime", 342_000_000))
SMALL = (
    counted("bundle", 5_000_000, alpha=0.25, resolution=128),
    counted("onnxruntime", None, alpha=0.25, resolution=128, reason="not there"),
    counted("tflite", 40_000_000, alpha=0.25, resolution=128),
)
DEVICE = MeasuredDevice("QEMU, emulated cortex-a72", emulated=True, versions={"qemu": "7.2.22"})
RESULTS = dataclasses.replace(
    result_rows.results(*LARGE, *SMALL),
    machine=dataclasses.replace(result_rows.MACHINE, device=DEVICE),
)


def test_round_trip() -> None:
    text = schema.dumps(RESULTS)
    assert schema.loads(text, "r.json") == RESULTS
    for row in json.loads(text)["results"]:
        assert ("instructions" in row) == (row["status"] == "ok")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"how": "native"}, "how: instructions are counted on an emulated core, got 'native'"),
        ({"instructions": 0}, "instructions: expected a whole number of at least 1"),
        (
            {"samples_ms": [1.0]},
            "instructions: a row of counted instructions cannot have a latency",
        ),
        ({"max_abs_diff": None}, "max_abs_diff: missing, and no figure counts without"),
        (
            {"status": "not run", "reason": "lost"},
            "instructions: a row that was not run cannot have a count",
        ),
    ],
)
def test_what_a_counted_row_cannot_be(change: dict[str, Any], complaint: str) -> None:
    document = json.loads(schema.dumps(RESULTS))
    document["results"][0].update(change)
    with pytest.raises(BadInput) as raised:
        schema.loads(json.dumps(document), "r.json")
    assert complaint in str(raised.value)


def test_the_table() -> None:
    (table,) = count_tables(RESULTS)
    assert table.engines == ("bundle", "onnxruntime", "tflite")
    assert table.compared == [
        ("mobilenet_v1 1.0-224, fp32", 2.0),
        ("mobilenet_v1 0.25-128, fp32", 8.0),
    ]
    assert table.geometric_mean == pytest.approx(4.0)


def test_counts_are_no_latencies() -> None:
    timed = result_rows.row("bundle", 9.0)
    mixed = result_rows.results(*LARGE, timed)
    assert [line.row for c in tables.comparisons(mixed) for line in c.lines] == [timed]
    assert not tables.comparisons(RESULTS)


def test_every_report_shows_them() -> None:
    console = Console(width=120, record=True)
    terminal.print_tables(console, RESULTS)
    shown = {
        "terminal": console.export_text(),
        "markdown": markdown.render([("r.json", RESULTS)]).replace("\\_", "_"),
        "html": html.render([("r.json", RESULTS)]),
    }
    for name, text in shown.items():
        assert "Million instructions per inference, 1 thread, emulated" in text, name
        assert "171.0" in text and "342.0" in text and "2.00" in text, name
        assert "onnxruntime was not run: not there" in text, name
        assert "geometric mean of fewest peer ÷ ours 4.00" in text, name
    assert "QEMU, emulated cortex-a72" in shown["markdown"]
