"""The tasks of a tuning run: a network's distinct kernels, each with what is known of it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from tvm_mobilenet.tuning.record_store import Record, Records
from tvm_mobilenet.tuning.search import CostModel, Search
from tvm_mobilenet.tuning.space import KernelSpace, NoRule, Rejected
from tvm_mobilenet.tuning.state import Task

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
) -> tuple[list[Task], list[str]]:
    """The tasks for the distinct kernels, and why others are none.

    With ``resume`` what ``records`` know is not measured again; without, their best are the first
    to be measured, as are those of ``transfer`` (folder → records of any target).
    """
    model = CostModel()
    sources = {} if resume else {str(records.directory): records}
    sources.update(transfer or {})
    tasks: list[Task] = []
    skipped = []
    for kernel in kernels:
        try:
            space = KernelSpace(kernel.func, target, seed + 1)
        except (NoRule, Rejected) as error:
            skipped.append(f"{kernel.name}: {error}")
            continue
        same = next((t for t in tasks if _equal(t.space, space)), None)
        if same is not None:
            same.count += kernel.count
            continue
        tasks.append(_make_task(len(tasks), kernel, space, model, records, resume, sources, seed))
    _share(tasks)
    return tasks, skipped


def _make_task(
    number: int,
    kernel: Workload,
    space: KernelSpace,
    model: CostModel,
    records: Records,
    resume: bool,
    sources: Mapping[str, Records],
    seed: int,
) -> Task:
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
    workload = records.find(space.mod) if resume else None
    if workload is not None:
        ranked = records.ranked(workload)
        times = [(record.trace_json, record.seconds) for record in ranked]
        known = {record.trace_key: record.seconds for record in ranked}
        known |= {one.trace_key: None for one in records.failures if one.workload == workload}
    rng = random.Random(seed * 1_000_003 + number)
    search = Search(space, model, rng, seeds=traces, known=known, known_times=times)
    task = Task(number, kernel.name, kernel.count, kernel.flops, space, search, seeds=seeds)
    task.trials = len(known)
    task.best_s = min((seconds for _, seconds in times), default=None)
    task.default_s = known.get(space.default.key)
    for record in ranked[:FINALISTS]:  # rivals of what this run finds
        with contextlib.suppress(Rejected):
            task.measured[record.trace_key] = (record.seconds, space.replay(record.trace_json))
    if task.default_s is not None:
        task.measured[space.default.key] = (task.default_s, space.default)
    return task


def _equal(one: KernelSpace, other: KernelSpace) -> bool:
    import tvm_ffi

    if one.default.structure != other.default.structure:
        return False
    return bool(tvm_ffi.structural_equal(one.mod, other.mod))


def _share(tasks: Sequence[Task]) -> None:
    """Give each task its share of the trials: FLOPs times count, and no task next to nothing."""
    total = sum(task.flops * task.count for task in tasks) or 1
    for task in tasks:
        task.share = max(task.flops * task.count / total, MIN_SHARE / len(tasks))
