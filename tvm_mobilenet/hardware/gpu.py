"""The GPU of this machine, asked of its driver alone; and what one is said to be."""

from __future__ import annotations

import contextlib
import ctypes
import re
from dataclasses import dataclass
from pathlib import Path

DRIVER = "libcuda.so.1"
DRIVER_VERSION = "/sys/module/nvidia/version"  # of the kernel's part, where Linux has one
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # cuDeviceGetAttribute's numbers
NAME_BYTES = 96
ARCH = re.compile(r"(?:.*-)?sm_(\d{2,3})")


@dataclass(frozen=True)
class Present:
    """A GPU that is there: ``arch`` as in sm_90, ``cuda`` what its driver serves, as in 13.0."""

    name: str
    arch: str
    cuda: str

    def described(self, driver_version: str) -> str:
        """For records: the GPU and its driver, of which the version may be unknown (empty)."""
        version = driver_version.strip()
        return f"{self.name}, driver {version + ' ' if version else ''}for CUDA {self.cuda}"


def present(driver: str = DRIVER) -> Present | None:
    """This machine's first GPU; None without a GPU or driver."""
    try:
        cuda = ctypes.CDLL(driver)
    except OSError:
        return None
    device, version = ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(NAME_BYTES)
    if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(device), 0):
        return None
    if cuda.cuDeviceGetName(name, NAME_BYTES, device) or cuda.cuDriverGetVersion(
        ctypes.byref(version)
    ):
        return None
    major, minor = ctypes.c_int(), ctypes.c_int()
    for value, attribute in ((major, CAPABILITY_MAJOR), (minor, CAPABILITY_MINOR)):
        if cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
    return Present(
        name.value.decode(errors="replace"),
        f"sm_{major.value}{minor.value}",
        f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def parse(text: str) -> Present:
    """What ``tvm_mobilenet_about`` of cuda/host.c tells, a line each."""
    name, arch, cuda = text.splitlines()
    return Present(name, arch, cuda)


def present_arch(driver: str = DRIVER) -> str | None:
    """The architecture of this machine's first GPU, as in sm_90; None without a GPU or driver."""
    found = present(driver)
    return found.arch if found else None


def describe_present(driver: str = DRIVER) -> str:
    """This machine's first GPU and its driver, for records."""
    found = present(driver)
    if found is None:
        return "unknown"
    version = ""
    with contextlib.suppress(OSError):
        version = Path(DRIVER_VERSION).read_text()
    return found.described(version)


def is_arch(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"sm_\d{2,3}", value) is not None


def capability(name: str) -> int:
    """10 times the major and the minor number of an architecture, or of a target named after it."""
    found = ARCH.fullmatch(name)
    return int(found[1]) if found else 0


def runs(arch: str) -> bool:
    """Whether this machine has a GPU that runs code for ``arch``: of it, or newer."""
    here = present_arch()
    return here is not None and capability(here) >= capability(arch)
