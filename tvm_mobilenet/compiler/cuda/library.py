"""A program → model.so: the host's half, compiled C, with the kernels' machine code inside."""

from __future__ import annotations

import importlib.resources
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm.target import Target

from tvm_mobilenet import files
from tvm_mobilenet.compiler.cuda import nvcc
from tvm_mobilenet.compiler.cuda.lowering import DeviceKernel, lower
from tvm_mobilenet.compiler.cuda.program import GpuProgram, plan_header
from tvm_mobilenet.errors import RunFailed, last_line
from tvm_mobilenet.hardware.toolchain import check_installed


@dataclass(frozen=True)
class GpuCode:
    """A program's source, its kernels' launches, and what nvcc made of it."""

    program: GpuProgram
    source: str
    kernels: dict[str, DeviceKernel]
    arch: str
    compiled: nvcc.Compiled


def generate(program: GpuProgram, target: Target, name: str) -> GpuCode:
    """CUDA C++ and machine code. Raises BadInput without an nvcc for the target called ``name``."""
    arch = str(target.attrs["arch"])
    nvcc.check(name, arch)
    source, kernels = lower(program.functions, target)
    with files.temporary_folder() as folder:
        compiled = nvcc.compile_source(source, arch, folder)
    return GpuCode(program, source, kernels, arch, compiled)


def link(
    code: GpuCode,
    library: Path,
    name: str,
    command: Sequence[str] = ("cc", "-shared"),
    objects: Sequence[str] = (),
) -> None:
    """Write the shared library by a compiler's ``command``; ``objects`` go into it too.

    Raises BadInput without that compiler, RunFailed where it does not compile.
    """
    check_installed(command[0], f"target {name}")
    with files.temporary_folder() as folder:
        (folder / "host.c").write_text(host_source(), encoding="utf-8")
        (folder / "plan.h").write_text(
            plan_header(code.program, code.kernels, code.arch), encoding="utf-8"
        )
        (folder / "kernels.fatbin").write_bytes(code.compiled.fatbin)
        flags = ["-fPIC", "-O2", "-o", str(library.resolve()), "host.c"]
        done = subprocess.run(
            [*command, *flags, *objects, "-ldl"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        reason = last_line(done.stderr) or "no reason given"
        raise RunFailed(f"target {name}: {command[0]} cannot link the library: {reason}")


def without_kernels(arch: str) -> GpuCode:
    """What a library is made of that runs nothing: it tells of the GPU that it finds."""
    program = GpuProgram({}, (), b"", (1, 1, 1), ())
    return GpuCode(program, "", {}, arch, nvcc.Compiled(b"", b"", "", {}))


def host_source() -> str:
    """host.c, which every library holds compiled for its own network."""
    return (
        importlib.resources.files("tvm_mobilenet.compiler.cuda")
        .joinpath("host.c")
        .read_text("utf-8")
    )
