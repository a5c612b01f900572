"""Functions of a few x86-64 instructions, put together here: no compiler has to be there for them.

They are for what a compiler takes away or a guest cannot ask for: loops of instructions that do
nothing, and the time stamp counter on either side of them. Only the standard library is imported.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from collections.abc import Callable, Iterable

from tvm_mobilenet.hardware import cpu

# Instructions as bytes, named as assemblers write them. Registers are those that a callee may
# overwrite by the System V ABI, so that nothing has to be saved.
NOP = bytes.fromhex("90")
RET = bytes.fromhex("c3")
LFENCE = bytes.fromhex("0f ae e8")
RDTSC = bytes.fromhex("0f 31")
IMUL_R10_R10 = bytes.fromhex("4d 0f af d2")
MOV_R8D_EAX = bytes.fromhex("41 89 c0")
MOV_R9D_EAX = bytes.fromhex("41 89 c1")
SUB_EAX_R9D = bytes.fromhex("44 29 c8")
SUB_R9D_R8D = bytes.fromhex("45 29 c1")
SHL_R9_32 = bytes.fromhex("49 c1 e1 20")
OR_RAX_R9 = bytes.fromhex("4c 09 c8")
VZEROALL = bytes.fromhex("c5 fc 77")
_MOV_ECX, _DEC_ECX = bytes.fromhex("b9"), bytes.fromhex("ff c9")
_MOV_R11D, _DEC_R11D = bytes.fromhex("41 bb"), bytes.fromhex("41 ff cb")
_JNZ = bytes.fromhex("0f 85")

# A function of (word, number, turns) by itself: so many times, it waits until the word is the
# number, makes it one more, and goes on with the number that is two more.
ANSWER = bytes.fromhex(
    "89 f0"  # mov eax, esi
    "39 07"  # wait: cmp [rdi], eax
    "75 fc"  # jne wait
    "ff c0"  # inc eax
    "89 07"  # mov [rdi], eax
    "ff c0"  # inc eax
    "ff ca"  # dec edx
    "75 f2"  # jnz wait
    "c3"  # ret
)

# waits for all before it, and lets nothing after it begin
COUNTER = LFENCE + RDTSC + LFENCE


def vfmadd231ps_zmm(accumulator: int) -> bytes:
    """``vfmadd231ps zmmI, zmm0, zmm0`` of an accumulator from 1 to 15."""
    upper = accumulator >= 8
    prefix = bytes.fromhex("62 72 7d 48 b8" if upper else "62 f2 7d 48 b8")
    return prefix + bytes([0xC0 + 8 * (accumulator % 8)])


def vfmadd231ps_ymm(accumulator: int) -> bytes:
    """The same of 256 bits."""
    upper = accumulator >= 8
    prefix = bytes.fromhex("c4 62 7d b8" if upper else "c4 e2 7d b8")
    return prefix + bytes([0xC0 + 8 * (accumulator % 8)])


def widest_fma() -> Callable[[int], bytes] | None:
    """That of this CPU's widest vectors; None where it has no FMAs."""
    features = cpu.host_features()
    if "avx512f" in features:
        return vfmadd231ps_zmm
    return vfmadd231ps_ymm if "fma" in features else None


def loop(body: bytes, trips: int) -> bytes:
    """``body`` so many times; it must leave ecx alone."""
    return _loop(_MOV_ECX, _DEC_ECX, body, trips)


def outer_loop(body: bytes, trips: int) -> bytes:
    """The same for a body that has loops; it must leave r11d alone."""
    return _loop(_MOV_R11D, _DEC_R11D, body, trips)


def _loop(begin: bytes, count: bytes, body: bytes, trips: int) -> bytes:
    back = len(body) + len(count) + len(_JNZ) + 4
    jump = _JNZ + (-back).to_bytes(4, "little", signed=True)
    return begin + trips.to_bytes(4, "little") + body + count + jump


class Code:
    """A function of these instructions. ``call`` passes it nothing and gives what it left in rax.

    Raises OSError where the system lets no program write code, or the CPU is not an x86-64.
    """

    def __init__(self, instructions: Iterable[bytes]) -> None:
        if platform.machine() not in ("x86_64", "AMD64") or sys.platform == "win32":
            raise OSError(f"these instructions are x86-64's, this is {platform.machine()}")
        text = b"".join(instructions)
        access = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        self._memory = mmap.mmap(-1, len(text), prot=access)  # kept as long as the function
        self._memory.write(text)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self.call = ctypes.CFUNCTYPE(ctypes.c_uint64)(self.address)
