"""Dot products of four bytes in each lane, as TVM tensor intrinsics.

Where the CPU has VNNI a step is one ``vpdpbusd``: uint8 times int8, summed into an int32. Elsewhere
it is two ``pmaddwd`` of the bytes as 16-bit integers, which is exact as well (``pmaddubsw``, with
half the instructions, saturates).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TypeAlias

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


def channels(lanes: int) -> str:
    """The intrinsic for four channels of a pixel, which all lanes share."""
    return register("channels", lanes, has_vnni())


def pixels(lanes: int) -> str:
    """The intrinsic for four pixels, whose channels are the lanes."""
    return register("pixels", lanes, has_vnni())


def dwords(lanes: int) -> str:
    """The intrinsic for four bytes that lie in an int32, which all lanes share."""
    return register("dwords", lanes, has_vnni())


def has_vnni() -> bool:
    """Whether the target that is being scheduled for multiplies bytes in one instruction."""
    target = Target.current(allow_none=True)
    return target is not None and bool(
        target_has_features("avx512vnni", target) or target_has_features("avxvnni", target)
    )


@cache
def register(operand: str, lanes: int, vnni: bool) -> str:  # noqa: FBT001
    """Make an intrinsic known to ``Schedule.tensorize``; its name.

    Not done on import: TVMScript looks through the call stack, which takes long while modules are
    being imported.
    """
    name = f"tvm_mobilenet.dot_{operand}_{lanes}" + ("_vnni" if vnni else "")
    make = {"channels": of_channels, "pixels": of_pixels, "dwords": of_dwords}[operand]
    dot = vpdpbusd(lanes) if vnni else pmaddwd(lanes)
    TensorIntrin.register(name, *make(lanes, dot), override=True)
    return name


def vpdpbusd(lanes: int) -> Dot:
    # these are their names for AVX-VNNI too
    name = f"llvm.x86.avx512.vpdpbusd.{32 * lanes}"

    def dot(sums: Expr, activations: Expr, weights: Expr) -> Expr:
        return T.call_llvm_pure_intrin(name, sums, activations, weights, dtype=f"int32x{lanes}")

    return dot


def pmaddwd(lanes: int) -> Dot:
    words = f"int16x{2 * lanes}"

    def dot(sums: Expr, activations: Expr, weights: Expr) -> Expr:
        for pair in range(2):
            places = [BYTES * lane + 2 * pair + i for lane in range(lanes) for i in range(2)]
            sums = sums + T.call_llvm_pure_intrin(
                PMADDWD[lanes],
                T.cast(shuffled(activations, places), words),
                T.cast(shuffled(weights, places), words),
                dtype=f"int32x{lanes}",
            )
        return sums

    return dot


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
