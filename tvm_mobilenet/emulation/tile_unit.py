"""AMX for code of this process, where the CPU has none: its instructions, done one by one in C.

For tests of the code that a CPU with AMX gets, not for speed: an instruction takes microseconds.
Everything else in that code has to be what this CPU has; ``without_newer`` says how to compile so.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.hardware import cpu
from tvm_mobilenet.hardware.target import TargetSpec
from tvm_mobilenet.hardware.toolchain import compile_c

NATIVE = Path(__file__).resolve().parent / "native"
FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC", "-pthread", "-lm")
TILES = frozenset({"amx_tile", "amx_int8", "amx_bf16"})  # in the names of /proc/cpuinfo
# what else the CPUs with AMX have, and LLVM would use, in the names of /proc/cpuinfo and LLVM's
NEWER = {"avx512_fp16": "avx512fp16", "avx_vnni": "avxvnni"}


@dataclass(frozen=True)
class Counts:
    """What was done so far: products of tiles of bytes and of bfloat16, and what threads did."""

    of_bytes: int
    of_bf16: int
    configurations: int
    releases: int


def has_tiles() -> bool:
    """Whether this CPU has AMX itself."""
    return cpu.host_features() >= TILES


def missing(spec: TargetSpec) -> list[str]:
    """What this CPU lacks for ``without_newer(spec)``, beside AMX."""
    spared = TILES | frozenset(NEWER)
    return [name for name in spec.missing_features(cpu.host_features()) if name not in spared]


def without_newer(spec: TargetSpec) -> TargetSpec:
    """The target, whose code has of newer instructions than AVX512_BF16 those of AMX alone."""
    off = [f"-{name}" for name in NEWER.values()]
    target = {**spec.target, "mattr": [*spec.target.get("mattr", []), *off]}
    features = tuple(name for name in spec.cpu_features if name not in NEWER)
    return replace(spec, target=target, cpu_features=features)


class TileUnit:
    """The emulation, in a library that is compiled into ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.library = compile_c(NATIVE / "amx.c", folder / "libamx.so", "gcc", FLAGS)
        self._library = ctypes.CDLL(str(self.library))

    @contextlib.contextmanager
    def emulated(self) -> Iterator[None]:
        """Meanwhile this process has AMX, in all of its threads."""
        if self._library.amx_emulate() != 0:
            raise RunFailed("the system takes no handler of invalid instructions")
        try:
            yield
        finally:
            self._library.amx_stop()

    def counts(self) -> Counts:
        found = (ctypes.c_long * 4)()
        self._library.amx_count(found)
        return Counts(*found)
