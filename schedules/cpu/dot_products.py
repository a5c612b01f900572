"""Products of bytes summed into 32 bits, as TVM tensor intrinsics.

Activations are uint8 on x86 and int8 on ARM, as instructions multiply them by int8 weights. A step
is four bytes of each lane: one ``vpdpbusd`` where an x86 CPU has VNNI, elsewhere two ``pmaddwd`` of
the bytes as 16-bit integers, which is exact as well (``pmaddubsw``, with half the instructions,
saturates); on ARM one ``sdot`` of four lanes, or ``smull`` and what adds up its products; plain
products where there is none of them. Dense convolutions have larger steps on some ARM cores
(register_products.py). An intrinsic's name says nothing of instructions, so that a trace with
it is a schedule for every target.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T
from tvm.target import Target
from tvm.target.codegen import target_has_features

from schedules.cpu.register_products import (
    ADDP,
    MATRIX_DEPTH,
    PARTS,
    REGISTER,
    SADDLP,
    SMULL,
    WHOLE,
    of_taps,
    spelled_out,
)
from schedules.cpu.vectors import shuffled, zipped

BYTES = 4
# the sums after a step, of the sums before it, a vector of activations and one of weights
Dot: TypeAlias = Callable[[Expr, Expr, Expr], Expr]
PMADDWD = {
    4: "llvm.x86.sse2.pmadd.wd",
    8: "llvm.x86.avx2.pmadd.wd",
    16: "llvm.x86.avx512.pmaddw.d.512",
}
HALF_REGISTER = 8  # bytes
SDOT = "llvm.aarch64.neon.sdot.v4i32.v16i8"


@dataclass(frozen=True)
class Integers:
    """Of activations: their type, and the channels a vector; None is as many as of floats.

    ``depth`` channels are summed by a step of a dense convolution's products. Where sums may be
    floats in their bits (``sums_as_floats``), instructions narrow what is in the low ones.
    """

    dtype: str
    lanes: int | None = None
    depth: int = BYTES
    sums_as_floats: bool = False


UNSIGNED = Integers("uint8")

Instruction: TypeAlias = Literal["vpdpbusd", "pmaddwd", "sdot", "smull", "multiply"]


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


NAME = re.compile(
    r"tvm_mobilenet\.dot_(channels|pixels|halves|dwords|matrices|parts|folds|taps)_(\d+)"
)
# by the intrinsics that TVM knows now: the instruction that they are made of, its lanes, and the
# type of activations
_registered: dict[str, tuple[Instruction, int, str]] = {}


def channels(lanes: int) -> str:
    """The intrinsic for four channels of a pixel, which all lanes share."""
    return register("channels", lanes, Target.current(allow_none=True))


def pixels(lanes: int) -> str:
    """The intrinsic for four pixels, whose channels are the lanes."""
    return register("pixels", lanes, Target.current(allow_none=True))


def halves(lanes: int) -> str:
    """As ``pixels``, of some of the channels that lie together."""
    return register("halves", lanes, Target.current(allow_none=True))


def matrices() -> str:
    """The intrinsic for two pixels by two output channels, of MATRIX_DEPTH input channels."""
    return register("matrices", MATRIX_DEPTH, Target.current(allow_none=True))


def parts() -> str:
    """The intrinsic for a register of input channels, whose products PARTS sums share."""
    return register("parts", REGISTER, Target.current(allow_none=True))


def folds() -> str:
    """The intrinsic that adds up PARTS sums of each of as many channels."""
    return register("folds", PARTS, Target.current(allow_none=True))


def taps(count: int) -> str:
    """The intrinsic for a row of taps of a depthwise filter, of some of the channels."""
    return register("taps", count, Target.current(allow_none=True))


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
    dtype = integers_of(target).dtype
    if operand == "taps":
        TensorIntrin.register(name, *of_taps(lanes, plain=spelled_out(target)), override=True)
    elif operand in WHOLE:
        TensorIntrin.register(name, *WHOLE[operand](plain=spelled_out(target)), override=True)
    elif _registered.get(name) != (instruction, widest, dtype):
        make = MAKERS[operand]
        dot = INSTRUCTIONS[instruction]
        step = dot(lanes) if lanes <= widest else in_parts(dot(widest), lanes, widest)
        TensorIntrin.register(name, *make(lanes, step, dtype), override=True)
        _registered[name] = instruction, widest, dtype
    return name


def integers_of(target: Target | None) -> Integers:
    """What a target's kernels over integers read and write."""
    if target is None or "arm_cpu" not in target.keys:
        return UNSIGNED
    if target_has_features("i8mm", target):
        return Integers("int8", 8, MATRIX_DEPTH, sums_as_floats=True)
    plain = not target_has_features("dotprod", target)
    depth = REGISTER if plain else BYTES
    return Integers("int8", 16, depth, sums_as_floats=not spelled_out(target))


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


def of_channels(lanes: int, dot: Dot, dtype: str) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """What a step is, and how it is done."""

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (BYTES,), dtype, offset_factor=1)
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
        data = T.match_buffer(a, (BYTES,), dtype, offset_factor=1)
        weight = T.match_buffer(b, (lanes, BYTES), "int8", offset_factor=1)
        acc = T.match_buffer(c, (lanes,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:lanes], data[0:BYTES], weight[0:lanes, 0:BYTES])
            T.writes(acc[0:lanes])
            acc[T.ramp(0, 1, lanes)] = dot(
                acc[T.ramp(0, 1, lanes)],
                spread(T.reinterpret(data[T.ramp(0, 1, BYTES)], dtype="int32"), lanes, dtype),
                weight.vload([0, 0], f"int8x{BYTES * lanes}"),
            )

    return description, implementation


def of_pixels(lanes: int, dot: Dot, dtype: str) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """What a step is, and how it is done: the four pixels, which lie together, transposed."""

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (BYTES, lanes), dtype, offset_factor=1)
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
        data = T.match_buffer(a, (BYTES, lanes), dtype, offset_factor=1)
        weight = T.match_buffer(b, (lanes, BYTES), "int8", offset_factor=1)
        acc = T.match_buffer(c, (lanes,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:lanes], data[0:BYTES, 0:lanes], weight[0:lanes, 0:BYTES])
            T.writes(acc[0:lanes])
            acc[T.ramp(0, 1, lanes)] = dot(
                acc[T.ramp(0, 1, lanes)],
                transposed(data, lanes, dtype),
                weight.vload([0, 0], f"int8x{BYTES * lanes}"),
            )

    return description, implementation


def of_halves(lanes: int, dot: Dot, dtype: str) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """As ``of_pixels``, of a part of each pixel's channels."""

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        apart = T.int32()
        data = T.match_buffer(a, (BYTES, lanes), dtype, strides=[apart, 1], offset_factor=1)
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
        apart = T.int32()
        data = T.match_buffer(a, (BYTES, lanes), dtype, strides=[apart, 1], offset_factor=1)
        weight = T.match_buffer(b, (lanes, BYTES), "int8", offset_factor=1)
        acc = T.match_buffer(c, (lanes,), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:lanes], data[0:BYTES, 0:lanes], weight[0:lanes, 0:BYTES])
            T.writes(acc[0:lanes])
            acc[T.ramp(0, 1, lanes)] = dot(
                acc[T.ramp(0, 1, lanes)],
                transposed_half(data, lanes, dtype),
                weight.vload([0, 0], f"int8x{BYTES * lanes}"),
            )

    return description, implementation


def transposed_half(data: tirx.Buffer, lanes: int, dtype: str) -> Expr:
    """As ``transposed``, of rows that are apart: pairs fill registers, which are zipped."""
    rows = [data.vload([pixel, 0], f"{dtype}x{lanes}") for pixel in range(BYTES)]
    one, other = (
        tirx.Shuffle(
            [rows[first], rows[first + 1]],
            [tirx.IntImm("int32", place + start) for place in range(lanes) for start in (0, lanes)],
        )
        for first in (0, 2)
    )
    words = f"int16x{lanes}"
    parts = zipped(T.reinterpret(one, dtype=words), T.reinterpret(other, dtype=words))
    bytes_ = [T.reinterpret(part, dtype=f"{dtype}x{2 * lanes}") for part in parts]
    return tirx.Shuffle(bytes_, [tirx.IntImm("int32", place) for place in range(BYTES * lanes)])


def of_dwords(lanes: int, dot: Dot, dtype: str) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
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
                    acc[vl] = acc[vl] + byte_of(data[0], vi, dtype) * T.cast(
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
                spread(data[0], lanes, dtype),
                weight.vload([0, 0], f"int8x{BYTES * lanes}"),
            )

    return description, implementation


def transposed(data: tirx.Buffer, lanes: int, dtype: str) -> Expr:
    """Four pixels of ``lanes`` channels, a channel's bytes side by side.

    Registers of 128 bits, which are what int8 is for, are zipped in pairs, twice.
    """
    if dtype == "uint8":
        places = [pixel * lanes + lane for lane in range(lanes) for pixel in range(BYTES)]
        return shuffled(data.vload([0, 0], f"{dtype}x{BYTES * lanes}"), places)
    if lanes == HALF_REGISTER:  # two pixels lie in one
        pairs = (data.vload([pixel, 0], f"{dtype}x{2 * lanes}") for pixel in (0, 2))
        parts = zipped(*zipped(*pairs))
        return tirx.Shuffle(parts, [tirx.IntImm("int32", place) for place in range(BYTES * lanes)])
    first, second, third, fourth = (
        data.vload([pixel, 0], f"{dtype}x{lanes}") for pixel in range(BYTES)
    )
    words = f"int16x{lanes // 2}"
    parts = [
        T.reinterpret(quarter, dtype=f"{dtype}x{lanes}")
        for one, other in zip(zipped(first, second), zipped(third, fourth), strict=True)
        for quarter in zipped(T.reinterpret(one, dtype=words), T.reinterpret(other, dtype=words))
    ]
    return tirx.Shuffle(parts, [tirx.IntImm("int32", place) for place in range(BYTES * lanes)])


MAKERS = {
    "channels": of_channels,
    "pixels": of_pixels,
    "halves": of_halves,
    "dwords": of_dwords,
}


def spread(dword: Expr, lanes: int, dtype: str) -> Expr:
    """An int32 as the four bytes of every lane."""
    return T.reinterpret(T.broadcast(dword, lanes), dtype=f"{dtype}x{BYTES * lanes}")


def byte_of(dword: Expr, place: Expr, dtype: str) -> Expr:
    """The byte of an int32, the lowest first, as an int32."""
    if dtype == "uint8":
        return T.shift_right(dword, place * 8) & 255
    return T.shift_right(T.shift_left(dword, 24 - place * 8), 24)
