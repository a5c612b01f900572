"""Tuning runs over small kernels: budgets, resuming, faults, kill -9."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import tuning_kernels
from support.tuning_kernels import SETTINGS, SPEC, matmul
from support.tuning_runs import Interrupting, Quiet, hopeless, keys, tune_into

from tvm_mobilenet.database import contents, store
from tvm_mobilenet.database.store import Records
from tvm_mobilenet.emulation import devices
from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.tuning import loop, progress, report
from tvm_mobilenet.tuning.measuring.measurer import Batch, BatchResult, Job, Outcome, Statistics
from tvm_mobilenet.tuning.request import Budget
from tvm_mobilenet.tuning.search.state import State
from tvm_mobilenet.tuning.search.tasks import SEEDS, make_tasks

pytestmark = pytest.mark.usefixtures("warm_workers")


def test_a_whole_space_is_measured_and_the_winner_found(tmp_path: Path) -> None:
    state = tune_into(tmp_path, [matmul(2, 8, 16), matmul(2, 8, 16, count=3), matmul(2, 4, 16)])
    assert [task.count for task in state.tasks] == [4, 1], "equal kernels are one task"
    assert [(task.space.size, task.search.explored) for task in state.tasks] == [
        (16, (8, 8)),
        (12, (7, 7)),
    ]
    opened = Records.open(tmp_path, SPEC)
    for task in state.tasks:
        assert task.trials == task.space.size and task.ended == "whole space measured"
        assert task.best_s is not None and task.default_s is not None
        assert task.best_s <= task.default_s
        schedule, info = opened.schedule_for(task.space.mod["main"])
        assert schedule is not None and info is not None
        assert info.final and info.how == "native" and info.cache == "cold"
        assert info.latency_us == pytest.approx(task.best_s * 1e6, rel=store.NOISE)
    summary = "\n".join(report.summarize(state, Statistics()))
    assert "all kernels of an inference" in summary and "the last quarter" in summary


def test_budgets(tmp_path: Path) -> None:
    kernels = [matmul(8, 32, 16), matmul(4, 64, 16)]
    state = tune_into(tmp_path / "a", kernels, budget=Budget(trials=10, trials_per_task=6))
    assert [task.trials for task in state.tasks] == [6, 4]
    assert [task.ended for task in state.tasks] == ["6 trials done", ""]


def test_early_stopping(tmp_path: Path) -> None:
    tuning_kernels.register()
    with Records.open(tmp_path, SPEC, writable=True) as opened:
        (task,), _ = make_tasks([matmul(8, 32, 16)], SPEC.tvm_target(), opened)
        state = State([task], Budget(early_stopping=6))
        measurer: Any = SimpleNamespace(how="native", cpu="any")
        tuning = loop.Loop(state, opened, SETTINGS, Quiet(), measurer)
        for seconds in (1e-6, 2e-6):
            candidates = task.search.propose(6)
            outcomes = [Outcome(Job(one.trace_json, one), seconds) for one in candidates]
            tuning.take(BatchResult(Batch(0, [one.job for one in outcomes]), outcomes, 0.0, 1))
    assert task.ended == "no gain in 6 trials" and task.best_s == 1e-6


def test_resume_repeats_nothing(tmp_path: Path) -> None:
    kernels = [matmul(2, 8, 16)]
    tune_into(tmp_path, kernels, budget=Budget(trials=12))
    first = set(keys(tmp_path))
    state = tune_into(tmp_path, kernels, resume=True)
    assert state.trials == 16 - 12 and state.tasks[0].trials == 16
    finals = [one for one in Records.open(tmp_path, SPEC).records if one.info.final]
    counts = Counter(keys(tmp_path)) - Counter((one.workload, one.trace_key) for one in finals)
    assert set(counts.values()) == {1} and len(counts) == 16 and first <= set(counts)
    again = tune_into(tmp_path, kernels, resume=True)
    assert again.trials == 0 and again.records == 0 and again.tasks[0].best_s is not None


def test_resume_runs_the_final_round_that_an_interruption_skipped(tmp_path: Path) -> None:
    """The winners of a run that ended before they were measured side by side are measured so."""
    with pytest.raises(KeyboardInterrupt):
        tune_into(tmp_path, [matmul(8, 32, 16)], Interrupting())
    before = Records.open(tmp_path, SPEC).records
    assert not any(one.info.final for one in before)
    state = tune_into(tmp_path, [matmul(8, 32, 16)], None, Budget(trials=1), resume=True)
    (task,) = state.tasks
    assert task.new == 0 and state.records > 1
    finals = [one for one in Records.open(tmp_path, SPEC).records if one.info.final]
    assert task.best_s == pytest.approx(min(one.seconds for one in finals))
    assert task.best is not None and task.best.key in {one.trace_key for one in finals}
    again = tune_into(tmp_path, [matmul(8, 32, 16)], None, Budget(trials=1), resume=True)
    assert again.records == 0


def test_without_resume_the_records_are_tried_first(tmp_path: Path) -> None:
    kernels = [matmul(8, 32, 16)]
    tune_into(tmp_path / "a", kernels, budget=Budget(trials=8))
    source = Records.open(tmp_path / "a", SPEC)
    state = tune_into(
        tmp_path / "b", kernels, budget=Budget(trials=6), transfer={"neighbour": source}
    )
    seeds = [one.trace_key for one in source.ranked(0)[:SEEDS]]
    tried = [key for _, key in keys(tmp_path / "b")[:6]]
    assert set(seeds) <= set(tried)
    (line,) = report.report_transfer(state.tasks)
    assert "4 of 4 records measured here" in line and ("kept" in line or "beaten by" in line)


def test_wrong_schedules_are_dropped_and_named(tmp_path: Path) -> None:
    watcher = Quiet()
    kernel = matmul(4, 4, 8, "wrong_matmul")
    state = tune_into(tmp_path, [kernel], watcher, Budget(trials_per_task=10), seed=3)
    failures = state.failures
    assert failures["wrong result"] == len(watcher.notes) > 0
    assert all("dropped a wrong schedule" in note for note in watcher.notes)
    opened = Records.open(tmp_path, SPEC)
    assert len(opened.failures) == sum(failures.values())
    failed = {one.trace_key for one in opened.failures}
    assert not failed & {one.trace_key for one in opened.records}
    # a resumed run tries none of them again
    again = tune_into(tmp_path, [kernel], None, Budget(trials_per_task=10), resume=True)
    assert again.trials == 0


def test_nothing_measured_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"nothing could be measured: .*build error") as caught:
        tune_into(tmp_path, [hopeless()], budget=Budget(trials=4))
    assert "\n" not in str(caught.value)
    assert Records.open(tmp_path, SPEC).records == []


def test_a_kernel_without_a_rule_is_named(tmp_path: Path) -> None:
    state = tune_into(tmp_path, [matmul(8, 32, 16, "unheard_of")])
    assert state.tasks == []
    assert "no schedule rule 'unheard_of'" in state.skipped[0]


def test_ctrl_c_keeps_what_is_measured(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        tune_into(tmp_path, [matmul(8, 32, 16), matmul(4, 64, 16)], Interrupting())
    assert len(keys(tmp_path)) >= loop.FIRST_BATCH


SCRIPT = """
import sys
from pathlib import Path
from support.tuning_kernels import matmul
from support.tuning_runs import tune_into
tune_into(Path(sys.argv[1]), [matmul(8, 32, 16)])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_kill_9_loses_at_most_the_batches_in_flight(tmp_path: Path) -> None:
    tuning_kernels.register()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "TMPDIR": str(temporary),
    }
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], env=environment)
    path = tmp_path / contents.RECORDS
    deadline = time.monotonic() + 180
    while not (path.exists() and path.read_bytes().count(b"\n") >= 12):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    workers = children(process.pid)
    assert len(workers) == 3, "builder, runner, and who removes the folder"
    assert list(temporary.glob("tvm-mobilenet-*/task0/*"))
    process.kill()
    process.wait()
    measured = len(keys(tmp_path))
    assert measured >= 12
    state = tune_into(tmp_path, [matmul(8, 32, 16)], resume=True)
    assert state.trials <= 30 - 12 and state.tasks[0].trials == 30
    devices.wait_until(lambda: not any(map(alive, workers)), [], "its workers live on")
    devices.wait_until(lambda: not list(temporary.iterdir()), [], "what they built is left")


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(one) for one in text.split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before it was looked at, or meanwhile
        return False


def test_the_live_table(tmp_path: Path) -> None:
    from rich.console import Console

    tuning_kernels.register()
    with Records.open(tmp_path, SPEC, writable=True) as opened:
        tasks, _ = make_tasks([matmul(8, 32, 16)], SPEC.tvm_target(), opened)
    tasks[0].best_s, tasks[0].default_s = 1e-6, 2e-6
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(progress.screen(State(tasks, Budget(time_s=60))))
    text = console.export_text()
    assert "matmul_8x32x16" in text and "2.00x" in text and "0:59 left" in text
