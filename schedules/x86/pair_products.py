"""Dot products of two bfloat16 in each lane, as TVM tensor intrinsics.

Where the CPU has AVX512_BF16 a step is one ``vdpbf16ps``; elsewhere two multiplications and
additions of the numbers as float32, which any CPU has and tests run. An intrinsic's name says
nothing of that, so that a trace with it is a schedule for every target. The instruction itself is a
call of DOT, which compiler/cpu/bfloat16.py defines: TVM's code generator has no bfloat16.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from tvm import tirx
from tvm.ir import Expr
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T
from tvm.target import Target
from tvm.target.codegen import target_has_features

from schedules.cpu.dot_products import DotProducts

PAIR = 2
BF16 = "bfloat16"
DOT = "tvm_mobilenet_dot_bf16_"  # and the lanes: (sums, activations, weights), as int32
INSTRUCTIONS = (4, 8, 16)  # lanes
# the sums after a step, of the sums before it, a vector of activations and one of weights
Dot: TypeAlias = Callable[[Expr, Expr, Expr], Expr]

NAME = re.compile(r"tvm_mobilenet\.pair_(channels|dwords|pixels)_(\d+)")
_registered: dict[str, bool] = {}  # by the intrinsics that TVM knows now: whether by instruction


def channels(lanes: int) -> str:
    """The intrinsic for two channels of a pixel, which all lanes share."""
    return register("channels", lanes, Target.current(allow_none=True))


def pixels(lanes: int) -> str:
    """The intrinsic for two pixels, whose channels are the lanes."""
    return register("pixels", lanes, Target.current(allow_none=True))


def dwords(lanes: int) -> str:
    """The intrinsic for two numbers that lie in an int32, which all lanes share."""
    return register("dwords", lanes, Target.current(allow_none=True))


PAIR_PRODUCTS = DotProducts(channels, pixels, dwords, stored_together=1, stem_sums=16)


def register_named(text: str, target: Target | None) -> bool:
    """Make those intrinsics known, for ``target``, whose names are in ``text``, a trace.

    Whether there are any.
    """
    named = set(NAME.findall(text))
    for operand, lanes in named:
        register(operand, int(lanes), target)
    return bool(named)


def register(operand: str, lanes: int, target: Target | None) -> str:
    """Make an intrinsic known to ``Schedule.tensorize``, for ``target``; its name."""
    name = f"tvm_mobilenet.pair_{operand}_{lanes}"
    native = lanes in INSTRUCTIONS and has_bf16(target)
    if _registered.get(name) != native:
        make = {"channels": of_channels, "dwords": of_dwords, "pixels": of_pixels}[operand]
        dot = vdpbf16ps(lanes) if native else multiply(lanes)
        TensorIntrin.register(name, *make(lanes, dot), override=True)
        _registered[name] = native
    return name


def has_bf16(target: Target | None) -> bool:
    return target is not None and bool(target_has_features("avx512bf16", target))


def vdpbf16ps(lanes: int) -> Dot:
    """Rounds to nearest, ties to even, and takes what is no normal number for zero."""

    def dot(sums: Expr, activations: Expr, weights: Expr) -> Expr:
        return T.call_extern(f"float32x{lanes}", f"{DOT}{lanes}", sums, activations, weights)

    return dot


def multiply(lanes: int) -> Dot:
    """Of the lower halves of the lanes, then of the upper ones: a bfloat16 begins a float32."""
    half, upper = T.broadcast(T.int32(16), lanes), T.broadcast(T.int32(-65536), lanes)
    floats = f"float32x{lanes}"

    def dot(sums: Expr, activations: Expr, weights: Expr) -> Expr:
        def product(part: Callable[[Expr], Expr]) -> Expr:
            return T.reinterpret(part(activations), dtype=floats) * T.reinterpret(
                part(weights), dtype=floats
            )

        return (
            sums
            + product(lambda pair: T.shift_left(pair, half))
            + product(lambda pair: pair & upper)
        )

    return dot


def of_channels(lanes: int, dot: Dot) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """What a step is, and how it is done."""

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (PAIR,), BF16, offset_factor=1)
        weight = T.match_buffer(b, (lanes, PAIR), BF16, offset_factor=1)
        acc = T.match_buffer(c, (lanes,), "float32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:lanes], data[0:PAIR], weight[0:lanes, 0:PAIR])
            T.writes(acc[0:lanes])
            for lane, i in T.grid(lanes, PAIR):
                with T.sblock("update"):
                    vl, vi = T.axis.remap("SR", [lane, i])
                    acc[vl] = acc[vl] + T.cast(data[vi], "float32") * T.cast(
                        weight[vl, vi], "float32"
                    )

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (PAIR,), BF16, offset_factor=1)
        weight = T.match_buffer(b, (lanes, PAIR), BF16, offset_factor=1)
        acc = T.match_buffer(c, (lanes,), "float32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:lanes], data[0:PAIR], weight[0:lanes, 0:PAIR])
            T.writes(acc[0:lanes])
            acc[T.ramp(0, 1, lanes)] = dot(
                acc[T.ramp(0, 1, lanes)],
                T.broadcast(T.reinterpret(data[T.ramp(0, 1, PAIR)], dtype="int32"), lanes),
                T.reinterpret(
                    weight.vload([0, 0], f"{BF16}x{PAIR * lanes}"), dtype=f"int32x{lanes}"
                ),
            )

    return description, implementation


def of_pixels(lanes: int, dot: Dot) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """What a step is, and how it is done: the two pixels, which lie together, transposed."""
    places = [
        tirx.IntImm("int32", pixel * lanes + lane) for lane in range(lanes) for pixel in range(PAIR)
    ]

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (PAIR, lanes), BF16, offset_factor=1)
        weight = T.match_buffer(b, (lanes, PAIR), BF16, offset_factor=1)
        acc = T.match_buffer(c, (lanes,), "float32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:lanes], data[0:PAIR, 0:lanes], weight[0:lanes, 0:PAIR])
            T.writes(acc[0:lanes])
            for lane, i in T.grid(lanes, PAIR):
                with T.sblock("update"):
                    vl, vi = T.axis.remap("SR", [lane, i])
                    acc[vl] = acc[vl] + T.cast(data[vi, vl], "float32") * T.cast(
                        weight[vl, vi], "float32"
                    )

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (PAIR, lanes), BF16, offset_factor=1)
        weight = T.match_buffer(b, (lanes, PAIR), BF16, offset_factor=1)
        acc = T.match_buffer(c, (lanes,), "float32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:lanes], data[0:PAIR, 0:lanes], weight[0:lanes, 0:PAIR])
            T.writes(acc[0:lanes])
            acc[T.ramp(0, 1, lanes)] = dot(
                acc[T.ramp(0, 1, lanes)],
                T.reinterpret(
                    tirx.Shuffle(
                        [
                            T.reinterpret(
                                data.vload([0, 0], f"{BF16}x{PAIR * lanes}"),
                                dtype=f"int16x{PAIR * lanes}",
                            )
                        ],
                        places,
                    ),
                    dtype=f"int32x{lanes}",
                ),
                T.reinterpret(
                    weight.vload([0, 0], f"{BF16}x{PAIR * lanes}"), dtype=f"int32x{lanes}"
                ),
            )

    return description, implementation


def of_dwords(lanes: int, dot: Dot) -> tuple[tirx.PrimFunc, tirx.PrimFunc]:
    """What a step is, and how it is done."""

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (1,), "int32", offset_factor=1)
        weight = T.match_buffer(b, (lanes, PAIR), BF16, offset_factor=1)
        acc = T.match_buffer(c, (lanes,), "float32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:lanes], data[0], weight[0:lanes, 0:PAIR])
            T.writes(acc[0:lanes])
            for lane, i in T.grid(lanes, PAIR):
                with T.sblock("update"):
                    vl, vi = T.axis.remap("SR", [lane, i])
                    acc[vl] = acc[vl] + T.reinterpret(
                        "float32", T.shift_left(T.shift_right(data[0], vi * 16), 16)
                    ) * T.cast(weight[vl, vi], "float32")

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, (1,), "int32", offset_factor=1)
        weight = T.match_buffer(b, (lanes, PAIR), BF16, offset_factor=1)
        acc = T.match_buffer(c, (lanes,), "float32", offset_factor=1)
        with T.sblock("root"):
            T.reads(acc[0:lanes], data[0], weight[0:lanes, 0:PAIR])
            T.writes(acc[0:lanes])
            acc[T.ramp(0, 1, lanes)] = dot(
                acc[T.ramp(0, 1, lanes)],
                T.broadcast(data[0], lanes),
                T.reinterpret(
                    weight.vload([0, 0], f"{BF16}x{PAIR * lanes}"), dtype=f"int32x{lanes}"
                ),
            )

    return description, implementation
