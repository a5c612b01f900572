"""What this machine's CPU is and which instructions it has, as Linux tells it in /proc/cpuinfo.

The feature names are Linux's own, for example ``avx2``, ``fma``, ``avx512f``, ``avx512_bf16`` on
x86-64 and ``asimd``, ``asimddp``, ``i8mm`` on aarch64; those of a Mac are in macos.py. Only the
standard library is imported.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from pathlib import Path

from tvm_mobilenet.hardware import macos

CPUINFO = Path("/proc/cpuinfo")
TILES = "amx_tile"  # the feature that a process has to ask for
ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = 158, 0x1023, 18  # of x86-64

# platform.machine() and LLVM triples name one architecture differently
_ARCHITECTURES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


def host_features() -> frozenset[str]:
    """The instruction-set features that every core of this machine has.

    Empty where the system does not tell (no readable /proc/cpuinfo).
    """
    if sys.platform == "darwin" and host_architecture() == "aarch64":
        return macos.features()
    return parse_features(read_cpuinfo())


def permit_tiles() -> bool:
    """Ask Linux for the tile registers of AMX, for all threads of this process; whether it gives.

    Until then the first instruction that needs them ends the process.
    """
    status: int = ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA)
    return status == 0


def host_model() -> str:
    """The CPU's name as people know it, or its architecture where the system has no name for it."""
    return parse_model(read_cpuinfo()) or host_architecture()


def host_architecture() -> str:
    """The architecture as the first part of an LLVM triple: ``x86_64``, ``aarch64``, …"""
    return architecture_of(platform.machine())


def architecture_of(triple: str) -> str:
    """The architecture in an LLVM triple or machine name, spelled as LLVM does (``aarch64``)."""
    first = triple.split("-", 1)[0].lower()
    return _ARCHITECTURES.get(first, first)


def parse_features(cpuinfo: str) -> frozenset[str]:
    """The features common to all cores in the text of a /proc/cpuinfo.

    Common to all, since the cores of a big.LITTLE machine may differ and a thread may run on any.
    """
    # x86 writes "flags", ARM writes "Features"
    lists = [value for key, value in _fields(cpuinfo) if key in ("flags", "features")]
    per_core = [set(value.split()) for value in lists]
    return frozenset(set.intersection(*per_core)) if per_core else frozenset()


def parse_model(cpuinfo: str) -> str | None:
    """The name of the CPU or board in the text of a /proc/cpuinfo; None where it has none."""
    fields = first_fields(cpuinfo)
    for key in ("model name", "model", "hardware"):
        name = fields.get(key, "")
        # on x86 "model" is a number, and "model name" comes first anyway
        if name and not name.isdecimal():
            return name
    if "cpu part" in fields:
        return f"ARM implementer {fields.get('cpu implementer', '?')} part {fields['cpu part']}"
    return None


def first_fields(cpuinfo: str) -> dict[str, str]:
    """Each key of a /proc/cpuinfo, in lower case, with what the first core says."""
    fields: dict[str, str] = {}
    for key, value in _fields(cpuinfo):
        fields.setdefault(key, value)
    return fields


def read_cpuinfo() -> str:
    """This machine's /proc/cpuinfo; empty where the system has none."""
    try:
        return CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _fields(cpuinfo: str) -> list[tuple[str, str]]:
    """The ``key : value`` lines in order, keys in lower case."""
    split = (line.partition(":") for line in cpuinfo.splitlines())
    return [(key.strip().lower(), value.strip()) for key, colon, value in split if colon]
