"""Warm-up and turns, driven by runners that make up their times; no clock takes part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat

import pytest

from tvm_mobilenet.benchmark.rounds import Plan, Timed, drift, take_turns, warm_up
from tvm_mobilenet.errors import RunFailed


@dataclass
class Scripted:
    """Each call takes its runs' time in ms from ``medians``; the calls are kept."""

    medians: Iterable[float]
    calls: list[tuple[int, int]] = field(default_factory=list)
    fails_at: int | None = None

    def __post_init__(self) -> None:
        self._medians = iter(self.medians)

    def run(self, unrecorded: int, runs: int, expected_ms: float) -> list[float]:
        if len(self.calls) == self.fails_at:
            raise RunFailed("its process ended")
        self.calls.append((unrecorded, runs))
        return [next(self._medians)] * runs

    def nops_per_cycle(self) -> Sequence[float]:
        return ()


def steady(ms: float) -> Scripted:
    return Scripted(repeat(ms))


def turns(engines: dict[str, Timed], plan: Plan) -> list[str]:
    """Take turns; the engine settled after each."""
    settled: list[str] = []
    take_turns(engines, plan, settled.append, lambda done, name: None)
    return settled


def warmed(runner: Scripted, plan: Plan) -> Timed:
    timed = Timed(runner)
    warm_up(timed, 1.0, plan)
    runner.calls.clear()
    return timed


def test_warm_up_ends_when_two_chunks_agree() -> None:
    runner = Scripted(chain([9, 5, 4, 3, 2.95], repeat(1)))
    timed = Timed(runner)
    warm_up(timed, 20.0, Plan())
    assert timed.steady
    assert len(runner.calls) == 5  # the pilot, then chunks until 2.95 against 3


def test_warm_up_is_bounded() -> None:
    falling = Scripted(0.9**i * 100 for i in range(100))
    timed = Timed(falling)
    warm_up(timed, 100.0, Plan(max_chunks=6))
    assert not timed.steady
    assert len(falling.calls) == 7


@pytest.mark.parametrize(
    ("ms", "runs"),
    [
        pytest.param(500, 4, id="slow: 100 runs in 25 rounds"),
        pytest.param(10, 12, id="3 s of 10 ms in 25 rounds"),
        pytest.param(0.1, 1200, id="3 s of 0.1 ms in 25 rounds"),
    ],
)
def test_runs_per_round(ms: float, runs: int) -> None:
    assert warmed(steady(ms), Plan()).runs_per_round == runs


def test_every_engine_gets_enough_runs_and_time() -> None:
    plan = Plan()
    engines = {name: warmed(steady(ms), plan) for name, ms in (("a", 40.0), ("b", 0.5))}
    turns(engines, plan)
    for timed in engines.values():
        assert len(timed.samples_ms) >= 100
        assert sum(timed.samples_ms) >= 3000


def test_an_engine_that_gets_faster_gets_more_rounds() -> None:
    plan = Plan(rounds=5, min_time_s=0.1, min_runs=5)
    faster = Scripted(chain([10, 10, 10], repeat(6)))
    engines = {"faster": warmed(faster, plan), "other": warmed(steady(10), plan)}
    turns(engines, plan)
    assert sum(engines["faster"].samples_ms) >= 100
    # and the other as many, so that the rounds stay paired
    assert len(engines["other"].runner.calls) == len(faster.calls) > 5  # type: ignore[attr-defined]


def test_engines_take_turns_in_changing_order() -> None:
    plan = Plan(rounds=8, min_time_s=0.01, min_runs=8)
    engines = {name: warmed(steady(10), plan) for name in "abc"}
    settled = turns(engines, plan)
    rounds = [settled[i : i + 3] for i in range(0, len(settled), 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1


def test_every_turn_begins_unrecorded() -> None:
    plan = Plan(rounds=4, min_time_s=0.04, min_runs=8)
    runner = steady(10)
    turns({"a": warmed(runner, plan)}, plan)
    assert runner.calls == [(3, 2)] * 4


def test_a_failing_engine_drops_out_and_the_others_go_on() -> None:
    plan = Plan(rounds=5, min_time_s=0.05, min_runs=5)
    engines = {"good": warmed(steady(10), plan), "bad": warmed(steady(10), plan)}
    engines["bad"].runner.fails_at = 2  # type: ignore[attr-defined]
    turns(engines, plan)
    assert engines["bad"].failure == "its process ended"
    assert engines["good"].failure is None
    assert len(engines["good"].samples_ms) == 5


def test_turns_end_when_every_engine_failed() -> None:
    plan = Plan(rounds=5, min_time_s=0.05, min_runs=5)
    bad = warmed(steady(10), plan)
    bad.runner.fails_at = 0  # type: ignore[attr-defined]
    assert turns({"bad": bad}, plan) == ["bad"]


@pytest.mark.parametrize(("later", "moved"), [(10, 0.0), (11, 0.1)])
def test_drift(later: float, moved: float) -> None:
    timed = Timed(steady(later), expected_ms=10, samples_ms=[10.0] * 50 + [30.0] * 50)
    assert drift(timed, Plan()) == pytest.approx(moved)
