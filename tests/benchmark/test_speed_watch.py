"""The watch over a machine's speed: waits while the machine is slow, and not for ever."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest

from tvm_mobilenet.benchmark.rounds import Plan, Timed
from tvm_mobilenet.benchmark.speed_watch import PAUSE_S, PROBE_MS, PROBE_RUNS, SLOW, SpeedWatch


@dataclass
class Scripted:
    """Each probe takes the next of ``medians``, in ms; the numbers of runs are kept."""

    medians: Iterable[float]
    runs: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._medians = iter(self.medians)

    def run(self, unrecorded: int, runs: int, expected_ms: float) -> list[float]:
        self.runs.append(runs)
        return [next(self._medians)] * runs

    def nops_per_cycle(self) -> Sequence[float]:
        return ()


def watching(*medians: float, patience_s: float = 10.0) -> tuple[SpeedWatch, Scripted, list[float]]:
    """With what it asks, and how long it has slept each time."""
    runner = Scripted(medians)
    pauses: list[float] = []
    timed = Timed(runner, expected_ms=2.0)
    plan = Plan(patience_s=patience_s)
    return SpeedWatch(timed, plan, lambda: None, pauses.append), runner, pauses


def test_a_slow_stretch_is_waited_out() -> None:
    watch, runner, pauses = watching(3.0, 3.0 * SLOW, 5.1, 5.2, 3.1)
    for _ in range(3):
        watch.wait()
    assert pauses == [PAUSE_S, PAUSE_S], "noise is no reason to wait, 1.7 times the best is"
    assert watch.waited_s == pytest.approx(2 * PAUSE_S) and watch.best_ms == 3.0
    assert runner.runs == [PROBE_RUNS] * 5


def test_a_machine_that_stays_slow_is_taken_as_it_is() -> None:
    watch, runner, pauses = watching(3.0, *[6.0] * 100, patience_s=1.0)
    for _ in range(20):
        watch.wait()
    assert sum(pauses) == pytest.approx(1.0)
    assert len(runner.runs) == 1 + round(1.0 / PAUSE_S), "and it is not asked any more"


def test_no_patience_no_probe() -> None:
    watch, runner, _ = watching(patience_s=0.0)
    watch.wait()
    assert runner.runs == []


def test_small_networks_are_run_more_often() -> None:
    watch, runner, _ = watching(0.1)
    watch.timed.expected_ms = 0.1
    watch.wait()
    assert runner.runs == [PROBE_MS / 0.1]
