"""Where a file of ours comes from: when, by which command, on which machine, with which packages.

A results file, whatever it holds, starts with the keys of ``head``.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tvm_mobilenet import files, strict
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import cpu, cpu_names
from tvm_mobilenet.hardware.core_facts import CoreFacts
from tvm_mobilenet.hardware.cores import usable_cores
from tvm_mobilenet.strict import Amount, Count

# How a figure was obtained: on this machine, on a device over RPC, on an emulated one, or by a
# model that ran nothing.
How = Literal["native", "rpc", "emulated", "modelled"]

FORMAT_VERSION = 1  # of files that need no other
PACKAGES = (
    "tvm-mobilenet",
    "apache-tvm",
    "apache-tvm-ffi",
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "ai-edge-litert",
    "ncnn",
    "numpy",
)
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
BUSY_SHARE = 0.3  # a load average above this share of the cores disturbs a measurement


@dataclass(frozen=True)
class MeasuredDevice:
    """The device that ran what was measured, where that was not the machine itself.

    ``temperature_c`` holds its readings before and after, as far as it could be read. An
    ``emulated`` device's instructions are real, its times mean nothing.
    """

    cpu: str
    emulated: bool
    cores: Count | None = None
    governor: str | None = None
    temperature_c: tuple[Amount, ...] = ()
    os: str | None = None
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Machine:
    """Where the rows were measured. ``load_average`` holds the 1, 5 and 15 minute figures.

    ``device`` is None where the machine itself ran what was measured. ``microarchitecture`` is by
    the CPU's family and model, ``facts`` were found out where it mattered; both are None in files
    from before.
    """

    cpu: str
    cores: Count
    governor: str | None
    load_average: tuple[Amount, ...]
    os: str
    python: str
    versions: dict[str, str]
    device: MeasuredDevice | None = None
    microarchitecture: str | None = None
    facts: CoreFacts | None = None

    @property
    def busy(self) -> bool:
        """Whether other work took enough of it, when it was described, to disturb timing."""
        return bool(self.load_average) and self.load_average[0] > BUSY_SHARE * self.cores


def now() -> str:
    """ISO 8601 in UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def this_command() -> str:
    """The command line of this process, as a shell takes it."""
    return shlex.join(["python", *sys.argv])


def head(
    machine: Machine, command: str | None, created: str | None, format_version: int = FORMAT_VERSION
) -> dict[str, Any]:
    """The keys that a results file starts with; what is not known is left out."""
    document = dataclasses.asdict(machine)
    for name in ("device", "microarchitecture", "facts"):
        if document[name] is None:
            del document[name]
    first = {
        "format_version": format_version,
        "command": command,
        "created": created,
        "machine": document,
    }
    return {key: value for key, value in first.items() if value is not None}


def write_results(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as JSON behind the head of this run; RunFailed where that is refused."""
    document = {**head(describe_machine(), this_command(), now()), **content}
    files.write_text(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def read_results(path: Path) -> dict[str, Any]:
    """What ``write_results`` wrote, head and content. Raises BadInput where it did not."""
    try:
        document: dict[str, Any] = strict.parse_json(files.read_text(path, str(path)))
        strict.check_version(document, FORMAT_VERSION)
    except strict.Unexpected as error:
        raise BadInput(f"{path}: {error}") from None
    return document


def describe_machine() -> Machine:
    """This machine, now. ``cores`` are those this process may use."""
    return Machine(
        cpu=_cpu_name(),
        cores=len(usable_cores()),
        governor=GOVERNOR.read_text().strip() if GOVERNOR.exists() else None,
        load_average=tuple(round(load, 2) for load in os.getloadavg()),
        os=_os_name(),
        python=platform.python_version(),
        versions=_versions(),
        microarchitecture=cpu_names.microarchitecture(cpu.first_fields(cpu.read_cpuinfo())),
    )


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
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
