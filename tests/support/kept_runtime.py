"""Object files of the C runtime, kept from test to test.

Every bundle's library has the runtime in it, compiled anew with the network's name before that of
each function, which takes 0.4 s of a core. Here it is compiled once by each compiler, and objcopy
renames the functions for the next network: byte for byte what compiling gives. What describes the
network is compiled every time.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tvm_mobilenet.library import building
from tvm_mobilenet.library.building import Toolchain

FUNCTION = re.compile(rb"\bNAME\((\w+)\)")  # as the sources say their names
RENAMED = "renamed"

compile_anew = building.compile_source


@dataclass(frozen=True)
class Kept:
    """An object file, and the network whose name is in it."""

    content: bytes
    network: str


@contextlib.contextmanager
def used() -> Iterator[None]:
    """Libraries that are built meanwhile share them."""
    kept: dict[tuple[Any, ...], Kept] = {}

    def compile_once(
        source: str, network: str, probes: Sequence[str], folder: Path, tools: Toolchain
    ) -> str:
        if source == building.DESCRIPTION or tools.apple:
            return compile_anew(source, network, probes, folder, tools)
        sources = written_in(folder)
        key = (*compiler_of(tools), source, *probes, *sources)
        if key not in kept:
            made = compile_anew(source, network, probes, folder, tools)
            kept[key] = Kept((folder / made).read_bytes(), network)
            return made
        made = str(Path(source).with_suffix(".o"))
        (folder / made).write_bytes(kept[key].content)
        if kept[key].network != network:
            rename(folder / made, kept[key].network, network, b"".join(sources), tools)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "compile_source", compile_once)
        yield


def compiler_of(tools: Toolchain) -> tuple[str | None, int]:
    """The program that a command means, and when it was made."""
    program = shutil.which(tools.compiler)
    return program, Path(program).stat().st_mtime_ns if program else 0


def written_in(folder: Path) -> list[bytes]:
    """The runtime's sources there, without what describes a network."""
    files = sorted(folder.glob("*.[ch]"))
    return [file.read_bytes() for file in files if file.name != building.DESCRIPTION]


def rename(made: Path, before: str, after: str, sources: bytes, tools: Toolchain) -> None:
    """Let the functions in an object file begin with another network's name."""
    names = sorted({one.decode() for one in FUNCTION.findall(sources)})
    pairs = made.with_suffix(f".{RENAMED}")
    pairs.write_text("".join(f"{before}_{name} {after}_{name}\n" for name in names))
    tools.call(made.parent, objcopy(tools), f"--redefine-syms={pairs.name}", made.name)


@cache
def objcopy(tools: Toolchain) -> str:
    return tools.tool("objcopy")
