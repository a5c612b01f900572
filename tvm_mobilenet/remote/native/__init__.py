"""C sources for a device, or for QEMU's side of an emulated one, and their compilation."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware import toolchain

SOURCES = Path(__file__).resolve().parent


def compiled(program: Path, source: str, compiler: str, flags: list[str]) -> Path:
    """``program``, compiled from ``source`` where it is not there or older.

    Raises BadInput where the compiler is missing, RunFailed where it refuses the source.
    """
    path = SOURCES / source
    if program.is_file() and program.stat().st_mtime >= path.stat().st_mtime:
        return program
    if shutil.which(compiler) is None:
        package = toolchain.package_of(compiler)
        advice = f"; apt-get install {package}" if package else ""
        raise BadInput(f"{compiler} is not installed{advice}")
    unfinished = program.with_suffix(".part")
    command = [compiler, "-O2", "-Wall", "-o", str(unfinished), str(path), *flags]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RunFailed(f"{compiler} cannot compile {source}: {result.stderr.strip()[:500]}")
    unfinished.replace(program)
    return program
