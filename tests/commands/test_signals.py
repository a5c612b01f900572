"""Ctrl-C and SIGTERM end a command in one line, wherever they come, and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import helper
from support import foreign_onnx
from support.stage_ends import ROOT, Capture, ends, status_of

from tvm_mobilenet import bundle, compile, ending, files
from tvm_mobilenet.network import onnx_export

node = helper.make_node
SMALL = ("--alpha", "0.25", "--resolution", "32")


def interrupted(
    capfd: Capture, body: Callable[[], int], number: signal.Signals = signal.SIGINT
) -> None:
    assert ends(body) == 128 + number, "as a shell says it"
    assert capfd.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_inside_a_pass_of_tvms(capfd: Capture, number: signal.Signals) -> None:
    """TVM raises a RuntimeError without a text then."""
    import tvm

    @tvm.transform.module_pass(opt_level=0, name="Interrupted")
    def interrupt(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        signal.raise_signal(number)
        return mod

    def body() -> int:
        tvm.transform.Sequential([interrupt])(tvm.IRModule({}))
        return 0

    before = signal.getsignal(number)
    interrupted(capfd, body, number)
    assert signal.getsignal(number) == before


def test_ctrl_c_inside_pytorchs_exporter(capfd: Capture) -> None:
    import torch

    class Interrupted(torch.nn.Module):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            type(self).calls += 1
            if self.calls > 1:  # the first is ours, before the export
                signal.raise_signal(signal.SIGINT)
            return x + 1

    def body() -> int:
        onnx_export.export(Interrupted().eval(), (1, 3, 8, 8))
        return 0

    interrupted(capfd, body)


def test_ctrl_c_while_an_importer_runs(
    capfd: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is turned into is not told as a fault of the network."""
    from tvm.relax.frontend import onnx as frontend

    def importer(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError from None

    monkeypatch.setattr(frontend, "from_onnx", importer)
    path = foreign_onnx.save(foreign_onnx.classifier(node("Relu", ["scores"], ["y"])), tmp_path)
    assert status_of(compile, "--onnx", path, "-o", tmp_path / "out") == 130
    assert capfd.readouterr().err == "interrupted\n"


def test_an_ignored_signal_stays_ignored() -> None:
    """As under nohup, or in the background of a script."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        def hang_up() -> int:
            signal.raise_signal(signal.SIGHUP)
            return 0

        assert ends(hang_up) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


HELD = """
import argparse, os, sys, time
from tvm_mobilenet import cli, files

def body(args):
    with files.temporary_folder() as folder:
        (folder / "model.so").write_bytes(b"")
        if not os.fork():
            print(os.getpid(), flush=True)
        time.sleep(60)
    return 0

sys.exit(cli.run_command(body, argparse.Namespace(debug=False)))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HELD],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as held:
        assert held.stdout
        assert held.stderr
        child = int(held.stdout.readline())
        assert list(tmp_path.iterdir())
        # a forked child ends as if nobody had taken the signal over, and says nothing
        os.kill(child, number)
        ended_by = Path(f"/proc/{child}/stat")
        deadline = time.monotonic() + 30
        while ended_by.read_text().split()[2] != "Z":  # its parent has not asked how it ended
            assert time.monotonic() < deadline
            time.sleep(0.01)
        held.send_signal(number)
        assert held.wait(timeout=30) == 128 + number
        assert held.stderr.read() == "interrupted\n"
    assert not list(tmp_path.iterdir())


def test_compiling_leaves_nothing_in_the_temporary_folder_and_imports_no_torch(
    tmp_path: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Neither of ours, nor PyTorch's cache and ONNX Runtime's notes: PyTorch has a process."""
    (tmp_path / "tmp").mkdir()
    words = ["-X", "importtime", "-m", "tvm_mobilenet.compile", *SMALL, "--on-untuned", "allow"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path / "tmp"))
        done = python(*words, "-o", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert bundle.is_bundle(tmp_path / "out")
    assert not list((tmp_path / "tmp").iterdir())
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "tvm" in imported  # and that torch is asked for, and left out
    assert imported.isdisjoint({"torch._C", "onnxscript"})


@pytest.mark.parametrize("command", ["compile", "tune"])
def test_sigterm_while_torch_exports(command: str, tmp_path: Path) -> None:
    """Its errors of an interrupt, and its caches, are not ours to show."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")  # so that torch has to export
    # where torch caches, once another test has made it say so
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)
    words = [sys.executable, "-m", f"tvm_mobilenet.{command}", *SMALL]
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 120
        while not list(temporary.rglob("torchinductor_*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.terminate()
        _, error = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert error.splitlines()[-1] == "interrupted"
    assert not list(temporary.iterdir())


def test_a_second_ctrl_c_while_the_first_is_seen_to(
    capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temporary folder goes, and the line is the only one."""
    folders: list[Path] = []
    remove = shutil.rmtree

    def asked_again(path: Path, **options: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        remove(path, **options)

    def body() -> int:
        folders.append(Path(tempfile.gettempdir()))
        monkeypatch.setattr(shutil, "rmtree", asked_again)
        signal.raise_signal(signal.SIGINT)
        return 0

    def say(text: str) -> None:
        signal.raise_signal(signal.SIGINT)
        print(text, file=sys.stderr)

    monkeypatch.setattr(ending, "say", say)
    interrupted(capfd, body)
    assert not folders[0].exists()


def test_ctrl_c_as_a_command_begins(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between taking over the signals and whatever the command does."""

    def begin() -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ending, "checked_stdout", begin)
    interrupted(capfd, lambda: 0)


BEFORE_IT_BEGAN = """
import sys, tvm_mobilenet.__main__ as m
sys.argv = ['m', '--help']
class Asked:
    def find_spec(self, name, *_):
        if name == 'tvm_mobilenet.ending': signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Asked())
m.command()
"""
AT_AN_END = {
    "before it began": (BEFORE_IT_BEGAN, 130, "interrupted\n"),
    "though it is ignored, as in the background of a script": (
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + BEFORE_IT_BEGAN,
        0,
        "",
    ),
    "after it was done": (
        "import atexit\nfrom tvm_mobilenet import ending\n"
        "atexit.register(signal.raise_signal, signal.SIGINT)\nending.leave(1)",
        1,
        "",
    ),
}


@pytest.mark.parametrize("when", AT_AN_END)
def test_ctrl_c(when: str) -> None:
    script, status, says = AT_AN_END[when]
    done = subprocess.run(
        [sys.executable, "-c", f"import signal\n{script}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (status, says)


def test_what_libraries_warn_of_as_they_go_does_not_follow_the_line(capfd: Capture) -> None:
    """TVM's block builder does, from C++, where it is interrupted half done."""

    class Builder:
        def __del__(self) -> None:
            os.write(2, b"destroyed with remaining blocks\n")

    def body() -> int:
        _builder = Builder()
        signal.raise_signal(signal.SIGINT)
        return 0

    interrupted(capfd, body)


def test_what_is_left_in_the_temporary_folder_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)

    def body() -> int:
        left = Path(tempfile.mkdtemp())
        subprocess.run(["mktemp"], check=True, stdout=subprocess.DEVNULL)
        assert len(list(left.parent.iterdir())) == 2
        assert tmp_path in left.parents
        return 0

    assert ends(body) == 0
    assert not list(tmp_path.iterdir())


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    before = dict(os.environ)
    with files.own_temporary_folder():
        own = tempfile.gettempdir()
        assert os.environ["TMPDIR"] == own != before["TMPDIR"]
        os.environ["CACHE"] = f"{own}/cache"
        Path(os.environ["CACHE"]).mkdir()
    assert dict(os.environ) == before
    assert tempfile.gettempdir() == before["TMPDIR"]
    assert not Path(own).exists()
