"""Ctrl-C and SIGTERM end a command in one line, wherever they come, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from onnx import helper
from support import foreign_onnx
from support.stage_ends import ROOT, Capture, ends, status_of

from tvm_mobilenet import bundle, compile, files
from tvm_mobilenet.network import onnx_export

node = helper.make_node


def interrupted(capfd: Capture, body: Callable[[], int]) -> None:
    assert ends(body) == 130
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
    interrupted(capfd, body)
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

sys.exit(cli.run_stage(body, argparse.Namespace(debug=False)))
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
        assert held.wait(timeout=30) == 130
        assert held.stderr.read() == "interrupted\n"
    assert not list(tmp_path.iterdir())


def test_compiling_leaves_nothing_in_the_temporary_folder(tmp_path: Path) -> None:
    """Neither of ours, nor PyTorch's cache and ONNX Runtime's notes."""
    (tmp_path / "tmp").mkdir()
    words = [sys.executable, "-m", "tvm_mobilenet.compile", "--alpha", "0.25", "--resolution", "32"]
    subprocess.run(
        [*words, "--on-untuned", "allow", "-o", str(tmp_path / "out")],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
        capture_output=True,
        check=True,
    )
    assert bundle.is_bundle(tmp_path / "out")
    assert not list((tmp_path / "tmp").iterdir())


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
