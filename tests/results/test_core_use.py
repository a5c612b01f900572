"""Rows with the states of their core: pairs within a state, the table, and what files hold."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from rich.console import Console
from support import result_rows

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.reporting import change_words, csv_rows, markdown, terminal
from tvm_mobilenet.results import schema
from tvm_mobilenet.results.changes import Change, changes
from tvm_mobilenet.results.core_use import core_use_tables
from tvm_mobilenet.results.schema import CoreUse, ResultRow, Results, State
from tvm_mobilenet.results.statistics import compare_within_states, summarize
from tvm_mobilenet.results.tables import comparisons, noise

ROUNDS, RUNS = 25, 4
MS = {"a": 10.0, "s": 15.0}


def row(engine: str, times: float, states: str) -> ResultRow:
    """An engine that takes ``times`` as long as 10 ms alone, 15 ms shared."""
    samples = tuple(times * MS.get(one, 12.0) for one in states)
    taken = {one: [ms for ms, s in zip(samples, states, strict=True) if s == one] for one in "as"}
    alone, shared = (
        State(len(found) / len(states), found[0]) if found else None for found in taken.values()
    )
    return result_rows.row(
        engine,
        1.0,
        samples_ms=samples,
        latency_ms=summarize(samples),
        core=CoreUse(2, alone, shared, states),
    )


# ours had the neighbour for company more often than the peer
OURS = row("bundle", 1.0, ("aaaa" + "ssss" * 3 + "asas") * 5)
PEER = row("openvino", 1.2, ("aaaa" * 3 + "ssss" + "asas") * 5)


def test_ratios_are_of_what_was_taken_in_the_same_state() -> None:
    (table,) = comparisons(result_rows.results(OURS, PEER))
    ratio = table.lines[1].ratio
    assert ratio is not None and ratio.verdict == "faster"
    assert ratio.value == pytest.approx(1.2) and ratio.low == pytest.approx(1.2)
    # which samples whatever their state do not show
    plain = [result_rows.row(one.engine, 1.0, samples_ms=one.samples_ms) for one in (OURS, PEER)]
    (table,) = comparisons(result_rows.results(*plain))
    assert table.lines[1].ratio is not None and table.lines[1].ratio.low < 1


def test_never_in_the_same_state() -> None:
    peer = row("openvino", 1.2, "s" * ROUNDS * RUNS)
    results = result_rows.results(row("bundle", 1.0, "a" * ROUNDS * RUNS), peer)
    tables = comparisons(results)
    assert tables[0].lines[1].ratio is None
    (note,) = (one for one in noise(results.machine, tables) if "same state" in one)
    assert "openvino and ours were never timed in the same state of the core" in note


def test_a_few_pairs_say_nothing() -> None:
    states = "aaaa" * 3 + "mmmm" * 22
    ratio = compare_within_states([12.0] * 100, states, [10.0] * 100, states)
    assert ratio is not None and (ratio.low, ratio.high) == (0.0, float("inf"))


def test_a_chance_sample_of_a_state_makes_no_pair() -> None:
    ours = "aaaaaaas" * ROUNDS
    ratio = compare_within_states([12.0] * 200, ours, [10.0] * 200, "s" * 200)
    assert ratio is None


def test_one_state_changes_nothing() -> None:
    plain = [result_rows.row("bundle", 10.0), result_rows.row("openvino", 12.0)]
    one = [
        result_rows.row(name, ms, core=CoreUse(1))
        for name, ms in (("bundle", 10.0), ("openvino", 12.0))
    ]
    both = [comparisons(result_rows.results(*rows))[0].lines[1].ratio for rows in (plain, one)]
    assert both[0] == both[1]
    assert not core_use_tables(result_rows.results(*one))


def test_the_table_has_both_medians() -> None:
    results = result_rows.results(OURS, PEER)
    (table,) = core_use_tables(results)
    assert [round(one.slowdown or 0, 2) for one in table.engines] == [1.5, 1.5]
    out = io.StringIO()
    terminal.print_conclusions(Console(file=out, width=160), results)
    (line,) = (line for line in out.getvalue().splitlines() if line.split()[:1] == ["ours"])
    assert line.split() == ["ours", "10.00", "30", "%", "15.00", "70", "%", "1.50"]
    assert "| openvino | 12.00 | 70 % | 18.00 | 30 % | 1.50 |" in markdown.render([("r", results)])


def test_csv_has_both_medians() -> None:
    rows = csv.DictReader(io.StringIO(csv_rows.render([("r", result_rows.results(OURS))])))
    (line,) = rows
    names = ("core_states", "alone_share", "alone_p50_ms", "shared_share", "shared_p50_ms")
    assert [float(line[name]) for name in names] == [2, 0.3, 10.0, 0.7, 15.0]


def test_a_page_shows_them_once_in_words_and_for_each_network() -> None:
    pytest.importorskip("matplotlib", reason="needs pip install 'tvm-mobilenet[report]'")
    from tvm_mobilenet.reporting import html

    page = html.render([("r.json", result_rows.results(OURS, PEER))])
    page = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert (
        "in 2 rows, for 50% of the inferences by the median, where an inference took 1.50" in page
    )
    assert "Core alone and shared with a neighbour" in page
    assert "openvino 12.00 70 % 18.00 30 % 1.50" in page
    plain = html.render([("r.json", result_rows.results(result_rows.row("bundle", 1.0)))])
    assert "neighbour" not in plain


# Two runs, one after the other


def between(old: Results, new: Results) -> Change:
    (found,) = (one for one in changes([("o", old)], [("n", new)]) if one.engine == "bundle")
    return found


def both(times: float, states: str) -> Results:
    """Ours takes so many times as long, the peer as ever, in such states of the core."""
    return result_rows.results(row("bundle", times, states), row("openvino", 1.2, states))


MOSTLY_ALONE, MOSTLY_SHARED = ("aaaa" * 2 + "ssss") * 15, ("ssss" * 2 + "aaaa") * 15


@pytest.mark.parametrize(("times", "verdict"), [(1.0, "no difference"), (1.1, "slower")])
def test_runs_are_compared_within_a_state(times: float, verdict: str) -> None:
    found = between(both(1.0, MOSTLY_ALONE), both(times, MOSTLY_SHARED))
    assert found.verdict == verdict and found.references == ("openvino",)
    assert found.ratio is not None and found.ratio.value == pytest.approx(times)
    assert found.core == "alone: 67%, then 33%"
    assert found.old == 10.0 and found.new == pytest.approx(10 * times)


def test_runs_of_different_states_are_not_compared() -> None:
    alone, shared = "a" * 150 + "ssss" * 5, "s" * 150 + "aaaa" * 5
    found = between(both(1.0, alone), both(1.0, shared))
    assert found.verdict == "not comparable" and found.ratio is None
    assert found.reason.endswith("alone in 88% of the old runs, 12% of the new")


def test_one_state_beside_two_is_said() -> None:
    plain = result_rows.results(
        result_rows.row("bundle", 10.0, core=CoreUse(1)), result_rows.row("openvino", 12.0)
    )
    assert between(plain, both(1.0, MOSTLY_ALONE)).core == "one state, then two states"
    assert between(plain, plain).core == ""


def test_the_column_is_there_where_it_says_something() -> None:
    both_ways = [between(both(1.0, MOSTLY_ALONE), both(1.0, one)) for one in (MOSTLY_SHARED,)]
    header, ((*_, core, _verdict),) = change_words.table(both_ways)
    assert header[-2:] == ["core", "it is"] and core == "alone: 67%, then 33%"
    assert "second hardware thread" in change_words.reading(both_ways)
    plain = result_rows.results(result_rows.row("bundle", 10.0))
    assert "core" not in change_words.table([between(plain, plain)])[0]
    assert change_words.reading([between(plain, plain)]) == change_words.READING


def test_files_hold_it_and_files_from_before_are_read() -> None:
    results = result_rows.results(OURS, PEER, result_rows.row("litert", 1.0, core=CoreUse(1)))
    text = schema.dumps(results)
    assert schema.loads(text, "x") == results
    assert [one.get("core") for one in json.loads(text)["results"]][-1] == {"states": 1}
    old = json.loads(schema.dumps(result_rows.results(result_rows.row("bundle", 1.0))))
    assert "core" not in old["results"][0]
    assert schema.read(old).results[0].core is None


@pytest.mark.parametrize(
    ("core", "message"),
    [
        ({"states": 3}, "core.states: a core has one state or two, got 3"),
        ({"states": 2, "of_samples": "as"}, "core.of_samples: expected 100 letters"),
        ({"states": 1, "of_samples": "as"}, "core.of_samples: expected 0 letters"),
        ({"states": 2, "of_samples": "x" * 100}, "core.of_samples: expected 100 letters"),
    ],
)
def test_what_cannot_be_is_refused(core: object, message: str) -> None:
    document = json.loads(schema.dumps(result_rows.results(OURS)))
    document["results"][0]["core"] = core
    with pytest.raises(BadInput, match="results") as raised:
        schema.loads(json.dumps(document), "r.json")
    assert message in str(raised.value)
