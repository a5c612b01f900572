"""Code for TVM's virtual machine → the shared library of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet.errors import RunFailed, last_line
from tvm_mobilenet.hardware.toolchain import link_command

if TYPE_CHECKING:
    import tvm

    from tvm_mobilenet.hardware.target import TargetSpec


def link(code: tvm.runtime.Executable, library: Path, spec: TargetSpec) -> None:
    """Write the shared library of a program for the virtual machine.

    Those of all others are made by ``library``. Raises BadInput without a linker, RunFailed where
    linking fails.
    """
    from tvm.support import cc

    compiler, *flags = link_command(spec)
    try:
        code.export_library(str(library), fcompile=cc.cross_compiler(compiler, flags))
    except RuntimeError as error:
        raise RunFailed(
            f"target {spec.name}: {compiler} cannot link the library: {last_line(error)}"
        ) from error
