"""A tuning run from its request to its last line: records opened, tasks made, searched, told.

``tune`` is the command line around it.
"""

from __future__ import annotations

import contextlib
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tvm_mobilenet.database import lookup
from tvm_mobilenet.database.store import Records
from tvm_mobilenet.errors import BadInput, RunFailed, TvmMobilenetError
from tvm_mobilenet.tuning import kernels, progress, report, setup
from tvm_mobilenet.tuning.request import (
    TuneRequest,
    check_conditions,
    check_toolchain,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tvm_mobilenet.compiler.pipeline import Kernel
    from tvm_mobilenet.tuning.measuring.measurer import Measurer
    from tvm_mobilenet.tuning.search.state import State
    from tvm_mobilenet.tuning.workers.messages import Settings

PACE = 4.0  # candidates a second on two busy Zen 5 cores, for the estimate of a preview


def check(request: TuneRequest) -> None:
    """Raise BadInput, before any work, for a request that names or needs what is not there."""
    request.networks.check()
    check_conditions(request.conditions, request.target)


def tune(request: TuneRequest) -> None:
    """Search schedules for the networks' kernels; every measurement becomes a record.

    Tells people about it: progress on stderr, the end of the run on stdout. Raises BadInput where
    nothing can be tuned, RunFailed where nothing was measured or the run could not go on.
    KeyboardInterrupt passes through; what was measured by then is in the records.
    """
    check_toolchain(request)
    with ExitStack() as stack:
        transfer = {str(log): Records.open(log, None) for log in _logs_to_try(request)}
        directory = request.work_dir or lookup.make_work_directory(request.target)
        records = stack.enter_context(
            Records.open(directory, request.target, writable=True, skip_bad_lines=request.resume)
        )
        for problem in records.problems:
            print(f"skipped {problem}", file=sys.stderr)
        settings = setup.make_settings(request)
        measurer = stack.enter_context(setup.make_measurer(request, settings))
        records.check_conditions(settings.threads, settings.cache, measurer.how)
        state = _begin(request, records, transfer)
        _search(state, records, settings, measurer)


def preview(request: TuneRequest) -> Sequence[str]:
    """What a run would tune and how long it might take, line by line; nothing is measured."""
    from tvm_mobilenet.tuning.search.tasks import distinct

    found, skipped = distinct(_load_kernels(request), request.target.tvm_target())
    _check_any(request, len(found), skipped)
    budget, points, lines = request.budget, 0, []
    for one in found:
        size, flops = one.space.size, one.kernel.flops / 1e6
        points += min(size, budget.trials_per_task or size)
        lines.append(f"{one.kernel.name}: {one.count} calls, {flops:.1f} MFLOP, {size} points")
    lines += [f"not tuned: {line}" for line in skipped]
    trials = within = min(points, budget.trials or points)
    limit = ""
    if budget.time_s is not None:
        within = min(trials, int(budget.time_s * PACE))
        minutes = budget.time_s / 60
        limit = f", of which the time budget of {minutes:.1f} min allows about {within}"
    lines.append(
        f"{len(found)} tasks, at most {trials} trials{limit}: about {within / PACE / 60:.1f} min "
        f"at {PACE:.0f} a second; a task ends {budget.early_stopping} trials after its last gain"
    )
    return lines


def _logs_to_try(request: TuneRequest) -> Sequence[Path]:
    """The logs whose best schedules are measured first."""
    if request.work_dir is not None:
        return request.transfer
    own = lookup.work_directory(request.target)
    return [
        *request.transfer,
        *(log for log in lookup.existing_logs(request.target) if log != own),
    ]


def _load_kernels(request: TuneRequest) -> Sequence[Kernel]:
    return kernels.load_kernels(request.networks, request.options)


def _begin(request: TuneRequest, records: Records, transfer: Mapping[str, Records]) -> State:
    """The run before its first trial."""
    from tvm_mobilenet.tuning.search.state import State
    from tvm_mobilenet.tuning.search.tasks import make_tasks

    tasks, skipped = make_tasks(
        _load_kernels(request),
        request.target.tvm_target(),
        records,
        resume=request.resume,
        transfer=transfer,
        seed=request.seed,
        modelled=request.conditions.by == "model",
    )
    _check_any(request, len(tasks), skipped)
    print(f"tuning for {request.target.name} into {records.directory}", file=sys.stderr)
    for line in skipped:
        print(f"not tuned: {line}", file=sys.stderr)
    return State(tasks, request.budget, skipped=skipped, what=request.networks.stem)


def _check_any(request: TuneRequest, count: int, skipped: Sequence[str]) -> None:
    if count:
        return
    title, target = request.networks.title, request.target.name
    if not skipped:
        raise BadInput(
            f"{title}: no operator of it becomes a kernel of ours on {target}, so there is "
            "nothing to tune"
        )
    more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
    raise BadInput(f"{title}: no kernel can be tuned for {target}: {skipped[0]}{more}")


def _search(state: State, records: Records, settings: Settings, measurer: Measurer) -> None:
    from tvm_mobilenet.tuning import loop

    try:
        with progress.open_progress() as watcher:
            loop.run(state, records, settings, measurer, watcher)
    except (KeyboardInterrupt, TvmMobilenetError) as ended:
        # what is known by then is told all the same
        interrupted = isinstance(ended, KeyboardInterrupt)
        if state.records or interrupted:
            _tell(state, records, measurer, interrupted=interrupted)
        if interrupted:
            print("'--resume' goes on from here", file=sys.stderr)
        raise
    _tell(state, records, measurer, interrupted=False)


def _tell(state: State, records: Records, measurer: Measurer, *, interrupted: bool) -> None:
    """The end of a run, in the log's meta.json and for people."""
    with contextlib.suppress(RunFailed):  # a full disk has ended the run: that is said already
        records.add_runs([report.run_entry(state, interrupted=interrupted)])
    for line in report.summarize(state, measurer.statistics):
        print(line)
    print(f"{state.records} records written to {records.directory}")
