"""A tuning run as it stands: its tasks and what came of them."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from tvm_mobilenet.scheduling.space import Candidate, KernelSpace
from tvm_mobilenet.tuning.request import Budget
from tvm_mobilenet.tuning.search.strategy import Search


@dataclass
class Task:
    """One workload and how far its search is. Times in seconds for one call."""

    number: int
    name: str
    count: int
    flops: int
    space: KernelSpace
    search: Search
    share: float = 0.0
    trials: int = 0  # with those of the runs it resumes
    new: int = 0  # in this run
    settled: bool = False  # a run before measured its best side by side
    in_flight: int = 0
    since_gain: int = 0
    best_s: float | None = None
    best: Candidate | None = None
    default_s: float | None = None
    measured: dict[str, tuple[float, Candidate]] = field(default_factory=dict)
    seeds: dict[str, str] = field(default_factory=dict)  # trace key → the folder it came from
    seed_times: dict[str, float] = field(default_factory=dict)  # of those, measured here
    failures: Counter[str] = field(default_factory=Counter)
    ended: str = ""  # why no more is tried

    @property
    def gflops(self) -> float:
        return self.flops / self.best_s / 1e9 if self.best_s else 0.0

    @property
    def gain(self) -> float | None:
        """How many times faster than the default the best is."""
        return self.default_s / self.best_s if self.default_s and self.best_s else None


@dataclass
class State:
    """A tuning run as progress shows it and the summary tells it. Times in seconds."""

    tasks: list[Task]
    budget: Budget
    started: float = field(default_factory=time.monotonic)
    trials: int = 0  # in this run
    records: int = 0  # written by this run
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)  # cause → its first detail
    curve: list[tuple[float, float]] = field(default_factory=list)  # elapsed, network's kernels
    skipped: list[str] = field(default_factory=list)
    what: str = ""  # is tuned: the network, or all of its variants
    phase: str = "searching"

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    @property
    def network_s(self) -> float | None:
        """One inference as the sum of its kernels' best times; None until each has one."""
        if not self.tasks or any(task.best_s is None for task in self.tasks):
            return None
        return sum(task.count * (task.best_s or 0.0) for task in self.tasks)

    @property
    def default_s(self) -> float | None:
        """The same with the schedules that need no tuning."""
        if not self.tasks or any(task.default_s is None for task in self.tasks):
            return None
        return sum(task.count * (task.default_s or 0.0) for task in self.tasks)

    @property
    def time_left(self) -> float | None:
        """Until the budget's time, or at this pace its trials, are used up."""
        left = []
        if self.budget.time_s is not None:
            left.append(self.budget.time_s - self.elapsed)
        if self.budget.trials is not None and self.trials:
            left.append((self.budget.trials - self.trials) * self.elapsed / self.trials)
        return max(0.0, min(left)) if left else None


class Progress(Protocol):
    """What watches a run."""

    def batch(self, state: State, task: Task, drift: float) -> None: ...
    def tick(self, state: State) -> None: ...
    def note(self, text: str) -> None: ...
