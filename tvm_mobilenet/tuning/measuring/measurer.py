"""What the tuning loop sees of measuring: it hands in batches of schedules and gets outcomes back.

Whatever gives outcomes is a ``Measurer``: ``local`` times on this machine; others may ask a farm of
devices, or a model that needs no device at all. The loop knows none of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from tvm_mobilenet.tuning.workers.messages import Cause

if TYPE_CHECKING:
    import tvm

    from tvm_mobilenet.provenance import How


@dataclass
class Job:
    """One schedule to measure; ``payload`` is the caller's own."""

    trace_json: str
    payload: Any = None


@dataclass(frozen=True)
class Outcome:
    """What became of a job: ``seconds`` where it was measured, else ``cause``.

    ``spread`` is (slowest - fastest) / fastest of the repeats; ``cut`` says that one block was
    enough to see it cannot win; ``error`` is ‖a-b‖/‖b‖ against the reference, and ``reference``
    says what that was. ``cpu`` is what it was measured on, where that is not the measurer's own.
    """

    job: Job
    seconds: float | None
    cause: Cause | None = None
    detail: str = ""
    spread: float = 0.0
    cut: bool = False
    error: float = 0.0
    reference: str = ""
    cpu: str = ""


@dataclass
class Batch:
    """Jobs of one task that are measured together, with the sentinel before and after.

    ``best_s`` is the best time so far, for cutting off. A ``final`` batch is measured when nothing
    is being built, in rounds over all its jobs, none cut off.
    """

    task: int
    jobs: list[Job]
    best_s: float | None = None
    final: bool = False


@dataclass(frozen=True)
class BatchResult:
    """``drift`` is how much slower than its best the sentinel was in the quietest pass."""

    batch: Batch
    outcomes: list[Outcome]
    drift: float
    passes: int


@dataclass
class Statistics:
    """What the measuring cost. Times in seconds, memory in bytes."""

    built: int = 0
    run: int = 0
    build_s: float = 0.0
    run_s: float = 0.0
    restarts: int = 0
    repeated_batches: int = 0
    drifts: list[float] = field(default_factory=list)
    builder_rss: int = 0
    runner_rss: int = 0


class Measurer(Protocol):
    """Measures batches. Used as a context manager: ``submit``, then ``poll`` until none is pending.

    Nothing has to be ready before the first batch is submitted.
    """

    statistics: Statistics
    notes: list[str]  # for people; whoever shows them takes them away

    @property
    def how(self) -> How:
        """What every outcome's time is, for the records."""

    @property
    def cpu(self) -> str:
        """What the times are times on."""

    @property
    def pending(self) -> int:
        """Batches submitted and not yet returned."""

    @property
    def hungry(self) -> bool:
        """Whether another batch is wanted now, so that nothing is idle while it is thought out."""

    def add_task(self, task: int, mod: tvm.IRModule) -> None:
        """Make the workload ``mod`` (one function, ``main``) known as ``task``."""

    def submit(self, batch: Batch) -> None:
        """Queue a batch of a task that ``add_task`` made known."""

    def stop_building(self) -> None:
        """Forget what is not begun yet; the batches end with what is."""

    def poll(self, timeout_s: float) -> list[BatchResult]:
        """Wait at most ``timeout_s``; the batches that ended, each returned once.

        Raises RunFailed where nothing can be measured any more.
        """

    def partial(self) -> list[BatchResult]:
        """What is measured of the batches still pending, for a run that is interrupted."""

    def __enter__(self) -> Measurer: ...

    def __exit__(self, *_: object) -> None: ...
