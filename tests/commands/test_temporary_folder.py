"""No temporary folder, or a full one, is said in one line, before the work where that can be."""

from __future__ import annotations

import errno
import resource
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from support import tiny_bundle
from support.stage_ends import Capture, fails, status_of

from tvm_mobilenet import compile, files, run
from tvm_mobilenet.building import bundles
from tvm_mobilenet.network import source


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("no bundle could be made, and yet a network was opened")

    monkeypatch.setattr(source, "from_onnx", refuse)
    monkeypatch.setattr(source, "from_config", refuse)


def status_without_temporary_folder(*arguments: Any) -> int:
    with pytest.MonkeyPatch.context() as patch:  # pytest needs it for itself before a test's end
        patch.setattr(tempfile, "tempdir", "/nowhere")
        return status_of(*arguments)


@pytest.mark.usefixtures("no_work")
def test_compiling_without_a_temporary_folder(tmp_path: Path, capfd: Capture) -> None:
    assert status_without_temporary_folder(compile, "-o", tmp_path / "out") == 2
    line = capfd.readouterr().err
    assert line.startswith("error: no temporary folder can be made: No such file or directory; set")
    assert line.count("\n") == 1


@pytest.mark.usefixtures("no_work")
def test_compiling_with_a_full_temporary_folder(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=bundles.TEMPORARY_BYTES - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    line = fails(capfd, 2, compile, "-o", tmp_path / "out")
    assert "expected 32 MiB free, got 32; make room, or set TMPDIR" in line


@pytest.mark.usefixtures("no_work")
def test_compiling_where_files_must_be_small(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LLVM ends the process at the limit, and leaves what it has written."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (2**20, 2**20))
    line = fails(capfd, 2, compile, "-o", tmp_path / "out")
    assert "files of 1 MiB at most may be written, expected 32; raise the limit: ulimit" in line


def test_running_without_a_temporary_folder(tmp_path: Path, capfd: Capture) -> None:
    tiny_bundle.write(tmp_path / "tiny.tar", tiny_bundle.classifier())
    tiny_bundle.write(tmp_path / "tiny", tiny_bundle.classifier())
    names = ("tiny.tar", "tiny")
    statuses = [status_without_temporary_folder(run, tmp_path / name) for name in names]
    lines = capfd.readouterr().err.splitlines()
    assert statuses == [2, 0], "only a .tar has to be unpacked"
    (line,) = lines
    assert "no temporary folder can be made" in line


def test_a_temporary_folder_that_fills_up(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_bundle.write(tmp_path / "tiny.tar", tiny_bundle.classifier())

    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", fill)
    line = fails(capfd, 2, run, tmp_path / "tiny.tar")
    assert f"cannot be unpacked into {files.temporary_root()}: No space left on device" in line
