"""Tuning over the tracker on two emulated ARM devices, one of which is lost in the middle."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from support import foreign_onnx

from tvm_mobilenet import records, tune
from tvm_mobilenet.emulation import devices, emulator
from tvm_mobilenet.remote import local_farm

pytestmark = [pytest.mark.arm_emulator, pytest.mark.usefixtures("warm_workers")]

KEY = "arm-emulated"  # whose records say ``emulated``
TRIALS = 16  # enough batches for both devices


def test_the_other_device_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python = str(emulator.find().python)
    folder = tmp_path / "records"
    with local_farm.running() as farm:
        address = farm.address
        command = devices.server_command(python, address.port, KEY)
        with (
            devices.running(command) as first,
            devices.running(command) as second,
        ):
            devices.wait_until(
                lambda: devices.free_servers(address, KEY) == 2, [first, second], "no device"
            )
            what = ["--target", "arm-rpi4", "--onnx", str(network(tmp_path))]
            where = ["--rpc-tracker", str(address), "--rpc-key", KEY, "--work-dir", str(folder)]
            with contextlib.redirect_stderr(Listening(first)) as said:
                status = tune.main([*what, "--trials", str(TRIALS), *where])
    assert status == 0, said.getvalue()
    assert "went in the middle" in said.getvalue(), said.getvalue()
    assert "records written to" in capsys.readouterr().out
    assert records.main(["list", str(folder)]) == 0
    assert "emulated" in capsys.readouterr().out


class Listening(io.StringIO):
    """What a run says; the server ``victim`` is killed once both measure."""

    def __init__(self, victim: subprocess.Popen[bytes]) -> None:
        super().__init__()
        self._victim = victim

    def write(self, text: str) -> int:
        if "that measure: 2" in text:
            os.killpg(self._victim.pid, signal.SIGKILL)
        return super().write(text)


def network(folder: Path) -> Path:
    """Two convolutions: starting Python on the devices takes long enough."""
    rng = np.random.default_rng(0)
    shapes = {"v": (16, 3, 3, 3), "w": (32, 16, 1, 1)}
    weights = {name: rng.normal(0, 0.2, shape).astype("f4") for name, shape in shapes.items()}
    first = helper.make_node("Conv", ["x", "v"], ["z"], pads=[1, 1, 1, 1])
    second = helper.make_node("Conv", ["z", "w"], ["y"])
    return foreign_onnx.save(foreign_onnx.model([first, second], weights), folder)
