"""Tuning over the tracker on two emulated ARM devices, one of which is lost in the middle.

In int8 and fp16: docs/raspberry-pi.md tunes in fp32.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from support import foreign_onnx
from support.quantized_networks import QuantizedNetwork

from tvm_mobilenet import records, tune
from tvm_mobilenet.emulation import cores, devices
from tvm_mobilenet.remote import local_farm

pytestmark = [pytest.mark.arm_emulator, pytest.mark.usefixtures("warm_workers")]

KEY = "arm-emulated"  # whose records say ``emulated``
TRIALS = 16  # enough batches for both devices


@pytest.mark.in_turns(2)
@pytest.mark.parametrize(("target", "precision"), [("arm-rpi4", "int8"), ("arm-rpi5", "fp16")])
def test_the_other_device_goes_on(
    target: str, precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = str(cores.device_of(target).python)
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
            file = quantized(tmp_path) if precision == "int8" else network(tmp_path)
            what = ["--target", target, "--precision", precision, "--onnx", str(file)]
            where = ["--rpc-tracker", str(address), "--rpc-key", KEY, "--work-dir", str(folder)]
            with contextlib.redirect_stderr(Listening(first)) as said:
                status = tune.main([*what, "--trials", str(TRIALS), *where])
    assert status == 0, said.getvalue()
    assert "went in the middle" in said.getvalue(), said.getvalue()
    assert "records written to" in capsys.readouterr().out
    assert records.main(["list", str(folder)]) == 0
    assert f"; {precision}, emulated" in capsys.readouterr().out


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


def quantized(folder: Path) -> Path:
    """As many, of bytes."""
    net = QuantizedNetwork((1, 16, 8, 8), signed=True)
    first = net.quantized(net.convolution(net.start(), 16, (3, 3), pads=[1, 1, 1, 1]), 0.02)
    model = net.model(net.quantized(net.convolution(first, 32), 0.02))
    path = folder / "quantized.onnx"
    onnx.save_model(model, str(path))
    return path
