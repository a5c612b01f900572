"""The whole ARM path on emulated devices: set up, compile, upload, run, count, refuse."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.float_networks import separable

from tvm_mobilenet import bench, models
from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.bundle import open_bundle
from tvm_mobilenet.cli import INTERRUPTED
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.emulation import devices, emulator, executed, instruction_count
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware import target as targets
from tvm_mobilenet.network import source
from tvm_mobilenet.numerics import relative_error
from tvm_mobilenet.remote import session
from tvm_mobilenet.remote.local_farm import free_port
from tvm_mobilenet.remote.tracker import EMULATED_KEY, TrackerAddress, query_tracker
from tvm_mobilenet.results import schema

pytestmark = pytest.mark.arm_emulator

KEY = "emulated-by-a-test"
SMALL = (0.25, 128)
WIDE = (1.0, 128)  # every kind of kernel that 1.0-224 has, a third of its instructions
ODD = (0.75, 160)
TINY = (0.25, 32)
# ONNX Runtime 1.19 for aarch64 executes 95 million for WIDE, on the same counter
MOST_INSTRUCTIONS = {WIDE: 57.5e6, SMALL: 5.5e6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundles")


def bundle_of(variant: tuple[float, int], folder: Path, name: str = "arm-rpi4") -> Path:
    """The variant compiled for the target, once."""
    path = folder / f"{variant[0]}-{variant[1]}-{name}"
    if not path.exists():
        network = source.from_config(models.config_from("mobilenet_v1", *variant))
        build_bundle(network, CompileOptions(targets.resolve(name)), path)
    return path


def soon_compiled(folder: Path, name: str) -> Path:
    """A bundle of a few kernels for the target, for what does not run it."""
    file, path = folder / "separable.onnx", folder / f"separable-{name}"
    if not path.exists():
        onnx.save_model(separable(), str(file))
        build_bundle(source.from_onnx(file), CompileOptions(targets.resolve(name)), path)
    return path


@pytest.fixture(scope="module")
def tracker() -> Iterator[TrackerAddress]:
    with devices.serving(1, KEY, free_port()) as address:
        yield TrackerAddress(*address)


@pytest.mark.parametrize(
    ("variant", "threads"),
    [(SMALL, 1), (ODD, 4)],
    ids=lambda v: str(v) if isinstance(v, int) else f"{v[0]}-{v[1]}",
)
def test_runs_over_rpc(
    variant: tuple[float, int], threads: int, folder: Path, tracker: TrackerAddress
) -> None:
    with session.load(bundle_of(variant, folder), tracker, KEY, threads) as loaded:
        about = loaded.about
        assert about.emulated and about.architecture == "aarch64" and about.onnxruntime
        assert "asimd" in about.features and about.tvm_version is not None
        result = loaded.run(loaded.bundle.sample_input())
        (wanted,) = loaded.bundle.expected_outputs()  # PyTorch's
        assert relative_error(np.asarray(result), wanted) < 1e-5
        if variant == SMALL:
            assert all(latency > 0 for latency in loaded.time(runs=3))


def load(path: Path, tracker: TrackerAddress, key: str = KEY) -> None:
    """Load and let go, for what must not get so far."""
    with session.load(path, tracker, key):
        pass


def test_a_wrong_key_is_one_line(folder: Path, tracker: TrackerAddress) -> None:
    with pytest.raises(BadInput, match=f"no device 'other'; it has: {KEY}"):
        load(bundle_of(SMALL, folder), tracker, "other")


def test_a_taken_port_is_one_line(tracker: TrackerAddress) -> None:
    with (
        pytest.raises(BadInput, match=f"port {tracker.port} is taken"),
        devices.serving(1, KEY, tracker.port),
    ):
        pass


def test_no_tracker_is_one_line(folder: Path) -> None:
    nowhere = TrackerAddress("127.0.0.1", 9)
    with pytest.raises(RunFailed, match="no RPC tracker at"):
        load(bundle_of(SMALL, folder), nowhere)


def test_a_bundle_of_another_architecture_is_refused(folder: Path, tracker: TrackerAddress) -> None:
    path = soon_compiled(folder, "x86-64-v3")
    with pytest.raises(BadInput, match=r"the device runs no code for x86_64 .*; compile for") as e:
        load(path, tracker)
    assert "\n" not in str(e.value)


def test_newer_instructions_are_refused_over_rpc(folder: Path, tracker: TrackerAddress) -> None:
    with pytest.raises(BadInput, match=r"made for arm-rpi5, the device .* has no .*asimddp"):
        load(soon_compiled(folder, "arm-rpi5"), tracker)


def on_device(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the device's own Python."""
    return subprocess.run(
        [emulator.find().python, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )


def test_run_on_the_device_itself(folder: Path) -> None:
    result = on_device("-m", "tvm_mobilenet.run", str(bundle_of(SMALL, folder)))
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("allowed: ok\n")


def test_newer_instructions_are_refused_before_they_crash(folder: Path) -> None:
    result = on_device("-m", "tvm_mobilenet.run", str(soon_compiled(folder, "arm-rpi5")))
    assert result.returncode == 2
    assert "made for arm-rpi5" in result.stderr and "has no" in result.stderr
    assert "asimdhp" in result.stderr and result.stderr.count("\n") == 1


def count(path: Path, core: str = emulator.CPU) -> int:
    """Instructions of an inference that agrees with PyTorch."""
    device = dataclasses.replace(emulator.find(), cpu=core)
    with open_bundle(path, "aarch64") as bundle:
        counted = instruction_count.count(bundle, bundle.sample_inputs(), device)
        (wanted,) = bundle.expected_outputs()
    assert relative_error(counted.outputs[0], wanted) < 1e-5
    return counted.instructions


@pytest.mark.parametrize("variant", [SMALL, WIDE], ids=lambda v: f"{v[0]}-{v[1]}")
def test_instructions_of_an_inference(variant: tuple[float, int], folder: Path) -> None:
    path = bundle_of(variant, folder)
    counted = count(path)
    assert counted <= MOST_INSTRUCTIONS[variant]
    if variant == SMALL:
        assert abs(each_of(path).total() - counted) < 0.001 * counted


def each_of(path: Path) -> Counter[str]:
    """How often each instruction was executed, most of which multiply."""
    with open_bundle(path, "aarch64") as bundle:
        found = executed.count_each(bundle, bundle.sample_inputs(), emulator.find())
        (wanted,) = bundle.expected_outputs()
    assert relative_error(found.outputs[0], wanted) < 1e-5
    multiply = sum(times for text, times in found.instructions.items() if text.startswith("fmla v"))
    assert 0.5 < multiply / found.instructions.total() < 0.9
    return found.instructions


@pytest.mark.in_turns(4)
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
    assert count(bundle_of(SMALL, folder, name), core) <= MOST_INSTRUCTIONS[SMALL]


def bench_rows(tmp_path: Path, *arguments: str) -> schema.Results:
    """The results file of a ``bench`` that succeeds."""
    file = tmp_path / "results.json"
    assert bench.main([*arguments, "--json", str(file)]) == 0
    return schema.load(file)


def test_bench_counts_instructions(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(bundle_of(SMALL, folder))
    results = bench_rows(
        tmp_path, path, "--count-instructions", "--against", "onnxruntime,openvino"
    )
    ours, onnxruntime, openvino = results.results
    assert {row.how for row in results.results} == {"emulated"}
    assert results.machine.device is not None and results.machine.device.emulated
    assert results.machine.device.cpu.endswith("cortex-a72")
    assert ours.instructions is not None and onnxruntime.instructions is not None
    assert ours.instructions < MOST_INSTRUCTIONS[SMALL] < onnxruntime.instructions
    assert onnxruntime.engine_version == "1.19.2" and onnxruntime.target == "aarch64"
    assert openvino.status == "not run" and "not on the emulated device" in str(openvino.reason)
    out = capsys.readouterr().out
    assert "Million instructions per inference, 1 thread, emulated" in out
    assert "openvino was not run" in out


def test_bench_counts_for_one_arm_core_at_a_time(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a72, n1 = (str(soon_compiled(folder, name)) for name in ("arm-rpi4", "arm-graviton2"))
    assert bench.main([a72, n1, "--count-instructions"]) == 2
    assert "these are for cortex-a72 and neoverse-n1" in capsys.readouterr().err
    assert bench.main([str(soon_compiled(folder, "x86-64-v3")), "--count-instructions"]) == 2
    assert "an emulated ARM core, x86-64-v3 is none" in capsys.readouterr().err


def test_bench_counts_on_a_core_of_32_bits(folder: Path, tmp_path: Path) -> None:
    path = str(bundle_of(TINY, folder, "arm-rpi2-armv7"))
    results = bench_rows(tmp_path, path, "--count-instructions", "--against", "onnxruntime")
    ours, onnxruntime = results.results
    assert ours.status == "ok" and ours.instructions is not None
    assert 0.3e6 < ours.instructions < 1.2e6
    assert results.machine.device is not None
    assert results.machine.device.cpu.endswith("cortex-a7")
    assert onnxruntime.reason == "there is no onnxruntime for armv7l"


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
    port = free_port()
    with devices.serving(0, KEY, port) as address:
        server = devices.server_command(str(emulator.find().python), port, KEY)
        with devices.running(server) as device:
            devices.wait_until(
                lambda: devices.free_servers(address, KEY) == 1, [device], "no device"
            )
            with session.load(bundle_of(SMALL, folder), TrackerAddress(*address), KEY) as loaded:
                x = loaded.bundle.sample_input()
                loaded.run(x)
                os.killpg(device.pid, signal.SIGKILL)
                with pytest.raises(RunFailed, match="the device failed") as caught:
                    loaded.run(x)
                assert "\n" not in str(caught.value)


def test_devices_emulate(tracker: TrackerAddress) -> None:
    port = free_port()
    command = ["--emulate", "arm", "1", "--rpc-tracker", f"127.0.0.1:{port}"]
    with subprocess.Popen(
        [sys.executable, "-m", "tvm_mobilenet.devices", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            said = process.stdout.readline()
            assert said.startswith(f"tracker 127.0.0.1:{port} holds 1 emulated")
            (held,) = query_tracker(TrackerAddress("127.0.0.1", port))
            assert (held.key, held.free) == (EMULATED_KEY, 1)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=120) == INTERRUPTED
            assert process.stderr.read() == "interrupted\n"
        finally:
            process.kill()
    assert not devices.listens(("127.0.0.1", port)), "nothing is left running"
