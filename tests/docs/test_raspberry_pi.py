"""docs/raspberry-pi.md, command by command, with the emulated device as the board.

Stand-ins, and nothing else differs: ``ssh pi@rpi4`` and ``scp`` go to a folder that is the board's
home, where python3 is the emulated one; ``pip install`` there asks that the emulated device holds
the named versions (tests have no network); ``desk`` is this machine, its port one that is free;
tuning gets four trials, measuring three runs.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.float_networks import mobile

from tvm_mobilenet.emulation import devices as emulated_devices
from tvm_mobilenet.emulation import emulator
from tvm_mobilenet.emulation.devices import HOST
from tvm_mobilenet.remote.tracker import TrackerAddress, query_tracker
from tvm_mobilenet.results import schema

pytestmark = pytest.mark.arm_emulator

REPOSITORY = Path(__file__).parents[2]
TIMEOUT_S = 300
TUNING = ("--time-budget 30m", "--trials 4")
QUICK = ("bench m-rpi4", "bench m-rpi4 --min-time 0.1s --min-runs 3")

SSH = """#!/bin/sh
shift
cd {home} && PATH={home}/bin:$PATH exec sh -c "$*"
"""
SCP = """#!/bin/sh
while [ $# -gt 1 ]; do
    case "$1" in -*) ;; *) cp -rL "$1" {home}/ || exit ;; esac
    shift
done
"""
PYTHON3 = """#!/bin/sh
if [ "$2" = pip ]; then shift 2; exec {here} {home}/bin/pip "$@"; fi
export PYTHONHOME={root}/usr EMULATED_PYTHON={home}/bin/python3
exec {command} "$@"
"""
PIP = """
import importlib.metadata, os, shutil, sys
install, target, folder, *wanted = sys.argv[1:]
assert (install, target) == ("install", "--target"), sys.argv
there = {{d.name: d.version for d in importlib.metadata.distributions(path=[{packages!r}])}}
for requirement in wanted:
    name, _, version = requirement.partition("==")
    assert name in there and version in ("", there[name]), f"no {{requirement}} on the device"
shutil.copytree({packages!r}, {home!r} + "/" + folder, copy_function=os.symlink)
"""


def commands() -> list[str]:
    """What the page's blocks tell to type."""
    page = (REPOSITORY / "docs" / "raspberry-pi.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 5, "the page's blocks are not found any more"
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with a photo, a network and the stand-ins; the board's home is beside it."""
    from PIL import Image

    home, here = tmp_path / "board", tmp_path / "desk"
    device = emulator.find()
    (home / "bin").mkdir(parents=True)
    (here / "bin").mkdir(parents=True)
    places = {"home": home, "root": device.root, "here": sys.executable}
    on_board = device.command(device.interpreter)
    scripts = {
        here / "bin/ssh": SSH.format(**places),
        here / "bin/scp": SCP.format(**places),
        here / "bin/python": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
        here / "bin/tvm-mobilenet": f'#!/bin/sh\nexec {sys.executable} -m tvm_mobilenet "$@"\n',
        home / "bin/python3": PYTHON3.format(command=shlex.join(on_board), **places),
        home / "bin/pip": PIP.format(packages=str(device.packages), home=str(home)),
    }
    for path, text in scripts.items():
        path.write_text(text)
        path.chmod(0o755)
    pixels = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(here / "photo.jpg")
    rng = np.random.default_rng(3)
    onnx.save_model(mobile(rng), str(here / "network.onnx"))
    np.save(here / "samples.npy", rng.standard_normal((12, 8, 8, 8), np.float32))
    (here / "tvm_mobilenet").symlink_to(REPOSITORY / "tvm_mobilenet")
    return here


@pytest.fixture
def background() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that end with the test, with all that they started."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_every_command(desk: Path, background: list[subprocess.Popen[bytes]]) -> None:
    address = TrackerAddress(HOST, free_port())
    path = f"{desk / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY)}
    said: dict[str, str] = {}
    for command in commands():
        real = command.replace("desk:9190", str(address)).replace("9190", str(address.port))
        real = real.replace(*TUNING).replace(*QUICK)
        if real.endswith(" &"):
            background.append(start(real.removesuffix(" &"), desk, environment))
            wait_for_background(address, background)
            continue
        result = subprocess.run(
            ["sh", "-c", real],
            cwd=desk,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
        said[command] = result.stdout
    check_what_came_out(desk, said)


def free_port() -> int:
    """One that the tracker would take by itself: it tries these only."""
    for port in range(9190, 9199):
        if not emulated_devices.listens((HOST, port)):
            return port
    pytest.skip("every port of a tracker is taken here")


def start(command: str, desk: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["sh", "-c", command],
        cwd=desk,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for_background(address: TrackerAddress, processes: list[subprocess.Popen[bytes]]) -> None:
    """The first is the tracker, the second the board's server."""

    def reached() -> bool:
        if len(processes) == 1:
            return emulated_devices.listens(address)
        return any(queue.key == "rpi4" for queue in query_tracker(address))

    emulated_devices.wait_until(reached, processes, "not there")


def check_what_came_out(desk: Path, said: dict[str, str]) -> None:
    (devices,) = [text for command, text in said.items() if "devices" in command]
    assert "rpi4" in devices
    assert (desk / "records").is_dir()
    results = schema.load(desk / "rpi4.json")
    assert [row.reason for row in results.results] == [None, None], "ours and ONNX Runtime ran"
    assert {row.how for row in results.results} == {"emulated"}
    (profile,) = [text for command, text in said.items() if "--profile" in command]
    assert "depthwise_conv2d" in profile and "FMA floor" in profile
    *_, answer = said.values()
    assert len(re.findall(r"^\s*\d", answer, re.MULTILINE)) >= 5, answer
