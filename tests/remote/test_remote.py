"""What surrounds the emulated ARM device, as far as it can be asked without one."""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tvm_mobilenet import devices
from tvm_mobilenet.bundle import ANY_ARCHITECTURE, Target, open_bundle
from tvm_mobilenet.emulation import devices as emulated_devices
from tvm_mobilenet.emulation import emulator, instruction_count
from tvm_mobilenet.emulation.emulator import Emulator
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware import cpu
from tvm_mobilenet.hardware.toolchain import compile_c
from tvm_mobilenet.remote.device import About, check_features, compile_library

needs_qemu = pytest.mark.skipif(shutil.which(emulator.QEMU) is None, reason="no qemu-user here")


def test_the_command_of_a_program(tmp_path: Path) -> None:
    device = Emulator(tmp_path, cpu="cortex-a53")
    command = device.command("/bin/true", "x", plugin=Path("/p.so"))
    assert command[:3] == ["qemu-aarch64", "-cpu", "cortex-a53"]
    assert command[-4:] == ["-plugin", "/p.so", "/bin/true", "x"]
    assert str(device.root) in command


def test_without_qemu_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BadInput, match="apt-get install qemu-user"):
        emulator.find()
    with pytest.raises(BadInput, match="apt-get install qemu-user"):
        emulator.set_up(Path("nowhere"))


@needs_qemu
def test_without_a_device_it_says_how(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="make arm-emulator"):
        emulator.find(tmp_path)


def test_a_failing_step_is_one_line() -> None:
    with pytest.raises(RunFailed, match="sh failed: no such package"):
        emulator.run(["sh", "-c", "echo first; echo no such package >&2; exit 3"])


def test_what_the_device_says_of_itself(tmp_path: Path) -> None:
    device = Emulator(tmp_path)
    (device.root / "usr/bin").mkdir(parents=True)
    (device.root / "usr/bin/python3.11").touch()
    device.packages.mkdir()
    emulator.write_device_files(device)
    cpuinfo = (device.root / "proc/cpuinfo").read_text()
    assert cpu.parse_features(cpuinfo) == {"fp", "asimd", "evtstrm", "crc32", "cpuid"}
    assert cpuinfo.count("processor") == emulator.CORES
    assert device.python.stat().st_mode & 0o111


def test_a_taken_port_is_one_line() -> None:
    with socket.create_server((emulated_devices.HOST, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(BadInput, match=f"port {port} is taken"):
            emulated_devices.check_free(port)


def test_a_device_that_ends_at_once_is_told() -> None:
    with (
        emulated_devices.running(["false"]) as process,
        pytest.raises(RunFailed, match="no device: it ended at once"),
    ):
        emulated_devices.wait_until(lambda: False, [process], "no device")


def test_a_process_ends_with_its_group() -> None:
    with emulated_devices.running(["sh", "-c", "sleep 100 & sleep 100"]) as process:
        assert process.poll() is None
    assert process.poll() is not None


def test_what_a_process_leaves_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a server does that is ended in the middle of a session."""
    temporary, ready = tmp_path / "temporary", tmp_path / "ready"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    script = f"mktemp --directory; touch {ready}; exec sleep 100"
    with emulated_devices.running(["sh", "-c", script]) as process:
        emulated_devices.wait_until(ready.exists, [process], "not ready")
        assert len(list(temporary.glob("*/*"))) == 1
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--emulate", "arm", "none"], "expected a whole number of at least 1, got 'none'"),
        (["--emulate", "arm"], "expected 2 arguments"),
    ],
)
def test_emulate_flag(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        devices.main(arguments)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and says in error and error.count("\n") == 1


def test_what_cannot_be_emulated(capsys: pytest.CaptureFixture[str]) -> None:
    assert devices.main(["--emulate", "x86", "1"]) == 2
    expected = "error: --emulate x86: expected arm, or a target of 64-bit ARM\n"
    assert capsys.readouterr().err == expected


# Bundles for another machine


def arm_bundle(path: Path, **changes: Any) -> Path:
    from support import tiny_bundle

    tiny_bundle.write(path, target=Target("arm-rpi4", "aarch64-linux-gnu"), **changes)
    return path


# What is sent to a device beside a bundle's library


NO_NETWORK = """
#include <stddef.h>
const char *x_last_error(void) { return ""; }
""" + "".join(
    f"void *x_{name}(void) {{ return NULL; }}\n"
    for name in (
        *("run", "profile", "input", "output", "fma_peak", "stream_read", "destroy"),
        *("weights_close", "info"),
    )
)


def test_a_library_without_a_context_to_make_is_told(tmp_path: Path) -> None:
    """It exports the rest, so that nothing of it has failed, and it has no reason to give."""
    import tvm_ffi

    (tmp_path / "x.c").write_text(NO_NETWORK)
    library = compile_c(tmp_path / "x.c", tmp_path / "x.so", "gcc", ["-shared", "-fPIC"])
    machine = cpu.host_architecture()
    sent = compile_library(tmp_path / "sent.so", Target("own", f"{machine}-linux-gnu"))
    module = tvm_ffi.load_module(sent)
    with pytest.raises(RuntimeError, match="exports no info, weights_from_memory or create"):
        module["network_open"](str(library), "x", None, 1)


@pytest.mark.parametrize("name", ["bundle", "bundle.tar"])
@pytest.mark.parametrize("architecture", ["aarch64", ANY_ARCHITECTURE])
def test_a_bundle_for_another_machine_opens(name: str, architecture: str, tmp_path: Path) -> None:
    with open_bundle(arm_bundle(tmp_path / name), architecture) as opened:
        assert opened.manifest.target.name == "arm-rpi4"
        assert opened.library.is_file()


def test_a_bundle_for_another_machine_is_checked(tmp_path: Path) -> None:
    path = arm_bundle(tmp_path / "bundle")
    with pytest.raises(BadInput, match=r"made for aarch64 .*, expected armv7l"):
        open_bundle(path, "armv7l")
    (path / "parameters.bin").write_bytes(b"other")
    with pytest.raises(BadInput, match=r"parameters\.bin is not the file that was compiled"):
        open_bundle(path, "aarch64")


def test_features_a_device_lacks(tmp_path: Path) -> None:
    path = arm_bundle(tmp_path / "b", cpu_features=("asimd", "asimddp"))
    with open_bundle(path, "aarch64") as bundle:
        old = About("Cortex-A53", frozenset({"fp", "asimd"}), None, None)
        with pytest.raises(BadInput, match=r"the device \(Cortex-A53\) has no asimddp"):
            check_features(old, bundle.manifest.cpu_features, "made for it", "compile it anew")
        unknown = About(None, frozenset(), None, None)
        check_features(unknown, bundle.manifest.cpu_features, "made for it", "compile it anew")


# The counter


def test_a_count_is_read() -> None:
    command = ["sh", "-c", "read number; echo noise >&2; echo executed $number >&2"]
    assert instruction_count.executed_by(command, {}, "42\n") == 42


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo executed 42 >&2; exit 1", "sh failed: 1"),
        ("echo infer: no such library >&2; echo executed 42 >&2; exit 1", "infer: no such library"),
        ("true", "sh failed: the plugin counted nothing"),
    ],
)
def test_a_failed_run_is_no_count(script: str, says: str) -> None:
    with pytest.raises(RunFailed, match=says):
        instruction_count.executed_by(["sh", "-c", script], {})


def test_the_plugin_compiles_once(tmp_path: Path) -> None:
    device = SimpleNamespace(folder=tmp_path)
    first = instruction_count.counter(device)  # type: ignore[arg-type]
    stamp = first.stat().st_mtime_ns
    assert instruction_count.counter(device).stat().st_mtime_ns == stamp  # type: ignore[arg-type]


def test_a_missing_cross_compiler_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BadInput, match="apt-get install gcc-aarch64-linux-gnu"):
        instruction_count.driver(Emulator(tmp_path))
