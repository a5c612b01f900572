"""Native code → the shared library of a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet.errors import BadInput, RunFailed, last_line
from tvm_mobilenet.hardware import cpu
from tvm_mobilenet.hardware.toolchain import package_of

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.backend import Code
    from tvm_mobilenet.hardware.target import TargetSpec


def link(code: Code, library: Path, spec: TargetSpec) -> None:
    """Write the shared library. Raises BadInput without a linker, RunFailed where linking fails."""
    from tvm_mobilenet.compiler.cuda import library as gpu_library

    if isinstance(code, gpu_library.GpuCode):
        gpu_library.link(code, library, spec.name, host_compiler(spec))
        return

    from tvm.support import cc

    compiler = spec.cross_compiler or cc.get_cc()
    if compiler is None or shutil.which(compiler) is None:
        package = package_of(compiler or "cc")
        advice = f"; apt-get install {package}" if package else ""
        raise BadInput(
            f"target {spec.name}: wanted the linker {compiler or 'cc'}, it is not installed{advice}"
        )
    try:
        code.export_library(str(library), fcompile=cc.cross_compiler(compiler))
    except RuntimeError as error:
        raise RunFailed(
            f"target {spec.name}: {compiler} cannot link the library: {last_line(error)}"
        ) from error


def host_compiler(spec: TargetSpec) -> str | None:
    """What compiles a GPU library's host half: this machine's own where it is of the same kind."""
    same = cpu.architecture_of(spec.triple) == cpu.host_architecture()
    return None if same else spec.cross_compiler
