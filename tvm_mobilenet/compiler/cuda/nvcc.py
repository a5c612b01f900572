"""CUDA C++ → machine code by nvcc, which needs no GPU."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tvm_mobilenet.errors import BadInput, RunFailed

NVCC = "nvcc"
OLDEST = (12, 0)  # the first whose PTX the architectures here all have
WHERE_TO_GET = "apt-get install nvidia-cuda-toolkit, or put the nvcc of NVIDIA's toolkit on PATH"
# TVM declares names that it then folds away
QUIET = ("-diag-suppress", "177")


@dataclass(frozen=True)
class KernelResources:
    """What ptxas says of one kernel: registers a thread and bytes."""

    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_bytes: int


@dataclass(frozen=True)
class Compiled:
    """``fatbin`` holds the architecture's machine code (``cubin``) and its PTX, for newer GPUs."""

    fatbin: bytes
    cubin: bytes
    ptx: str
    resources: dict[str, KernelResources]


def check(target: str, arch: str) -> None:
    """Raise BadInput, one line, where nvcc is missing, too old, or does not know ``arch``."""
    if shutil.which(NVCC) is None:
        raise BadInput(f"target {target}: nvcc is not installed; {WHERE_TO_GET}")
    version = installed_version()
    if version < OLDEST:
        got = ".".join(map(str, version))
        oldest = ".".join(map(str, OLDEST))
        raise BadInput(
            f"target {target}: expected nvcc {oldest} or newer, got {got}; {WHERE_TO_GET}"
        )
    if arch not in known_architectures():
        got = ".".join(map(str, version))
        raise BadInput(f"target {target}: nvcc {got} does not compile for {arch}; {WHERE_TO_GET}")


def installed_version() -> tuple[int, int]:
    """Of nvcc, (0, 0) where it does not tell."""
    found = re.search(r"release (\d+)\.(\d+)", output_of([NVCC, "--version"]))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def known_architectures() -> list[str]:
    return output_of([NVCC, "--list-gpu-code"]).split()


def output_of(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def compile_source(source: str, arch: str, folder: Path) -> Compiled:
    """Compile in ``folder``, which has to be empty.

    ``arch`` is as in sm_90. Raises RunFailed, with nvcc's first error, where it does not compile.
    """
    (folder / "kernels.cu").write_text(source, encoding="utf-8")
    number = arch.removeprefix("sm_")
    done = subprocess.run(
        [
            NVCC,
            "-fatbin",
            "-O3",
            f"-gencode=arch=compute_{number},code=[{arch},compute_{number}]",
            "--resource-usage",
            "--keep",
            *QUIET,
            "-o",
            "kernels.fatbin",
            "kernels.cu",
        ],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder)},  # where it leaves files that do not compile
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        raise RunFailed(f"nvcc cannot compile the kernels: {(errors or ['no reason given'])[0]}")
    return Compiled(
        (folder / "kernels.fatbin").read_bytes(),
        (folder / f"kernels.{arch}.cubin").read_bytes(),
        (folder / "kernels.ptx").read_text("utf-8"),
        resources_of(done.stderr + done.stdout),
    )


def resources_of(text: str) -> dict[str, KernelResources]:
    """What ``ptxas -v`` printed, by kernel."""
    found = {}
    parts = re.split(r"Compiling entry function '(\w+)'", text)[1:]
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        stack, stores, loads = number_before(
            body, "bytes stack frame", "bytes spill stores", "bytes spill loads"
        )
        registers = re.search(r"Used (\d+) registers", body)
        shared = re.search(r"(\d+) bytes smem", body)
        found[name] = KernelResources(
            int(registers[1]) if registers else 0,
            int(shared[1]) if shared else 0,
            stack,
            stores + loads,
        )
    return found


def number_before(text: str, *labels: str) -> list[int]:
    """The numbers that stand before each label."""
    return [
        int(found[1]) if (found := re.search(rf"(\d+) {label}", text)) else 0 for label in labels
    ]
