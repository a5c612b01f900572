"""Rows to comparisons: who is compared with whom, the summary, and the notes on noise."""

from __future__ import annotations

import dataclasses

import pytest
from support import result_rows
from support.result_rows import results, row

from tvm_mobilenet.reporting import words
from tvm_mobilenet.results.schema import ResultRow
from tvm_mobilenet.results.statistics import summarize
from tvm_mobilenet.results.tables import comparisons, noise, summaries


def test_rows_of_one_network_and_thread_count_are_one_comparison() -> None:
    rows = [row("bundle", 9), row("pytorch", 20), row("bundle", 5, threads=2), row("pytorch", 11)]
    tables = comparisons(results(*rows))
    assert [[line.row.engine for line in table.lines] for table in tables] == [
        ["bundle", "pytorch", "pytorch"],
        ["bundle"],
    ]
    assert tables[1].title == "mobilenet_v1 1.0-224, fp32, 2 threads, native"


def test_ratios_refer_to_ours() -> None:
    (table,) = comparisons(results(row("pytorch", 20), row("bundle", 10), row("openvino", None)))
    pytorch, ours, openvino = table.lines
    assert table.baseline is ours.row
    assert pytorch.ratio is not None and pytorch.ratio.value == pytest.approx(2, rel=0.01)
    assert ours.ratio is None and openvino.ratio is None


def test_without_ours_ratios_refer_to_the_first_engine() -> None:
    rows = [row("openvino", None), row("pytorch", 20), row("onnxruntime", 10)]
    (table,) = comparisons(results(*rows))
    assert table.baseline is table.lines[1].row
    assert words.reference_name(table) == "pytorch"
    assert table.fastest_peer() is None


def test_where_ours_failed_there_are_no_ratios() -> None:
    (table,) = comparisons(results(row("bundle", None), row("pytorch", 20)))
    assert table.baseline is None
    assert [line.ratio for line in table.lines] == [None, None]


def test_several_bundles_and_their_labels() -> None:
    rows = [row("bundle:a", 9, tuned=True), row("bundle:b", 10), row("pytorch", 8)]
    (table,) = comparisons(results(*rows))
    labels = [line.label for line in table.lines]
    assert labels == ["bundle:a, tuned", "bundle:b, default schedules", "pytorch"]
    fastest = table.fastest_peer()
    assert fastest is not None and fastest.label == "pytorch"


def variant(resolution: int, ours_ms: float, threads: int = 1) -> list[ResultRow]:
    other = {"resolution": resolution, "threads": threads}
    engines = {"bundle": ours_ms, "onnxruntime": 10.0, "pytorch": 20.0, "openvino": None}
    return [row(engine, ms, **other) for engine, ms in engines.items()]


def test_summary_over_networks() -> None:
    rows = [*variant(224, 8.0), *variant(192, 12.5), *variant(160, 10.0), *variant(224, 5, 2)]
    (summary,) = summaries(comparisons(results(*rows)))
    assert summary.threads == 1
    assert [v.peer for v in summary.variants] == ["onnxruntime"] * 3
    assert summary.geometric_mean == pytest.approx(1.0, rel=0.01)
    assert summary.worst.name == "mobilenet_v1 1.0-192"
    assert summary.verdicts == {"faster": 1, "slower": 1, "no difference": 1}
    assert "faster on 1, slower on 1, no difference on 1" in words.summary_sentence(summary)


def test_a_quiet_measurement_has_no_notes() -> None:
    file = results(row("bundle", 9), row("openvino", None))
    assert noise(file.machine, comparisons(file)) == []


def test_noise_is_said_aloud() -> None:
    unsteady = tuple([9.0, 10.5, 12.0] * 40)
    drifting = tuple([9.0] * 50 + [9.7] * 50)
    file = results(
        row("bundle", 9), row("pytorch", 9, samples_ms=unsteady), row("x", 9, samples_ms=drifting)
    )
    machine = dataclasses.replace(file.machine, load_average=(0.7, 0.1, 0.1))
    busy, wide, drift, unresolved = noise(machine, comparisons(file))
    assert "load average 0.70 on 2 cores" in busy
    assert "pytorch was unsteady: the middle half of its runs spans 29% of the median" in wide
    assert "x drifted by +7.8%" in drift
    assert "x may differ from ours by less than 8%: the run was too noisy to tell" in unresolved


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.18449, "0.184"), (11.094, "11.09"), (470.6, "471"), (None, words.NONE)],
)
def test_milliseconds(value: float | None, shown: str) -> None:
    assert words.milliseconds(value) == shown


@pytest.mark.parametrize(("runs", "known"), [(99, False), (100, True)])
def test_p90_only_where_the_runs_support_it(runs: int, known: bool) -> None:
    times = tuple([9.0, 10.0, 11.0] * 40)[:runs]
    one = row("bundle", 9, samples_ms=times, latency_ms=summarize(times))
    (table,) = comparisons(results(one))
    assert (words.latency_cells(table, table.lines[0])[2] != words.NONE) is known


def test_a_row_not_run_says_why() -> None:
    (table,) = comparisons(results(row("openvino", None)))
    cells = words.latency_cells(table, table.lines[0])
    assert cells[-1] == "not run"
    assert len(cells) == len(words.latency_header(table))
    assert words.remarks(table) == [
        "openvino was not run: openvino is not installed: pip install it"
    ]


def test_rows_of_another_machine_record() -> None:
    assert "governor unknown" in words.machine_line(
        dataclasses.replace(result_rows.MACHINE, governor=None)
    )
