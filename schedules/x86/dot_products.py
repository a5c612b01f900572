"""Dot products of four bytes in each lane, as TVM tensor intrinsics.

Where the CPU has VNNI a step is one ``vpdpbusd``: uint8 times int8, summed into an int32. Elsewhere
it is two ``pmaddwd`` of the bytes as 16-bit integers, which is exact as well (``pmaddubsw``, with
half the instructions, saturates); without AVX2, plain products. An intrinsic's name says nothing of
that, so that a trace with it is a schedule for every target.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T
from tvm.target import Target
from tvm.target.codegen import target_has_features

BYTES = 4
# the sums after a step, of the sums before it, a vector of activations and one of weights
Dot: TypeAlias = Callable[[Expr, Expr, Expr], Expr]
PMADDWD = {
    4: "llvm.x86.sse2.pmadd.wd",
    8: "llvm.x86.avx2.pmadd.wd",
    16: "llvm.x86.avx512.pmaddw.d.512",
}


Instruction: TypeAlias = Literal["vpdpbusd", "pmaddwd", "multiply"]


@dataclass(frozen=True)
class DotProducts:
    """The intrinsics that a convolution is made of, by lanes.

    ``stored_together`` are the pixels whose results one store writes, ``stem_sums`` the vectors of
    sums in a first convolution's tile of more than one channel block.
    """

    channels: Callable[[int], str]
    pixels: Callable[[int], str]
    dwords: Callable[[int], str]
    stored_together: int
    stem_sums: int


NAME = re.compile(r"tvm_mobilenet\.dot_(channels|pixels|dwords)_(\d+)")
# by the intrinsics that TVM knows now: the instruction that they are made of, its lanes
_registered: dict[str, tuple[Instruction, int]] = {}


def channels(lanes: int) -> str:
    """The intrinsic for four channels of a pixel, which all lanes share."""
    return register("channels", lanes, Target.current(allow_none=True))


def pixels(lanes: int) -> str:
    """The intrinsic for four pixels, whose channels are the lanes."""
    return register("pixels", lanes, Target.current(allow_none=True))


def dwords(lanes: int) -> str:
    """The intrinsic for four bytes that lie in an int32, which all lanes share."""
    return register("dwords", lanes, Target.current(allow_none=True))


BYTE_PRODUCTS = DotProducts(channels, pixels, dwords, stored_together=4, stem_sums=4)


def register_named(text: str, target: Target | None) -> bool:
    """Make those intrinsics known, for ``target``, whose names are in ``text``, a trace.

    Whether there are any.
    """
    named = set(NAME.findall(text))
    for operand, lanes in named:
        register(operand, int(lanes), target)
    return bool(named)


def register(operand: str, lanes: int, target: Target | None) -> str:
    """Make an intrinsic known to ``Schedule.tensorize``, for ``target``; its name.

    Not done on import: TVMScript looks through the call stack, which takes long while modules are
    being imported.
    """
    name = f"tvm_mobilenet.dot_{operand}_{lanes}"
    instruction, widest = instruction_of(target)
    if _registered.get(name) != (instruction, widest):
        make = {"channels": of_channels, "pixels": of_pixels, "dwords": of_dwords}[operand]
        dot = {"vpdpbusd": vpdpbusd, "pmaddwd": pmaddwd, "multiply": multiply}[instruction]
        step = dot(lanes) if lanes <= widest else in_parts(dot(widest), lanes, widest)
        TensorIntrin.register(name, *make(lanes, step), override=True)
        _registered[name] = instruction, widest
    return name


def instruction_of(target: Target | None) -> tuple[Instruction, int]:
    """What sums products of bytes on a target, and for how many lanes at once."""

    def has(feature: str) -> bool:
        return target is not None and bool(target_has_features(feature, target))

    if has("avx512vnni"):
        return "vpdpbusd", 16
    if has("avxvnni"):
        return "vpdpbusd", 8
    if has("avx512bw"):
        return "pmaddwd", 16
    return ("pmaddwd", 8) if has("avx2") else ("multiply", 16)


def vpdpbusd(lanes: int) -> Dot:
    # these are their names for AVX-VNNI too
    name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"

    def dot(sums: Expr, activations: Expr, weights: Expr) -> Expr:
        return T.call_llvm_pure_intrin(name, sums, activations, weights, dtype=f"int32x{lanes}")

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


def shuffled(vector: Expr, places: Sequence[int]) -> Expr:
    return tirx.Shuffle([vector], [tirx.IntImm("int32", place) for place in places])


def of_channels(lanes: int, dot: Dot) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """What a step is, and how it is done."""

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (BYTES,), "uint8", offset_factor=1)
        weight = T.match_buffer(b, (lanes, BYTES), "int8", offset_factor=1)
        acc = T.match_buffer(c, (lanes,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:lanes], data[0:BYTES], weight[0:lanes, 0:BYTES])
            T.writes(acc[0:lanes])
            for lane, i in T.grid(lanes, BYTES):
                with T.sblock("update"):
                    vl, vi = T.axis.remap("SR", [lane, i])
                    acc[vl] = acc[vl] + T.cast(data[vi], "int32") * T.cast(weight[vl, vi], "int32")

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (BYTES,), "uint8", offset_factor=1)
        weight = T.match_buffer(b, (lanes, BYTES), "int8", offset_factor=1)
        acc = T.match_buffer(c, (lanes,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:lanes], data[0:BYTES], weight[0:lanes, 0:BYTES])
            T.writes(acc[0:lanes])
            acc[T.ramp(0, 1, lanes)] = dot(
                acc[T.ramp(0, 1, lanes)],
                spread(T.reinterpret(data[T.ramp(0, 1, BYTES)], dtype="int32"), lanes),
                weight.vload([0, 0], f"int8x{BYTES * lanes}"),
            )

    return description, implementation


def of_pixels(lanes: int, dot: Dot) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """What a step is, and how it is done: the four pixels, which lie together, transposed."""
    places = [pixel * lanes + lane for lane in range(lanes) for pixel in range(BYTES)]

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (BYTES, lanes), "uint8", offset_factor=1)
        weight = T.match_buffer(b, (lanes, BYTES), "int8", offset_factor=1)
        acc = T.match_buffer(c, (lanes,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:lanes], data[0:BYTES, 0:lanes], weight[0:lanes, 0:BYTES])
            T.writes(acc[0:lanes])
            for lane, i in T.grid(lanes, BYTES):
                with T.sblock("update"):
                    vl, vi = T.axis.remap("SR", [lane, i])
                    acc[vl] = acc[vl] + T.cast(data[vi, vl], "int32") * T.cast(
                        weight[vl, vi], "int32"
                    )

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (BYTES, lanes), "uint8", offset_factor=1)
        weight = T.match_buffer(b, (lanes, BYTES), "int8", offset_factor=1)
        acc = T.match_buffer(c, (lanes,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:lanes], data[0:BYTES, 0:lanes], weight[0:lanes, 0:BYTES])
            T.writes(acc[0:lanes])
            acc[T.ramp(0, 1, lanes)] = dot(
                acc[T.ramp(0, 1, lanes)],
                shuffled(data.vload([0, 0], f"uint8x{BYTES * lanes}"), places),
                weight.vload([0, 0], f"int8x{BYTES * lanes}"),
            )

    return description, implementation


def of_dwords(lanes: int, dot: Dot) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """What a step is, and how it is done."""

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (1,), "int32", offset_factor=1)
        weight = T.match_buffer(b, (lanes, BYTES), "int8", offset_factor=1)
        acc = T.match_buffer(c, (lanes,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:lanes], data[0], weight[0:lanes, 0:BYTES])
            T.writes(acc[0:lanes])
            for lane, i in T.grid(lanes, BYTES):
                with T.sblock("update"):
                    vl, vi = T.axis.remap("SR", [lane, i])
                    acc[vl] = acc[vl] + (T.shift_right(data[0], vi * 8) & 255) * T.cast(
                        weight[vl, vi], "int32"
                    )

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (1,), "int32", offset_factor=1)
        weight = T.match_buffer(b, (lanes, BYTES), "int8", offset_factor=1)
        acc = T.match_buffer(c, (lanes,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:lanes], data[0], weight[0:lanes, 0:BYTES])
            T.writes(acc[0:lanes])
            acc[T.ramp(0, 1, lanes)] = dot(
                acc[T.ramp(0, 1, lanes)],
                spread(data[0], lanes),
                weight.vload([0, 0], f"int8x{BYTES * lanes}"),
            )

    return description, implementation


def spread(dword: Expr, lanes: int) -> Expr:
    """An int32 as the four bytes of every lane."""
    return T.reinterpret(T.broadcast(dword, lanes), dtype=f"uint8x{BYTES * lanes}")
