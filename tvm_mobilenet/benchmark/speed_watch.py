"""Waits until the machine is as fast as it has been.

Two CPUs of a shared machine are at times the two hyper-threads of one core: for some seconds
everything on two threads takes 1.7 times as long. Turns taken then compare minutes, not engines.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from tvm_mobilenet.benchmark.rounds import Plan, Timed

PROBE_MS = 5.0
PROBE_RUNS = 3
SLOW = 1.25  # times the best probe; noise stays below it, a core shared with a neighbour does not
PAUSE_S = 0.2


@dataclass
class SpeedWatch:
    """One of the engines, asked before each turn; ``settle`` lets its threads fall asleep."""

    timed: Timed
    plan: Plan
    settle: Callable[[], None]
    sleep: Callable[[float], None] = time.sleep
    best_ms: float = math.inf
    waited_s: float = 0.0

    def wait(self) -> None:
        """Return when a probe takes at most ``SLOW`` times the best one, or patience is at an end.

        Raises EngineFailed.
        """
        while self.waited_s < self.plan.patience_s and self._probe() > SLOW * self.best_ms:
            self.sleep(PAUSE_S)
            self.waited_s += PAUSE_S

    def _probe(self) -> float:
        expected_ms = self.timed.expected_ms
        runs = max(PROBE_RUNS, math.ceil(PROBE_MS / expected_ms))
        median = statistics.median(self.timed.runner.run(1, runs, expected_ms))
        self.settle()
        self.best_ms = min(self.best_ms, median)
        return median
