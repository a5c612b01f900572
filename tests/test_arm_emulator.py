"""The whole ARM path on emulated devices: set up, compile, upload, run, count, refuse."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tvm_mobilenet import compile as compiling
from tvm_mobilenet import emulated_devices, emulator, instruction_count, models, remote, source
from tvm_mobilenet import target as targets
from tvm_mobilenet.cli import INTERRUPTED
from tvm_mobilenet.devices import EMULATED_KEY, TrackerAddress, query_tracker
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.run import relative_difference

pytestmark = pytest.mark.arm_emulator

KEY = "emulated-by-a-test"
PORT = 9291
SMALL = (0.25, 128)
LARGE = (1.0, 224)
ODD = (0.75, 160)
# ONNX Runtime 1.19 for aarch64 executes 271 million for LARGE, on the same counter
MOST_INSTRUCTIONS = {LARGE: 176e6, SMALL: 5.5e6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


def bundle_of(variant: tuple[float, int], folder: Path, name: str = "arm-rpi4") -> Path:
    """The variant compiled for the target, once."""
    path = folder / f"{variant[0]}-{variant[1]}-{name}"
    if not path.exists():
        network = source.from_config(models.config_from("mobilenet_v1", *variant))
        compiling.build_bundle(network, targets.resolve(name), path)
    return path


@pytest.fixture(scope="module")
def tracker() -> Iterator[TrackerAddress]:
    with emulated_devices.serving(1, KEY, PORT) as address:
        yield TrackerAddress(*address)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("variant", [SMALL, ODD, LARGE], ids=lambda v: f"{v[0]}-{v[1]}")
def test_runs_over_rpc(
    variant: tuple[float, int], threads: int, folder: Path, tracker: TrackerAddress
) -> None:
    with remote.load(bundle_of(variant, folder), tracker, KEY, threads) as session:
        assert session.machine.cpu is not None and "asimd" in session.machine.features
        result = session.run(session.bundle.sample_input())
        (wanted,) = session.bundle.expected_outputs()  # PyTorch's
        assert relative_difference(np.asarray(result), wanted) < 1e-5
        if variant == SMALL:
            assert all(latency > 0 for latency in session.time(runs=3))


def test_a_wrong_key_is_one_line(folder: Path, tracker: TrackerAddress) -> None:
    with pytest.raises(BadInput, match=f"no device 'other'; it has: {KEY}"):
        remote.load(bundle_of(SMALL, folder), tracker, "other")


def test_a_taken_port_is_one_line(tracker: TrackerAddress) -> None:
    with (
        pytest.raises(BadInput, match=f"port {PORT} is taken"),
        emulated_devices.serving(1, KEY, PORT),
    ):
        pass


def test_no_tracker_is_one_line(folder: Path) -> None:
    nowhere = TrackerAddress("127.0.0.1", 9)
    with pytest.raises(RunFailed, match="no RPC tracker at"):
        remote.load(bundle_of(SMALL, folder), nowhere, KEY)


def test_a_bundle_of_another_architecture_is_refused(folder: Path, tracker: TrackerAddress) -> None:
    path = bundle_of(SMALL, folder, "x86-64-v3")
    with pytest.raises(BadInput, match=r"made for x86_64 .*, wanted aarch64"):
        remote.load(path, tracker, KEY)


def test_newer_instructions_are_refused_over_rpc(folder: Path, tracker: TrackerAddress) -> None:
    with pytest.raises(BadInput, match=r"made for arm-rpi5, the device .* has no .*asimddp"):
        remote.load(bundle_of(SMALL, folder, "arm-rpi5"), tracker, KEY)


def on_device(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the device's own Python."""
    return subprocess.run(
        [emulator.find().python, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )


def test_run_on_the_device_itself(folder: Path) -> None:
    result = on_device("-m", "tvm_mobilenet.run", str(bundle_of(SMALL, folder)))
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("allowed: ok\n")


def test_newer_instructions_are_refused_before_they_crash(folder: Path) -> None:
    result = on_device("-m", "tvm_mobilenet.run", str(bundle_of(SMALL, folder, "arm-rpi5")))
    assert result.returncode == 2
    assert "made for arm-rpi5" in result.stderr and "has no" in result.stderr
    assert "asimdhp" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize("variant", [SMALL, LARGE], ids=lambda v: f"{v[0]}-{v[1]}")
def test_instructions_of_an_inference(variant: tuple[float, int], folder: Path) -> None:
    path = bundle_of(variant, folder)
    executed = instruction_count.count(path)
    assert executed <= MOST_INSTRUCTIONS[variant]
    if variant == SMALL:
        assert abs(instruction_count.count(path) - executed) < 0.001 * executed


@pytest.mark.parametrize(
    ("name", "core"),
    [
        ("arm-rpi3", "cortex-a53"),
        ("arm-rpi5", "cortex-a76"),
        ("arm-graviton2", "neoverse-n1"),
        ("arm-graviton3", "max"),
    ],
)
def test_code_for_other_cores_is_right(name: str, core: str, folder: Path) -> None:
    device = dataclasses.replace(emulator.find(), cpu=core)
    # counts only what agrees with PyTorch
    executed = instruction_count.count(bundle_of(SMALL, folder, name), device=device)
    assert executed <= MOST_INSTRUCTIONS[SMALL]


def test_a_wrong_answer_has_no_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tvm_mobilenet.bundle import Bundle

    monkeypatch.setattr(Bundle, "tolerance", lambda self: 0.0)
    with pytest.raises(RunFailed, match="nothing was counted"):
        instruction_count.count(bundle_of(SMALL, folder))


def test_the_counter_counts_arm_bundles_only(folder: Path) -> None:
    with pytest.raises(BadInput, match="made for x86_64"):
        instruction_count.count(bundle_of(SMALL, folder, "x86-64-v3"))


def test_devices_lists_the_emulated_one(tracker: TrackerAddress) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "tvm_mobilenet.devices", "--rpc-tracker", str(tracker)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert KEY in listed.stdout


def test_a_lost_device_is_one_line(folder: Path) -> None:
    port = PORT + 1
    with emulated_devices.serving(0, KEY, port) as address:
        server = emulated_devices.server_command(emulator.find(), port, KEY)
        with emulated_devices.running(server) as device:
            emulated_devices.wait_until(
                lambda: emulated_devices.registered(address, KEY) == 1, [device], "no device"
            )
            with remote.load(bundle_of(SMALL, folder), TrackerAddress(*address), KEY) as session:
                x = session.bundle.sample_input()
                session.run(x)
                os.killpg(device.pid, signal.SIGKILL)
                with pytest.raises(RunFailed, match="the device failed") as caught:
                    session.run(x)
                assert "\n" not in str(caught.value)


def test_devices_emulate(tracker: TrackerAddress) -> None:
    port = PORT + 2
    command = ["--emulate", "arm", "1", "--rpc-tracker", f"127.0.0.1:{port}"]
    with subprocess.Popen(
        [sys.executable, "-m", "tvm_mobilenet.devices", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith(f"tracker 127.0.0.1:{port} holds 1 emulated")
        (held,) = query_tracker(TrackerAddress("127.0.0.1", port))
        assert (held.key, held.free) == (EMULATED_KEY, 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == INTERRUPTED
        assert process.stderr.read() == "interrupted\n"
    assert not emulated_devices.listens(("127.0.0.1", port)), "nothing is left running"
