"""The command ``tune`` over a test kernel: what it says, writes and refuses."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import helper
from support import foreign_onnx, tuning_kernels
from support.tuning_kernels import SETTINGS, SPEC, Kernel, matmul
from support.tuning_runs import Interrupting, hopeless, tune_into

from tvm_mobilenet import cli, tune
from tvm_mobilenet.database import lookup, meta_file
from tvm_mobilenet.database.store import Records
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import target
from tvm_mobilenet.network.source import NetworkSpec
from tvm_mobilenet.tuning import kernels, loop, progress, setup
from tvm_mobilenet.tuning.request import Budget
from tvm_mobilenet.tuning.search.tasks import SEEDS

pytestmark = pytest.mark.usefixtures("warm_workers")

AUTHOR = ["-c", "user.name=test", "-c", "user.email=test@example.com"]


def test_a_network_of_one_width_has_no_sweep() -> None:
    one_width = kernels.Networks(NetworkSpec("resnet18"), sweep=True)
    with pytest.raises(BadInput, match="--sweep tunes several widths; resnet18 has one width"):
        one_width.check()


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
        (["--seed", "-1"], "expected a whole number of at least 0, got '-1'"),
        (["--timeout", "0"], "expected a time above 0, got '0'"),
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
