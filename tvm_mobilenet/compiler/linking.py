"""Native code → the shared library of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet import files
from tvm_mobilenet.errors import RunFailed, last_line
from tvm_mobilenet.hardware.toolchain import link_command

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.backend import Code
    from tvm_mobilenet.hardware.target import TargetSpec

# calls between the parts of one library go straight, not through its table of symbols
BIND_DIRECTLY = ["-Wl,-Bsymbolic-functions"]


def link(code: Code, library: Path, spec: TargetSpec) -> None:
    """Write the shared library. Raises BadInput without a linker, RunFailed where linking fails."""
    from tvm_mobilenet.compiler.cuda import library as gpu_library

    command = link_command(spec)
    if isinstance(code, gpu_library.GpuCode):
        gpu_library.link(code, library, spec.name, command)
        return

    from tvm.support import cc

    from tvm_mobilenet.compiler.cpu.native_code import NativeCode

    compiler, *flags = command
    linker = cc.cross_compiler(compiler, flags)
    try:
        if isinstance(code, NativeCode):
            with files.temporary_folder() as folder:
                objects = [str(path) for path in code.write_objects(folder)]
                linker(str(library), objects, BIND_DIRECTLY if len(objects) > 1 else [])
        else:
            code.export_library(str(library), fcompile=linker)
    except RuntimeError as error:
        raise RunFailed(
            f"target {spec.name}: {compiler} cannot link the library: {last_line(error)}"
        ) from error
