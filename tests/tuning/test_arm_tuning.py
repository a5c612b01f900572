"""Tuning over the tracker on two emulated ARM devices, one of which is lost in the middle.

In int8 and fp16: docs/raspberry-pi.md tunes in fp32.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from support import foreign_onnx
from support.quantized_networks import QuantizedNetwork

from tvm_mobilenet.emulation import cores, devices
from tvm_mobilenet.remote import local_farm
from tvm_mobilenet.remote.tracker import TrackerAddress

pytestmark = pytest.mark.arm_emulator

KEY = "arm-emulated"  # whose records say ``emulated``
TRIALS = 16  # enough batches for both devices
TIMEOUT_S = 400


@pytest.mark.in_turns(2)
@pytest.mark.parametrize(("target", "precision"), [("arm-rpi4", "int8"), ("arm-rpi5", "fp16")])
def test_the_other_device_goes_on(target: str, precision: str, tmp_path: Path) -> None:
    python = str(cores.device_of(target).python)
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
            network_flags = ("--target", target, "--precision", precision, "--onnx", str(file))
            said = tune(address, tmp_path, network_flags, first)
    assert "records written to" in said
    assert "went in the middle" in said, said
    listed = subprocess.run(
        [sys.executable, "-m", "tvm_mobilenet.records", "list", str(tmp_path / "records")],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert f"; {precision}, emulated" in listed.stdout


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


def tune(
    address: TrackerAddress,
    folder: Path,
    network_flags: tuple[str, ...],
    victim: subprocess.Popen[bytes],
) -> str:
    """What a run of so many trials says; the server ``victim`` is killed once both measure."""
    command = [sys.executable, "-m", "tvm_mobilenet.tune", *network_flags]
    variant = ["--trials", str(TRIALS)]
    where = ["--rpc-tracker", str(address), "--rpc-key", KEY, "--work-dir", str(folder / "records")]
    with subprocess.Popen(
        [*command, *variant, *where],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        watch = threading.Timer(TIMEOUT_S, process.kill)
        watch.start()
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "that measure: 2" in line:
                os.killpg(victim.pid, signal.SIGKILL)
        watch.cancel()
        assert process.wait() == 0, "".join(lines)
    return "".join(lines)
