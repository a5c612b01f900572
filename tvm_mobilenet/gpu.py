"""The GPU of this machine, asked of its driver alone."""

from __future__ import annotations

import ctypes
import re

DRIVER = "libcuda.so.1"
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # cuDeviceGetAttribute's numbers
ARCH = re.compile(r"(?:.*-)?sm_(\d{2,3})")


def present_arch(driver: str = DRIVER) -> str | None:
    """The architecture of this machine's first GPU, as in sm_90; None without a GPU or driver."""
    try:
        cuda = ctypes.CDLL(driver)
    except OSError:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
        return None
    for value, attribute in ((major, CAPABILITY_MAJOR), (minor, CAPABILITY_MINOR)):
        if cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
    return f"sm_{major.value}{minor.value}"


def is_arch(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"sm_\d{2,3}", value) is not None


def capability(name: str) -> int:
    """10 times the major and the minor number of an architecture, or of a target named after it."""
    found = ARCH.fullmatch(name)
    return int(found[1]) if found else 0


def runs(arch: str) -> bool:
    """Whether this machine has a GPU that runs code for `arch`: of it, or newer."""
    present = present_arch()
    return present is not None and capability(present) >= capability(arch)
