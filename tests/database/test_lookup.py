"""Where records are looked for: the user's own before those that ship; git sees none of them."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from support import tuning_kernels
from support.tuning_kernels import SPEC, Kernel, matmul

from tvm_mobilenet.database import lookup
from tvm_mobilenet.database.entries import Measured
from tvm_mobilenet.database.lines import RecordInfo
from tvm_mobilenet.database.store import Records
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.scheduling.space import KernelSpace

OWN, OTHER, LARGE = matmul(8, 32, 16), matmul(4, 64, 16), matmul(8, 64, 16)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with no records, and a folder of its own of those that ship."""
    tuning_kernels.register()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lookup, "shipped_logs", lambda: tmp_path / "shipped")
    return tmp_path


def write(log: Path, kernel: Kernel, latency_us: float, how: str = "native") -> None:
    space = KernelSpace(kernel.func, SPEC.tvm_target())
    info = RecordInfo(latency_us, how, "a CPU", "2026-01-01", "0.27", 0.01)
    with Records.open(log, SPEC, writable=True) as records:
        records.append([Measured(space.mod, space.default.trace_json, info)])


def latency(records: Records | None, kernel: Kernel) -> float | None:
    assert records is not None
    info = records.schedule_for(kernel.func)[1]
    return None if info is None else info.latency_us


def test_a_kernel_takes_the_first_record_it_has() -> None:
    write(lookup.work_directory(SPEC), OWN, 30.0)
    write(Path("tuning_logs") / SPEC.name, OWN, 20.0)
    write(lookup.shipped_logs() / SPEC.name, OTHER, 10.0)
    records = lookup.open_records(SPEC, None)
    assert (latency(records, OWN), latency(records, OTHER)) == (30.0, 10.0)
    assert latency(records, LARGE) is None
    only = lookup.open_records(SPEC, Path("tuning_logs") / SPEC.name)
    assert (latency(only, OWN), latency(only, OTHER)) == (20.0, None)


def test_a_models_time_does_not_hide_a_measured_one() -> None:
    write(lookup.work_directory(SPEC), OWN, 3.0, "modelled")
    assert latency(lookup.open_records(SPEC, None), OWN) == 3.0
    write(lookup.shipped_logs() / SPEC.name, OWN, 30.0)
    assert latency(lookup.open_records(SPEC, None), OWN) == 30.0


def test_no_records() -> None:
    assert lookup.open_records(SPEC, None) is None
    write(lookup.work_directory(SPEC), OWN, 30.0)
    assert lookup.open_records(SPEC, Path("none")) is None


def test_a_log_under_two_names_is_opened_once(elsewhere: Path) -> None:
    write(lookup.shipped_logs() / SPEC.name, OWN, 30.0)
    Path("tuning_logs").symlink_to("shipped")
    assert lookup.existing_logs(SPEC) == [Path("tuning_logs") / SPEC.name]


def test_git_ignores_the_work_directory() -> None:
    subprocess.run(["git", "init", "--quiet", "."], check=True)
    write(lookup.make_work_directory(SPEC), OWN, 30.0)
    status = ["git", "status", "--porcelain", "--untracked-files=all"]
    assert not subprocess.run(status, check=True, capture_output=True).stdout


def test_a_working_directory_that_cannot_be_written() -> None:
    Path("tuning_records").write_text("")
    with pytest.raises(BadInput, match=r"tuning_records cannot be written here .*--work-dir"):
        lookup.make_work_directory(replace(SPEC, name="any"))
