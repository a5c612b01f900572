"""The C compilers that a target file names: whether one is there, where to get it, calls of one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware import cpu

if TYPE_CHECKING:
    from tvm_mobilenet.hardware.target import TargetSpec

NDK_PACKAGE = "google-android-ndk-installer"  # in contrib; the NDK itself comes from Google
NDK_FOLDER = "toolchains/llvm/prebuilt/linux-x86_64/bin"

# aarch64-linux-gnu-gcc-12: the triple, the tool, its version
COMPILER = re.compile(
    r"(?:(?P<triple>.+)-)?(?P<tool>gcc|g\+\+|clang\+?\+?|cc|c\+\+)(?P<version>-\d+)?"
)
PACKAGES = {"cc": "gcc", "c++": "g++", "clang++": "clang"}


def package_of(compiler: str) -> str | None:
    """The package to apt-get install for ``compiler``; None where Debian has none.

    Cross compilers are named after their triple: ``aarch64-linux-gnu-gcc`` is in
    ``gcc-aarch64-linux-gnu``, and version 12 of it in ``gcc-12-aarch64-linux-gnu``.
    """
    found = COMPILER.fullmatch(compiler)
    if found is None:
        return None
    triple, tool, version = found["triple"], found["tool"], found["version"] or ""
    if triple is None:
        return PACKAGES.get(tool, tool) + version
    if "android" in triple:
        return NDK_PACKAGE
    return f"{tool}{version}-{triple}" if tool in ("gcc", "g++") else None


def where_to_get(compiler: str) -> str:
    """What to do where ``compiler`` is not installed."""
    package = package_of(compiler)
    if package == NDK_PACKAGE:
        return f"apt-get install {package}, and put the NDK's {NDK_FOLDER} on PATH"
    if package is not None:
        return f"apt-get install {package}"
    return "put it on PATH, or name another as cross_compiler under [build] of a target file"


def check_installed(compiler: str, needed_by: str = "") -> None:
    """Raise BadInput, which says how to get it, where ``compiler`` is not there."""
    if shutil.which(compiler) is None:
        who = f"{needed_by}: " if needed_by else ""
        raise BadInput(f"{who}{compiler} is not installed; {where_to_get(compiler)}")


def link_command(spec: TargetSpec) -> tuple[str, ...]:
    """The compiler that makes object files a shared library for ``spec``, with its flags.

    Where the file names none, or the host of a GPU is a machine as this one, this machine's own.
    Raises BadInput where it is not installed: ask before anything is compiled.
    """
    compiler = spec.cross_compiler
    if spec.gpu is not None:
        same = cpu.architecture_of(spec.triple) == cpu.host_architecture()
        compiler = None if same else compiler
        compiler = compiler or "cc"
    elif compiler is None:
        compiler = _own_compiler()
    check_installed(compiler, f"target {spec.name}")
    return (compiler, "-shared", *linker_flags(spec))


def _own_compiler() -> str:
    """This machine's C++ or C compiler, whose linker knows what TVM's code asks for.

    The first of those that TVM looks for; to ask TVM would import all of it.
    """
    named = os.environ.get("CXX") or os.environ.get("CC")
    found = map(shutil.which, ("g++", "gcc", "clang++", "clang", "c++", "cc"))
    return named or next((path for path in found if path), "cc")


def linker_flags(spec: TargetSpec) -> tuple[str, ...]:
    """What tells a compiler to link with the ``linker`` of the target's file."""
    return () if spec.linker is None else (f"-fuse-ld={spec.linker}",)


def compile_c(source: Path, program: Path, compiler: str, flags: Sequence[str]) -> Path:
    """Compile ``source`` into ``program`` where that is missing or older; returns ``program``.

    Raises BadInput where the compiler is missing, RunFailed where it refuses the source.
    """
    if program.is_file() and program.stat().st_mtime >= source.stat().st_mtime:
        return program
    check_installed(compiler)
    unfinished = program.with_suffix(f".{os.getpid()}.part")  # of this process alone
    command = [compiler, "-O2", "-Wall", "-o", str(unfinished), str(source), *flags]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RunFailed(f"{compiler} cannot compile {source.name}: {result.stderr.strip()[:500]}")
    unfinished.replace(program)
    return program
