"""What sums products of bytes in lanes of 32 bits, four of each lane: a CPU's instructions for it.

One ``vpdpbusd`` where an x86 CPU has VNNI, elsewhere two ``pmaddwd`` of the bytes as 16-bit
integers, which is exact as well (``pmaddubsw``, with half the instructions, saturates); on ARM one
``sdot`` of four lanes, or ``smull`` and what adds up its products; plain products where there is
none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T
from tvm.target import Target
from tvm.target.codegen import target_has_features

from schedules.cpu.register_products import ADDP, SADDLP, SMULL, spelled_out
from schedules.cpu.step_intrinsics import Dot
from schedules.cpu.vectors import shuffled

BYTES = 4  # of a lane
PMADDWD = {
    4: "llvm.x86.sse2.pmadd.wd",
    8: "llvm.x86.avx2.pmadd.wd",
    16: "llvm.x86.avx512.pmaddw.d.512",
}
SDOT = "llvm.aarch64.neon.sdot.v4i32.v16i8"

Instruction: TypeAlias = Literal["vpdpbusd", "pmaddwd", "sdot", "smull", "multiply"]


def instruction_of(target: Target | None) -> tuple[Instruction, int]:
    """What sums products of bytes on a target, and for how many lanes at once."""

    def has(feature: str) -> bool:
        return target is not None and bool(target_has_features(feature, target))

    if has("dotprod"):
        return "sdot", 4
    if not spelled_out(target):
        return "smull", 4
    if has("avx512vnni"):
        return "vpdpbusd", 16
    if has("avxvnni"):
        return "vpdpbusd", 8
    if has("avx512bw"):
        return "pmaddwd", 16
    return ("pmaddwd", 8) if has("avx2") else ("multiply", 16)


def dot_of(instruction: Instruction, widest: int, lanes: int) -> Dot:
    """A step of so many lanes, by instructions of at most ``widest``."""
    dot = INSTRUCTIONS[instruction]
    return dot(lanes) if lanes <= widest else in_parts(dot(widest), lanes, widest)


def vpdpbusd(lanes: int) -> Dot:
    # these are their names for AVX-VNNI too
    name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"

    def dot(sums: Expr, activations: Expr, weights: Expr) -> Expr:
        return T.call_llvm_pure_intrin(name, sums, activations, weights, dtype=f"int32x{lanes}")

    return dot


def sdot(lanes: int) -> Dot:
    def dot(sums: Expr, activations: Expr, weights: Expr) -> Expr:
        return T.call_llvm_pure_intrin(SDOT, sums, weights, activations, dtype=f"int32x{lanes}")

    return dot


def smull(lanes: int) -> Dot:
    """Of two lanes at a time: pairs of products in 32 bits, and neighbours of them."""

    def dot(sums: Expr, activations: Expr, weights: Expr) -> Expr:
        pairs = []
        for half in (range(8), range(8, 16)):
            products = T.call_llvm_pure_intrin(
                SMULL, shuffled(activations, half), shuffled(weights, half), dtype="int16x8"
            )
            pairs.append(T.call_llvm_pure_intrin(SADDLP, products, dtype="int32x4"))
        return sums + T.call_llvm_pure_intrin(ADDP, *pairs, dtype=f"int32x{lanes}")

    return dot


def pmaddwd(lanes: int) -> Dot:
    """Of the even bytes of a lane, then of its odd ones: both lie in place as 16-bit integers."""
    words, unsigned = f"int16x{2 * lanes}", f"uint16x{2 * lanes}"
    byte, mask = T.broadcast(T.int16(8), 2 * lanes), T.broadcast(T.int16(255), 2 * lanes)

    def dot(sums: Expr, activations: Expr, weights: Expr) -> Expr:
        data, weight = T.reinterpret(activations, dtype=words), T.reinterpret(weights, dtype=words)
        upper = T.shift_right(
            T.reinterpret(activations, dtype=unsigned), T.broadcast(T.uint16(8), 2 * lanes)
        )
        pairs = [
            (data & mask, T.shift_right(T.shift_left(weight, byte), byte)),
            (T.reinterpret(upper, dtype=words), T.shift_right(weight, byte)),
        ]
        for one, other in pairs:
            sums = sums + T.call_llvm_pure_intrin(
                PMADDWD[lanes], one, other, dtype=f"int32x{lanes}"
            )
        return sums

    return dot


def multiply(lanes: int) -> Dot:
    integers = f"int32x{lanes}"

    def dot(sums: Expr, activations: Expr, weights: Expr) -> Expr:
        for byte in range(BYTES):
            places = [BYTES * lane + byte for lane in range(lanes)]
            sums = sums + T.cast(shuffled(activations, places), integers) * T.cast(
                shuffled(weights, places), integers
            )
        return sums

    return dot


INSTRUCTIONS: dict[Instruction, Callable[[int], Dot]] = {
    "vpdpbusd": vpdpbusd,
    "pmaddwd": pmaddwd,
    "sdot": sdot,
    "smull": smull,
    "multiply": multiply,
}


def in_parts(dot: Dot, lanes: int, widest: int) -> Dot:
    """The step of more lanes than an instruction has."""

    def whole(sums: Expr, activations: Expr, weights: Expr) -> Expr:
        parts = []
        for first in range(0, lanes, widest):
            own = range(first, first + widest)
            in_bytes = range(BYTES * first, BYTES * (first + widest))
            parts.append(
                dot(
                    shuffled(sums, own),
                    shuffled(activations, in_bytes),
                    shuffled(weights, in_bytes),
                )
            )
        return tirx.Shuffle(parts, [tirx.IntImm("int32", lane) for lane in range(lanes)])

    return whole
