"""Reading /proc/cpuinfo."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvm_mobilenet.hardware import cpu

X86 = """\
processor\t: 0
model\t\t: 2
model name\t: AMD EPYC
flags\t\t: fpu fma avx2 avx512f

processor\t: 1
model name\t: AMD EPYC
flags\t\t: fpu fma avx2
"""
RASPBERRY_PI_4 = """\
processor\t: 0
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU part\t: 0xd08

Model\t\t: Raspberry Pi 4 Model B Rev 1.1
"""
ARM_WITHOUT_A_NAME = "CPU implementer\t: 0x41\nCPU part\t: 0xd08\n"


def test_features_are_those_of_every_core() -> None:
    assert cpu.parse_features(X86) == {"fpu", "fma", "avx2"}
    assert "asimd" in cpu.parse_features(RASPBERRY_PI_4)
    assert cpu.parse_features("") == frozenset()


def test_model() -> None:
    assert cpu.parse_model(X86) == "AMD EPYC"
    assert cpu.parse_model(RASPBERRY_PI_4) == "Raspberry Pi 4 Model B Rev 1.1"
    assert cpu.parse_model(ARM_WITHOUT_A_NAME) == "ARM implementer 0x41 part 0xd08"
    assert cpu.parse_model("") is None


def test_architecture_has_one_spelling() -> None:
    assert cpu.architecture_of("aarch64-linux-gnu") == "aarch64"
    assert cpu.architecture_of("arm64-apple-darwin") == "aarch64"
    assert cpu.architecture_of("AMD64") == "x86_64"


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "absent")
    assert cpu.host_features() == frozenset()
    assert cpu.host_model() == cpu.host_architecture()
