"""The tasks of a tuning run: a network's distinct kernels, each with what is known of it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import tvm_ffi

from tvm_mobilenet.database.entries import Record
from tvm_mobilenet.database.store import Records
from tvm_mobilenet.scheduling.rules import NoRule
from tvm_mobilenet.scheduling.space import KernelSpace, Rejected, workload_module
from tvm_mobilenet.tuning.search.state import Task
from tvm_mobilenet.tuning.search.strategy import CostModel, Search

if TYPE_CHECKING:
    from tvm import tirx
    from tvm.target import Target

FINALISTS = 3  # fastest schedules of a task that are measured once more, beside its default
MIN_SHARE = 0.25  # of an equal split: what even the smallest task gets
SEEDS = 4  # best schedules of each older record folder that are tried first


class Workload(Protocol):
    """What is tuned: a pipeline.Kernel."""

    @property
    def name(self) -> str: ...
    @property
    def func(self) -> tirx.PrimFunc: ...
    @property
    def count(self) -> int: ...
    @property
    def flops(self) -> int: ...


def make_tasks(
    kernels: Sequence[Workload],
    target: Target,
    records: Records,
    *,
    resume: bool = False,
    transfer: Mapping[str, Records] | None = None,
    seed: int = 0,
    modelled: bool = False,
) -> tuple[list[Task], list[str]]:
    """The tasks for the distinct kernels, and why others are none.

    With ``resume`` what ``records`` know is not measured again; without, their best are the first
    to be measured, as are those of ``transfer`` (folder → records of any target). Times from a
    model and measured ones do not compare: only those of the kind that this run adds are known.
    """
    model = CostModel()
    sources = {} if resume else {str(records.directory): records}
    sources.update(transfer or {})
    known = Known(records, modelled) if resume else None
    found, skipped = distinct(kernels, target, seed)
    tasks = [
        _make_task(number, one, model, known, sources, seed) for number, one in enumerate(found)
    ]
    _share(tasks)
    return tasks, skipped


@dataclass
class Distinct:
    """A kernel that is unlike all others, with its space; ``count`` calls of all that equal it."""

    kernel: Workload
    space: KernelSpace
    count: int


def distinct(
    kernels: Iterable[Workload], target: Target, seed: int = 0
) -> tuple[list[Distinct], list[str]]:
    """The kernels that can be tuned, each once, and why others cannot."""
    found: dict[int, list[Distinct]] = {}  # by hash
    skipped: dict[str, None] = {}
    for kernel in kernels:
        mod = workload_module(kernel.func)
        alike = found.setdefault(int(tvm_ffi.structural_hash(mod)), [])
        same = [one for one in alike if tvm_ffi.structural_equal(one.space.mod, mod)]
        if same:
            same[0].count += kernel.count
            continue
        try:
            space = KernelSpace(kernel.func, target, seed + 1)
        except (NoRule, Rejected) as error:
            skipped[f"{kernel.name}: {error}"] = None
            continue
        alike.append(Distinct(kernel, space, kernel.count))
    return [one for alike in found.values() for one in alike], list(skipped)


@dataclass(frozen=True)
class Known:
    """What records know that a run of the same kind need not find out again."""

    records: Records
    modelled: bool

    def of(self, space: KernelSpace) -> tuple[list[Record], list[str]]:
        """The space's records, best first, and the keys of what failed."""
        workload = self.records.find(space.mod)
        if workload is None:
            return [], []
        ranked = [
            one for one in self.records.ranked(workload) if one.info.modelled == self.modelled
        ]
        failed = [
            one.trace_key
            for one in self.records.failures
            if one.workload == workload and (self.modelled or one.cause != "not modelled")
        ]
        return ranked, failed


def _make_task(
    number: int,
    found: Distinct,
    model: CostModel,
    before: Known | None,
    sources: Mapping[str, Records],
    seed: int,
) -> Task:
    kernel, space = found.kernel, found.space
    seeds: dict[str, str] = {}
    traces = []
    for folder, source in sources.items():
        workload = source.find(space.mod)
        for record in [] if workload is None else source.ranked(workload)[:SEEDS]:
            if record.trace_key not in seeds:
                seeds[record.trace_key] = folder
                traces.append(record.trace_json)
    known: dict[str, float | None] = {}
    ranked: list[Record] = []
    times: list[tuple[str, float]] = []
    if before is not None:
        ranked, failed = before.of(space)
        times = [(record.trace_json, record.seconds) for record in ranked]
        known = {record.trace_key: record.seconds for record in ranked}
        known |= dict.fromkeys(failed)
    rng = random.Random(seed * 1_000_003 + number)
    search = Search(space, model, rng, seeds=traces, known=known, known_times=times)
    task = Task(number, kernel.name, found.count, kernel.flops, space, search, seeds=seeds)
    task.trials = len(known)
    last = max((one.info for one in ranked), key=lambda one: (one.date, one.final), default=None)
    task.settled = last is not None and last.final
    task.best_s = min((seconds for _, seconds in times), default=None)
    task.default_s = known.get(space.default.key)
    for record in ranked[:FINALISTS]:  # rivals of what this run finds
        with contextlib.suppress(Rejected):
            task.measured[record.trace_key] = (record.seconds, space.replay(record.trace_json))
    if task.default_s is not None:
        task.measured[space.default.key] = (task.default_s, space.default)
    return task


def _share(tasks: Sequence[Task]) -> None:
    """Give each task its share of the trials: FLOPs times count, and no task next to nothing."""
    total = sum(task.flops * task.count for task in tasks) or 1
    for task in tasks:
        task.share = max(task.flops * task.count / total, MIN_SHARE / len(tasks))
