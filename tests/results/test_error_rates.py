"""How often a verdict is wrong, on what ``bench`` recorded: quiet, with neighbours, overloaded.

Set UPDATE_GOLDEN=1 to write the tables into docs/measuring.md.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from support.pages import REPOSITORY
from support.result_rows import MACHINE, results, row

from tvm_mobilenet.results import schema, tables
from tvm_mobilenet.results.changes import ChangeVerdict, changes
from tvm_mobilenet.results.schema import ResultRow
from tvm_mobilenet.results.statistics import BLOCKS, compare, summarize

# benchmarks/same_engine.py made it: two processes of one bundle and a peer took turns, 62 times
TWICE = REPOSITORY / "tests" / "data" / "same-engine-znver4.json"
# the machine had nothing else to do in the first of them; then other programs came and stayed
QUIET = slice(0, 12)
OVERLOADED = slice(12, None)
# of one process each, at the default length; neighbours of the shared host came and went
DEMO = REPOSITORY / "benchmarks" / "results" / "x86-znver5-demo.json"
PAGE = REPOSITORY / "docs" / "measuring.md"
REPEATS, DIFFERENCE = 100, 1.03
Array = NDArray[np.float64]
Pair = tuple[Array, Array]  # of rounds by runs


@dataclasses.dataclass(frozen=True)
class Rates:
    """Of so many repeats: two equal sides that were told apart, a true 3 % that was found."""

    same: int
    found: int

    @property
    def cells(self) -> str:
        return f"{self.same} | {self.found}"


def twice(runs: slice, threads: int) -> list[Pair]:
    """The two processes of the recorded runs."""
    document = json.loads(TWICE.read_text(encoding="utf-8"))
    unit = document["unit_ms"]
    found = []
    for run in document["runs"][runs]:
        if run["threads"] == threads:
            sides = [
                np.array(run["samples"][name].split(), float) * unit for name in ("first", "second")
            ]
            found.append((in_rounds(sides[0], BLOCKS), in_rounds(sides[1], BLOCKS)))
    return found


def turns_of_one(threads: int) -> list[Pair]:
    """Each row of the demo as two engines: of two turns that follow each other one goes to each.

    A side has half of the default length.
    """
    order, found = np.random.default_rng(threads), []
    for one in schema.load(DEMO).results:
        if one.threads == threads:
            turns = in_rounds(np.array(one.samples_ms), 2 * BLOCKS).reshape(BLOCKS, 2, -1)
            first = order.integers(2, size=BLOCKS)
            rounds = np.arange(BLOCKS)
            found.append((turns[rounds, first], turns[rounds, 1 - first]))
    return found


def in_rounds(samples: Array, rounds: int) -> Array:
    whole = samples.size // rounds
    return samples[: whole * rounds].reshape(rounds, whole)


def repeats(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """A hundred runs of a recording: its rounds, stretches of five at a time, drawn again."""
    random = np.random.default_rng(0)
    for number in range(REPEATS):
        first, second = pairs[number % len(pairs)]
        begins = random.integers(BLOCKS, size=BLOCKS // 5)
        rounds = (begins[:, None] + np.arange(5)).ravel() % BLOCKS
        sides = [first[rounds].ravel(), second[rounds].ravel()]
        if random.integers(2):
            sides.reverse()
        yield sides[0], sides[1]


def rates(pairs: Sequence[Pair]) -> Rates:
    same = found = 0
    for number, (one, other) in enumerate(repeats(pairs)):
        same += compare(list(one), list(other)).verdict == "no difference"
        if number % 2:
            found += compare(list(one * DIFFERENCE), list(other)).verdict == "faster"
        else:
            found += compare(list(one), list(other * DIFFERENCE)).verdict == "slower"
    return Rates(same, found)


RECORDINGS: dict[str, Callable[[], list[Pair]]] = {
    "Zen 4, nothing else runs, 1 thread": lambda: twice(QUIET, 1),
    "Zen 4, nothing else runs, 2 threads": lambda: twice(QUIET, 2),
    "Zen 5, neighbours come and go, 1 thread": lambda: turns_of_one(1),
    "Zen 5, neighbours come and go, 2 threads": lambda: turns_of_one(2),
    "Zen 4, 3 to 9 other programs on its 2 CPUs, 1 thread": lambda: twice(OVERLOADED, 1),
    "Zen 4, 3 to 9 other programs on its 2 CPUs, 2 threads": lambda: twice(OVERLOADED, 2),
}


@pytest.fixture(scope="module")
def measured() -> dict[str, Rates]:
    return {name: rates(recorded()) for name, recorded in RECORDINGS.items()}


def test_equal_engines_are_not_told_apart(measured: dict[str, Rates]) -> None:
    """An overloaded machine included."""
    assert {name: one.same for name, one in measured.items() if one.same < 95} == {}


def test_three_per_cent_are_found(measured: dict[str, Rates]) -> None:
    able = {name: one.found for name, one in measured.items() if "other programs" not in name}
    assert len(able) == 4 and {name: found for name, found in able.items() if found < 80} == {}


def rows_of_runs(runs: slice, threads: int) -> list[dict[str, tuple[float, ...]]]:
    document = json.loads(TWICE.read_text(encoding="utf-8"))
    return [
        {
            name: tuple(float(one) * document["unit_ms"] for one in text.split())
            for name, text in run["samples"].items()
        }
        for run in document["runs"][runs]
        if run["threads"] == threads
    ]


def as_row(engine: str, samples: tuple[float, ...], times: float = 1.0) -> ResultRow:
    slower = tuple(one * times for one in samples)
    return dataclasses.replace(
        row(engine, 1.0), samples_ms=slower, latency_ms=summarize(slower), engine_version="1"
    )


def verdicts(
    runs: slice, threads: int, times: float = 1.0, *, reference: bool = True
) -> list[ChangeVerdict]:
    """Of every run against every later one, of which ours takes so many times as long."""
    found = []
    for old, new in itertools.combinations(rows_of_runs(runs, threads), 2):
        before, after = [as_row("bundle", old["first"])], [as_row("bundle", new["second"], times)]
        if reference:
            before.append(as_row("peer", old["onnxruntime"]))
            after.append(as_row("peer", new["onnxruntime"]))
        (change,) = changes([("old", results(*before))], [("new", results(*after))])
        found.append(change.verdict)
    return found


@pytest.fixture(scope="module")
def across() -> dict[str, str]:
    """The cells of the table for two runs: equal, and slower by 3 % and by 5 %."""
    found = {}
    for name, runs in (("nothing else runs", QUIET), ("any two of the 62", slice(None))):
        for threads in (1, 2):
            same, three, five = (verdicts(runs, threads, times) for times in (1.0, 1.03, 1.05))
            comparable = len(same) - same.count("not comparable")
            wrong = comparable - same.count("no difference")
            found[f"{name}, {threads} thread{'s' if threads > 1 else ''}"] = " | ".join(
                [
                    f"{comparable} of {len(same)}",
                    f"{wrong}",
                    f"{three.count('slower')}",
                    f"{five.count('slower')}",
                ]
            )
    return found


def test_two_runs_of_the_same_are_seldom_told_apart(across: dict[str, str]) -> None:
    for name, cells in across.items():
        comparable, wrong, *_ = cells.split(" | ")
        assert int(wrong) <= 0.05 * int(comparable.split()[0]), (name, cells)


def test_five_per_cent_between_two_quiet_runs_are_found(across: dict[str, str]) -> None:
    """On one thread: on two the peer is too unsteady to be a good reference."""
    comparable, _, _, five = across["nothing else runs, 1 thread"].split(" | ")
    assert int(five) >= 0.8 * int(comparable.split()[0])


def test_an_overloaded_run_says_what_it_could_not_tell() -> None:
    run = rows_of_runs(OVERLOADED, 2)[3]
    rows = [as_row("bundle", run["first"]), as_row("bundle:b", run["second"])]
    notes = tables.noise(MACHINE, tables.comparisons(results(*rows)))
    assert any("may differ from ours by less than" in note for note in notes)
    quiet = rows_of_runs(QUIET, 1)[1]
    rows = [as_row("bundle", quiet["first"]), as_row("bundle:b", quiet["second"])]
    assert not tables.noise(MACHINE, tables.comparisons(results(*rows)))


def test_the_page_has_the_rates(measured: dict[str, Rates], across: dict[str, str]) -> None:
    within = [
        "| recording | equal: no difference | 3 % apart: found |",
        "|---|--:|--:|",
        *(f"| {name} | {one.cells} |" for name, one in measured.items()),
    ]
    between = [
        "| runs on Zen 4 | comparable | equal, but told apart | 3 % slower: found | 5 %: found |",
        "|---|--:|--:|--:|--:|",
        *(f"| {name} | {cells} |" for name, cells in across.items()),
    ]
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in (("within a run", within), ("between runs", between)):
        begin, end = f"<!-- error rates {name} -->\n", "\n<!-- error rates end -->"
        block = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        assert block.search(text), f"{PAGE.name} has no block {begin!r}"
        text = block.sub(begin + "\n".join(lines) + end, text)
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text
