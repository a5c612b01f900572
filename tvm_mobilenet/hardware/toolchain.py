"""The C compilers that a target file names: which Debian package brings one, and a call of one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tvm_mobilenet.errors import BadInput, RunFailed

NDK_PACKAGE = "google-android-ndk-installer"  # in contrib; the NDK itself comes from Google


def package_of(compiler: str) -> str | None:
    """The package to apt-get install for ``compiler``; None where Debian has none.

    Cross compilers are named after their triple: ``aarch64-linux-gnu-gcc`` is in
    ``gcc-aarch64-linux-gnu``.
    """
    triple, _, tool = compiler.rpartition("-")
    if "android" in triple:
        return NDK_PACKAGE
    if tool in ("gcc", "g++"):
        return f"{tool}-{triple}" if triple else tool
    return {"cc": "gcc", "c++": "g++", "clang": "clang"}.get(compiler)


def compile_c(source: Path, program: Path, compiler: str, flags: Sequence[str]) -> Path:
    """Compile ``source`` into ``program`` where that is missing or older; returns ``program``.

    Raises BadInput where the compiler is missing, RunFailed where it refuses the source.
    """
    if program.is_file() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    if shutil.which(compiler) is None:
        package = package_of(compiler)
        advice = f"; apt-get install {package}" if package else ""
        raise BadInput(f"{compiler} is not installed{advice}")
    unfinished = program.with_suffix(".part")
    command = [compiler, "-O2", "-Wall", "-o", str(unfinished), str(source), *flags]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RunFailed(f"{compiler} cannot compile {source.name}: {result.stderr.strip()[:500]}")
    unfinished.replace(program)
    return program
