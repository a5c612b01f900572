"""Time several engines side by side: each to its steady state, then in turns, round by round.

Only one engine runs at a time. What changes on the machine while they take turns reaches all of
them, and the rounds stay paired in the samples (see ``results.statistics``).
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tvm_mobilenet.errors import RunFailed

ROUNDS = 25
PATIENCE = 10  # times the time that an engine is measured for


@dataclass(frozen=True)
class Plan:
    """How much is measured. The defaults are the method that every published figure follows."""

    min_runs: int = 100
    min_time_s: float = 3.0
    rounds: int = ROUNDS
    # After another engine's turn caches and branch history are not this engine's own.
    unrecorded: int = 3
    steady_within: float = 0.02
    chunk_s: float = 0.3
    max_chunks: int = 20
    patience_s: float = 30.0  # how long a machine that others slow down is waited for, in all
    seed: int = 0


def make_plan(min_runs: int, min_time_s: float, patience_s: float | None = None) -> Plan:
    """The plan for so many runs and so much time of each engine; patience grows with the time."""
    return Plan(
        min_runs,
        min_time_s,
        rounds=min(ROUNDS, min_runs),
        chunk_s=min_time_s / 10,
        patience_s=PATIENCE * min_time_s if patience_s is None else patience_s,
    )


class Runner(Protocol):
    """What can be timed; ``EngineProcess`` is one."""

    def run(self, unrecorded: int, runs: int, expected_ms: float) -> list[float]:
        """Times in ms; raises RunFailed."""

    def nops_per_cycle(self) -> Sequence[float]:
        """What a core's front end had for the last run: before its first inference and after each.

        Nothing where that is not probed.
        """


@dataclass
class Timed:
    """What one engine's turns gave. ``failure`` ends its part; then the samples do not count.

    ``readings`` has the runner's ``nops_per_cycle`` of every turn.
    """

    runner: Runner
    expected_ms: float = 0.0
    runs_per_round: int = 0
    samples_ms: list[float] = field(default_factory=list)
    readings: list[Sequence[float]] = field(default_factory=list)
    steady: bool = False
    failure: str | None = None


def warm_up(timed: Timed, first_ms: float, plan: Plan) -> None:
    """Run until the medians of two successive chunks agree, or ``plan.max_chunks`` are done."""
    pilot = timed.runner.run(0, 3, first_ms)
    timed.expected_ms = min(pilot)
    previous = math.inf
    for _ in range(plan.max_chunks):
        runs = max(5, math.ceil(plan.chunk_s * 1e3 / timed.expected_ms))
        times = timed.runner.run(0, runs, timed.expected_ms)
        median = statistics.median(times)
        timed.expected_ms = min(times)
        if abs(median / previous - 1) <= plan.steady_within:
            timed.steady = True
            break
        previous = median
    # From the fastest run, so that the recorded time does not fall short of the minimum.
    runs = max(plan.min_runs, math.ceil(plan.min_time_s * 1e3 / timed.expected_ms))
    timed.runs_per_round = math.ceil(runs / plan.rounds)


def take_turns(
    engines: Mapping[str, Timed],
    plan: Plan,
    settle: Callable[[str], None],
    progress: Callable[[int, str], None],
) -> None:
    """Measure warmed-up engines in turns, in a new order each round, until all have enough.

    ``settle(name)`` is called after an engine's turn, before another's; ``progress(round, name)``
    before each turn. An engine that fails drops out, the others go on.
    """
    order = random.Random(plan.seed)
    done = 0
    while done < plan.rounds or any(_short(timed, plan) for timed in engines.values()):
        names = [name for name, timed in engines.items() if timed.failure is None]
        if not names:
            return
        order.shuffle(names)
        for name in names:
            progress(done, name)
            _turn(engines[name], plan)
            settle(name)
        done += 1


def _turn(timed: Timed, plan: Plan) -> None:
    try:
        times = timed.runner.run(plan.unrecorded, timed.runs_per_round, timed.expected_ms)
    except RunFailed as error:
        timed.failure = str(error)
    else:
        timed.samples_ms += times
        timed.readings.append(timed.runner.nops_per_cycle())


def _short(timed: Timed, plan: Plan) -> bool:
    """Whether an engine got faster after its warm-up and so has too little recorded time."""
    return timed.failure is None and sum(timed.samples_ms) < plan.min_time_s * 1e3


def drift(timed: Timed, plan: Plan) -> float:
    """Measure an engine once more at the end: its median then ÷ at the start, minus 1.

    Each of the two is the median of a fifth of its samples. Raises RunFailed.
    """
    count = max(1, len(timed.samples_ms) // 5)
    after = timed.runner.run(plan.unrecorded, count, timed.expected_ms)
    return statistics.median(after) / statistics.median(timed.samples_ms[:count]) - 1
