"""What a busy neighbour costs: rows beside noise next to those without, never in one ratio."""

from __future__ import annotations

import io

from rich.console import Console
from support import result_rows

from tvm_mobilenet.reporting import csv_rows, markdown, terminal
from tvm_mobilenet.results.slowdowns import slowdown_tables
from tvm_mobilenet.results.tables import comparisons

ROWS = (
    result_rows.row("bundle", 10.0),
    result_rows.row("openvino", 12.0),
    result_rows.row("litert", 15.0),
    result_rows.row("bundle", 11.0, neighbour="memory"),
    result_rows.row("openvino", 18.0, neighbour="memory"),
    result_rows.row("bundle", 20.0, neighbour="fma"),
)


def test_an_engines_latency_beside_noise_is_over_its_own_without() -> None:
    (table,) = slowdown_tables(result_rows.results(*ROWS))
    assert (table.network, table.threads) == ("mobilenet_v1 1.0-224", 1)
    assert list(table.kinds) == ["memory", "fma"]
    found = {
        one.quiet.engine: [ratio and round(ratio, 1) for ratio in one.ratios]
        for one in table.engines
    }
    assert found == {"bundle": [1.1, 2.0], "openvino": [1.5, None], "litert": [None, None]}


def test_there_is_none_without_noise_or_of_noise_alone() -> None:
    assert not list(slowdown_tables(result_rows.results(*ROWS[:3])))
    assert not list(slowdown_tables(result_rows.results(*ROWS[3:])))


def test_ratios_to_ours_are_of_one_kind_of_noise() -> None:
    quiet, memory, fma = comparisons(result_rows.results(*ROWS))
    assert [len(one.lines) for one in (quiet, memory, fma)] == [3, 2, 1]
    assert memory.title == quiet.title + ", beside memory noise"
    ratio = memory.lines[1].ratio
    assert ratio is not None and round(ratio.value, 2) == round(18 / 11, 2)


def test_it_is_told_everywhere() -> None:
    results = result_rows.results(*ROWS)
    out = io.StringIO()
    terminal.print_conclusions(Console(file=out, width=120), results)
    assert "beside noise, mobilenet_v1 1.0-224" in out.getvalue()
    (line,) = (line for line in out.getvalue().splitlines() if line.split()[:1] == ["openvino"])
    assert line.split()[3] == "1.50"
    text = markdown.render([("r.json", results)])
    assert "| engine | quiet, ms | memory, ms | ÷ quiet | fma, ms | ÷ quiet |" in text
    rows = csv_rows.render([("r.json", results)]).splitlines()
    assert sum("beside memory noise" in row for row in rows) == 2
