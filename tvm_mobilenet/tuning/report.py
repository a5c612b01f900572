"""The end of a tuning run: a summary for people, and its entry in the log's meta.json."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from tvm_mobilenet.provenance import now
from tvm_mobilenet.tuning.kernels import precision_of
from tvm_mobilenet.tuning.progress import clock, failures_text, microseconds

if TYPE_CHECKING:
    from tvm_mobilenet.tuning.measuring.measurer import Statistics
    from tvm_mobilenet.tuning.search.state import State, Task

CURVE_POINTS = 50  # at most, in meta.json


def run_entry(state: State, *, interrupted: bool) -> dict[str, Any]:
    """The run as meta.json has it: seconds, trials, and the curve of (seconds, microseconds)."""
    step = -(-len(state.curve) // CURVE_POINTS) or 1
    return {
        "date": now(),
        "what": state.what,
        "precisions": sorted({precision_of(task.space.mod["main"]) for task in state.tasks}),
        "seconds": round(state.elapsed, 1),
        "trials": state.trials,
        "records": state.records,
        "failures": dict(state.failures),
        "interrupted": interrupted,
        "curve": [(round(when, 1), round(one * 1e6, 1)) for when, one in state.curve[::step]],
    }


def summarize(state: State, statistics: Statistics) -> Iterator[str]:
    """The run, line by line: its tasks, failures, noise and curve, and what became of records."""
    width = max([len(task.name) for task in state.tasks] + [4])
    yield f"{'task':{width}} calls  tried    of  default us  best us  GFLOP/s   gain  knobs"
    for task in state.tasks:
        covered, options = task.search.explored
        gain = f"{task.gain:.2f}x" if task.gain else "-"
        yield (
            f"{task.name:{width}} {task.count:5d} {task.trials:6d} {task.space.size:5d} "
            f"{microseconds(task.default_s):>11} {microseconds(task.best_s):>8} "
            f"{task.gflops:8.1f} {gain:>6} "
            f" {covered}/{options}"
            + (f"  {failures_text(task)}" if task.failures else "")
            + (f"  ({task.ended})" if task.ended else "")
        )
    if state.network_s is not None:
        total = f"all kernels of an inference: {state.network_s * 1e3:.3f} ms"
        if state.default_s is not None:
            total += f", by default {state.default_s * 1e3:.3f} ms"
            total += f" ({state.default_s / state.network_s:.2f}x)"
        yield total
    elif state.tasks:
        missing = sum(task.best_s is None for task in state.tasks)
        yield f"{missing} of {len(state.tasks)} kernels have no time yet: no total, and no curve"
    yield _noise(statistics)
    yield from _curve(state)
    yield from report_transfer(state.tasks)


def _noise(statistics: Statistics) -> str:
    """How much slower than its best the sentinel was around the batches."""
    drifts = sorted(statistics.drifts)
    if not drifts:
        return "noise: not known, no batch had a sentinel"
    return (
        f"noise: a sentinel beside {len(drifts)} batches was {median(drifts):.1%} slower than its "
        f"best (median), {drifts[-1]:.1%} (worst); {statistics.repeated_batches} batches measured "
        "again"
    )


def _curve(state: State) -> Iterator[str]:
    """Best latency against time at each eighth of the search, and the last quarter's gain.

    Without the winners' second measurement, which nothing else disturbs: that would look like a
    gain.
    """
    if len(state.curve) < 2:
        return
    first, end = state.curve[0][0], state.curve[-1][0]

    def at(moment: float) -> float:
        return min((one for when, one in state.curve if when <= moment), default=state.curve[0][1])

    moments = [first + (end - first) * step / 8 for step in range(9)]
    points = ", ".join(f"{clock(one)} {at(one) * 1e3:.4g}" for one in moments)
    yield f"best latency (ms) against minutes of search: {points}"
    gained = 1 - at(end) / at(end - (end - first) / 4)
    yield f"the last quarter of the search gained {gained:.1%}"


def report_transfer(tasks: Sequence[Task]) -> Iterator[str]:
    """For each layer that records were tried of: whether one of them is the best here too."""
    for task in tasks:
        if not task.seeds or task.best is None or task.best_s is None:
            continue
        tried = f"{task.name}: {len(task.seed_times)} of {len(task.seeds)} records measured here"
        best = task.best_s * 1e6
        if task.best.key in task.seeds:
            yield f"{tried}, kept the one from {task.seeds[task.best.key]}, {best:.1f} us"
            continue
        by = "the default" if task.best.key == task.space.default.key else "a new schedule"
        theirs = min(task.seed_times.values(), default=None)
        known = "" if theirs is None else f" ({theirs * 1e6:.1f} us)"
        yield f"{tried}{known}, beaten by {by}, {best:.1f} us"
