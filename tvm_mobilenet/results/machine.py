"""Describe the machine a benchmark runs on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from tvm_mobilenet.hardware import cpu
from tvm_mobilenet.hardware.cores import usable_cores
from tvm_mobilenet.results.schema import Machine

_DISTRIBUTIONS = (
    "tvm-mobilenet",
    "apache-tvm",
    "apache-tvm-ffi",
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "ai-edge-litert",
    "numpy",
)
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
BUSY_SHARE = 0.3  # a load average above this share of the cores disturbs a measurement


def describe() -> Machine:
    """This machine, now. ``cores`` are those this process may use."""
    return Machine(
        cpu=_cpu_name(),
        cores=len(usable_cores()),
        governor=_GOVERNOR.read_text().strip() if _GOVERNOR.exists() else None,
        load_average=tuple(round(load, 2) for load in os.getloadavg()),
        os=_os_name(),
        python=platform.python_version(),
        versions=_versions(),
    )


def busy(machine: Machine) -> bool:
    """Whether other work took enough of the machine, when it was described, to disturb timing."""
    return bool(machine.load_average) and machine.load_average[0] > BUSY_SHARE * machine.cores


def _cpu_name() -> str:
    """The CPU's name; with family and model, since a virtual machine often hides the name."""
    fields = cpu.first_fields(cpu.read_cpuinfo())
    if "model name" not in fields:
        return platform.processor() or platform.machine()
    if "cpu family" not in fields:
        return fields["model name"]
    return f"{fields['model name']} (family {fields['cpu family']}, model {fields['model']})"


def _os_name() -> str:
    kernel = f"{platform.system()} {platform.release()}"
    try:
        release: dict[str, str] = platform.freedesktop_os_release()
        return f"{release['PRETTY_NAME']}, {kernel}"
    except (OSError, KeyError):
        return kernel


def _versions() -> dict[str, str]:
    versions = {}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
