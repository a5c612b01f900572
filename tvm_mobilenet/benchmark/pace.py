"""How long a sweep will take: guessed beforehand, and by its own pace once it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tvm_mobilenet.benchmark.rounds import Plan

# Seconds on a machine with two cores: to compile a network, and for an engine to load, be verified
# and warm up beyond the time that it is measured for.
COMPILE_S, START_S = 8.0, 3.0
SLOW_STARTS_S = {"torch-compile": 17.0}  # it compiles in its first run
WARM_UP = 1.2  # times the time that an engine is measured for


def guess_s(networks: int, threads: int, against: Sequence[str], plan: Plan) -> float:
    """Seconds for so many networks, each on so many thread counts beside these peers."""
    starts = START_S + sum(SLOW_STARTS_S.get(name, START_S) for name in against)
    measured = (1 + len(against)) * plan.min_time_s * (1 + WARM_UP)
    return networks * (COMPILE_S + threads * (starts + measured))


@dataclass
class Pace:
    """``total`` measurements, of which ``done`` were made since it began."""

    total: int
    done: int = 0
    now: Callable[[], float] = time.monotonic
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.now()

    def __str__(self) -> str:
        """Where it stands, and the time left as soon as that can be known."""
        stands = f"{self.done + 1} of {self.total}"
        if not self.done:
            return stands
        left = (self.now() - self.began) / self.done * (self.total - self.done)
        return f"{stands}, {about(left)} left"


def about(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"about {minutes} min"
    return f"about {minutes // 60} h {minutes % 60:02} min"
