"""The table that a user chooses by: precisions beside each other, for the same accuracy."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console
from support import result_rows

from tvm_mobilenet.models.accuracy import Accuracy
from tvm_mobilenet.reporting import terminal
from tvm_mobilenet.results.choice import choices
from tvm_mobilenet.results.schema import ResultRow


def row(engine: str, median_ms: float, precision: str, correct: int | None) -> ResultRow:
    accuracy = None if correct is None else Accuracy(correct, 1000, "pages.npz")
    return result_rows.row(engine, median_ms, precision=precision, accuracy=accuracy)


ROWS = (
    row("bundle", 10.0, "fp32", 900),
    row("onnxruntime", 12.0, "fp32", 900),
    row("openvino", 11.0, "fp32", 900),
    row("bundle", 5.0, "bf16", 899),
    row("openvino", 6.0, "bf16", 890),
    row("bundle:small", 2.0, "int8", 891),
    row("bundle:large", 3.0, "int8", 899),
    row("openvino", 4.0, "int8", 889),  # one image too many
    row("litert", 1.0, "int8", None),  # nobody knows how often it is right
)


def test_each_engine_has_the_precision_in_which_it_is_fastest() -> None:
    (table,) = choices(result_rows.results(*ROWS))
    found = [(one.row.engine, one.row.precision, round(one.ratio, 1)) for one in table.choices]
    assert found == [
        ("bundle:small", "int8", 1.0),
        ("openvino", "bf16", 3.0),
        ("onnxruntime", "fp32", 6.0),
    ]
    assert (table.network, table.threads, table.exact_percent) == ("mobilenet_v1 1.0-224", 1, 90.0)


def test_there_is_none_of_one_precision_or_without_fp32() -> None:
    assert not list(choices(result_rows.results(*ROWS[:3])))
    assert not list(choices(result_rows.results(*ROWS[3:])))


def test_bench_prints_it() -> None:
    out = io.StringIO()
    terminal.print_conclusions(Console(file=out, width=160), result_rows.results(*ROWS))
    text = out.getvalue()
    assert "best of each engine at any precision within 1 % of fp32's accuracy (90.00 %)" in text
    (line,) = (line for line in text.splitlines() if "openvino" in line and "bf16" in line)
    words: Any = line.split()
    assert words[:4] == ["openvino", "bf16", "6.00", "3.00"] and "89.00 % top-1" in line
