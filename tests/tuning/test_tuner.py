"""Tuning runs over small kernels: budgets, resuming, faults, kill -9, what the command says."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from onnx import helper
from support import foreign_onnx, tuning_kernels
from support.tuning_kernels import SETTINGS, SPEC, Kernel, matmul

from tvm_mobilenet import cli, tune
from tvm_mobilenet.database import contents, lookup, meta_file, store
from tvm_mobilenet.database.store import Records
from tvm_mobilenet.emulation import devices
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware import target
from tvm_mobilenet.network.source import NetworkSpec
from tvm_mobilenet.tuning import kernels, loop, progress, report, setup
from tvm_mobilenet.tuning.measuring.local import LocalMeasurer
from tvm_mobilenet.tuning.measuring.measurer import Batch, BatchResult, Job, Outcome, Statistics
from tvm_mobilenet.tuning.request import Budget
from tvm_mobilenet.tuning.search.state import State, Task
from tvm_mobilenet.tuning.search.tasks import SEEDS, make_tasks

pytestmark = pytest.mark.usefixtures("warm_workers")

AUTHOR = ["-c", "user.name=test", "-c", "user.email=test@example.com"]


def test_a_network_of_one_width_has_no_sweep() -> None:
    one_width = kernels.Networks(NetworkSpec("resnet18"), sweep=True)
    with pytest.raises(BadInput, match="--sweep tunes several widths; resnet18 has one width"):
        one_width.check()


class Quiet:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def batch(self, state: State, task: Task, drift: float) -> None:
        pass

    def tick(self, state: State) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)


class Interrupting(Quiet):
    """Presses Ctrl-C after the first batch."""

    def batch(self, state: State, task: Task, drift: float) -> None:
        if state.phase == "searching":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)


def tune_into(
    folder: Path,
    kernels: list[Kernel],
    watcher: Any = None,
    budget: Budget | None = None,
    **options: Any,
) -> State:
    tuning_kernels.register()
    with Records.open(folder, SPEC, writable=True) as opened:
        tasks, skipped = make_tasks(kernels, SPEC.tvm_target(), opened, **options)
        state = State(tasks, budget or Budget(), skipped=skipped)
        with LocalMeasurer(SETTINGS, 3.0) as measurer:
            loop.run(state, opened, SETTINGS, measurer, watcher or Quiet())
    return state


def keys(folder: Path) -> list[tuple[int, str]]:
    return [(one.workload, one.trace_key) for one in Records.open(folder, SPEC).records]


def test_a_whole_space_is_measured_and_the_winner_found(tmp_path: Path) -> None:
    state = tune_into(tmp_path, [matmul(8, 32, 16), matmul(8, 32, 16, count=3), matmul(4, 64, 16)])
    assert [task.count for task in state.tasks] == [4, 1], "equal kernels are one task"
    opened = Records.open(tmp_path, SPEC)
    for task in state.tasks:
        assert task.trials == task.space.size == 30 and task.ended == "whole space measured"
        assert task.search.explored == (10, 10)
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
    state = tune_into(tmp_path / "a", kernels, budget=Budget(trials=20, trials_per_task=12))
    assert [task.trials for task in state.tasks] == [12, 8]
    assert [task.ended for task in state.tasks] == ["12 trials done", ""]


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
    kernels = [matmul(8, 32, 16)]
    tune_into(tmp_path, kernels, budget=Budget(trials=12))
    first = set(keys(tmp_path))
    state = tune_into(tmp_path, kernels, resume=True)
    assert state.trials == 30 - 12 and state.tasks[0].trials == 30
    finals = [one for one in Records.open(tmp_path, SPEC).records if one.info.final]
    counts = Counter(keys(tmp_path)) - Counter((one.workload, one.trace_key) for one in finals)
    assert set(counts.values()) == {1} and len(counts) == 30 and first <= set(counts)
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
    tune_into(tmp_path / "a", kernels)
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


def hopeless() -> Kernel:
    """Its reference does not even build."""
    kernel = matmul(8, 32, 16)
    func = kernel.func.with_attrs({"unbuildable": True})
    return Kernel("hopeless", func, 1, 1)


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
import test_tuner
from support.tuning_kernels import matmul
test_tuner.tune_into(Path(sys.argv[1]), [matmul(8, 32, 16)])
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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 48 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip(
            "mounting a small tmpfs needs root (CAP_SYS_ADMIN): run as root, outside sandboxes"
        )
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_the_run_with_what_it_has(
    command: Any, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = small_disk / "log"
    assert command("--work-dir", str(log)) == 1
    output = capsys.readouterr()
    (line,) = [one for one in output.err.splitlines() if one.startswith("error")]
    assert "No space left on device" in line and "every earlier record is kept" in line
    kept = Records.open(log, SPEC)
    assert len(kept.records) >= loop.BATCH and not kept.problems
    assert f"{len(kept.records)} records written" in output.out
    # nothing of what was kept is lost or repeated once there is room
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert command("--work-dir", str(log), "--resume") == 0
    searched = [one for one in Records.open(log, SPEC).records if not one.info.final]
    assert len({one.trace_key for one in searched}) == len(searched) == 30


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(one) for one in text.split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before it was looked at, or meanwhile
        return False


# ---------------------------------------------------------------- the command


def test_tuning_does_not_import_torch(tmp_path: Path, python: Any) -> None:
    relu = helper.make_node("Relu", ["x"], ["y"])
    path = foreign_onnx.save(foreign_onnx.model([relu]), tmp_path)
    script = (
        "import sys; from tvm_mobilenet import tune; "
        f"tune.main(['--dry-run', '--onnx', {str(path)!r}]); print('torch' in sys.modules)"
    )
    done = python("-c", script)
    assert (done.stdout.splitlines()[-1:], done.returncode) == (["False"], 0), done.stderr


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs ``tune`` over a test kernel; returns its exit status."""
    tuning_kernels.register()
    monkeypatch.setattr(target, "resolve", lambda _: SPEC)
    kernel = matmul(8, 32, 16)
    monkeypatch.setattr(kernels, "load_kernels", lambda *_: [kernel])
    monkeypatch.setattr(setup, "make_settings", lambda *_: SETTINGS)

    def run(*flags: str) -> int:
        return tune.main(["--work-dir", str(tmp_path / "log"), *flags])

    return run


def test_the_command(command: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--trials", "6") == 0
    output = capsys.readouterr()
    assert "matmul_8x32x16: 6/30 tried, best " in output.err
    assert f"records written to {tmp_path / 'log'}" in output.out
    meta = json.loads((tmp_path / "log" / meta_file.META).read_text())
    assert meta["target_name"] == SPEC.name and meta["runs"][0]["trials"] == 6
    assert meta["tvm_version"] and meta["cpu"]


def test_plain_tune_leaves_a_checkout_clean(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of what git tracks, with a shipped log of the target: its schedules are tried first,
    and nothing of it changes."""
    shipped = tmp_path / "checkout" / "tuning_logs"
    tune_into(shipped / SPEC.name, [matmul(8, 32, 16)], budget=Budget(trials=6))
    monkeypatch.chdir(shipped.parent)
    for step in (["init", "--quiet"], ["add", "."], [*AUTHOR, "commit", "--quiet", "-m", "all"]):
        subprocess.run(["git", *step], check=True)
    assert tune.main(["--trials", "6"]) == 0
    status = ["git", "status", "--porcelain", "--untracked-files=all"]
    assert not subprocess.run(status, check=True, capture_output=True).stdout
    records = Records.open(lookup.work_directory(SPEC), SPEC)
    best = [one.trace_key for one in Records.open(shipped / SPEC.name, SPEC).ranked(0)[:SEEDS]]
    assert set(best) <= {one.trace_key for one in records.records}
    opened = lookup.open_records(SPEC, None)
    assert opened is not None and opened.directory == lookup.work_directory(SPEC)


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([], "mobilenet_v1-1-224: no operator of it becomes a kernel of ours on tuning-test"),
        (
            [matmul(8, 32, 16, "unheard_of"), matmul(4, 64, 16, "unheard_of")],
            "no kernel can be tuned for tuning-test: matmul_8x32x16: no schedule rule",
        ),
    ],
    ids=["none", "none with a rule"],
)
def test_a_network_without_a_kernel_of_ours(
    command: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    found: list[Kernel],
    says: str,
) -> None:
    monkeypatch.setattr(kernels, "load_kernels", lambda *_: found)
    assert command(*flags) == 2
    output = capsys.readouterr()
    assert not output.out and output.err.startswith("error: ") and says in output.err
    assert output.err.count("\n") == 1


def test_times_that_do_not_compare_are_not_mixed(
    command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--trials", "4") == 0
    capsys.readouterr()
    monkeypatch.setattr(setup, "make_settings", lambda *_: replace(SETTINGS, threads=2, cold=False))
    assert command("--trials", "4", "--resume") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "1 thread, weights cold, native, not with 2 threads, weights warm, native" in line


def test_dry_run_measures_nothing(
    command: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--dry-run") == 0
    assert "matmul_8x32x16: 1 calls, 0.0 MFLOP, 30 points" in capsys.readouterr().out
    assert not (tmp_path / "log").exists()


def test_nothing_measured_exits_1(
    command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernels, "load_kernels", lambda *_: [hopeless()])
    assert command("--trials", "4") == 1
    assert "error: nothing could be measured" in capsys.readouterr().err


def test_interrupted_exits_130_and_says_where_the_records_are(
    command: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress.PlainProgress, "batch", Interrupting.batch)
    assert command() == cli.INTERRUPTED
    output = capsys.readouterr()
    assert "records written to" in output.out and "'--resume' goes on" in output.err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--trials", "0"], "at least 1"),
        (["--rpc-tracker", "localhost:9190"], "--rpc-tracker and --rpc-key go together"),
        (["--threads", "4096"], "--threads 4096"),
        (["--measure", "rpc"], "--measure rpc needs --rpc-tracker"),
        (
            ["--measure", "model", "--rpc-tracker", "localhost", "--rpc-key", "k"],
            "--measure model uses no device",
        ),
        (["--measure", "model"], "[core] of its file would have to say clock_mhz"),
        (["--model", "resnet"], "unknown model 'resnet'"),
        (["--onnx", "/nowhere.onnx"], "/nowhere.onnx: no such file"),
        (["--tuning-records", "/nowhere"], "no tuning records in /nowhere"),
    ],
)
def test_bad_input(
    command: Any, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = command(*flags)
    except SystemExit as end:  # argparse
        status = end.code
    assert status == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and message in line


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
