"""The CPU features of an ARM Mac, which has a setting of sysctl for each: in Python and in C."""

from __future__ import annotations

import ctypes
import platform
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.c_programs import WARNINGS, output_of

from tvm_mobilenet.hardware import cpu, macos, target
from tvm_mobilenet.library.cpu_bits import bits_of
from tvm_mobilenet.library.description import NATIVE

M2 = target.resolve("arm-apple-m2")
# of an M1, which multiplies no matrices
M1_LACKS = {"i8mm", "bf16"}
PROGRAM = Path(__file__).parents[1] / "support" / "macos_cpu.c"
COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
# glibc has no such header
HEADER = "#include <stddef.h>\nint sysctlbyname(const char *, void *, size_t *, void *, size_t);\n"


def read_by_m1(setting: str) -> int:
    return int(setting not in {macos.SETTINGS[name] for name in M1_LACKS})


def test_a_setting_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def sysctlbyname(name: bytes, value: Any, size: Any, new: None, new_size: Any) -> int:
        if name == b"absent":
            return -1
        assert size.contents.value == ctypes.sizeof(ctypes.c_int)
        value.contents.value = 1
        return 0

    system = SimpleNamespace(sysctlbyname=sysctlbyname)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: system)
    assert macos.read_setting("hw.optional.AdvSIMD") == 1
    assert macos.read_setting("absent") == 0


def test_an_m1_lacks_what_multiplies_matrices() -> None:
    found = macos.features(read_by_m1)
    assert set(M2.missing_features(found)) == M1_LACKS
    assert not M2.missing_features(macos.features(lambda setting: 1))
    assert not target.resolve("arm-apple-m1").missing_features(found)


def test_a_mac_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(macos, "read_setting", read_by_m1)
    assert cpu.host_features() == macos.features(read_by_m1)


@pytest.mark.skipif(
    shutil.which(COMPILER) is None or shutil.which(EMULATOR) is None,
    reason="apt-get install qemu-user gcc-aarch64-linux-gnu",
)
def test_the_library_asks_for_the_same(tmp_path: Path) -> None:
    """All but macOS is there: its header and function are the test's."""
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys" / "sysctl.h").write_text(HEADER)
    bits = bits_of(M2.cpu_features, M2.triple)
    entries = "".join(f'{{"{one.name}", {one.word}, {one.bit}, {one.state}}}, ' for one in bits)
    table = f"static const tmn_feature features[] = {{{entries}{{NULL, 0, 0, 0}}}};\n"
    (tmp_path / "network_features.h").write_text(table)
    # of the libraries' headers and their macros none are Linux's
    mac = ("-U__linux__", "-D__APPLE__", "-DTMN_NAME=network", f"-I{tmp_path}", f"-I{NATIVE}")
    program = tmp_path / "program"
    output_of(COMPILER, *WARNINGS, "-D_GNU_SOURCE", *mac, PROGRAM, "-o", program, "-static")
    settings = [macos.SETTINGS[name] for name in M2.cpu_features]
    first, *others = output_of(EMULATOR, program, *settings).splitlines()
    assert first == "ok"
    for setting, said in zip(settings, others, strict=True):
        # two features have one setting
        lacking = next(name for name in M2.cpu_features if macos.SETTINGS[name] == setting)
        assert said == f"network is compiled for arm-apple-m2; this CPU has no {lacking}"
