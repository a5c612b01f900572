"""Products of matrices in the tile registers of AMX, as TVM tensor intrinsics.

A tile has up to 16 rows of up to 64 bytes. ``tdpbusd`` multiplies a tile of pixels, a row of bytes
each, by a tile of weights, whose rows are four channels of 16 outputs, and adds the products to a
tile of 16 sums of each pixel; ``tdpbf16ps`` is the same over bfloat16, two channels a row.

A tile is a buffer in REGISTERS here, and each intrinsic a call that names tiles by their addresses
in such a buffer. compiler/cpu/tiles.py makes registers and instructions of them. The shapes that it
configures the registers to are among the calls' arguments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.runtime import DataType
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T
from tvm.target import Target
from tvm.target.codegen import target_has_features

from schedules.cpu.step_intrinsics import Intrinsic, whole

REGISTERS = "amx.tmm"  # the scope of buffers that are tiles
TILES, ROWS, ROW_BYTES = 8, 16, 64
LANES = 16  # sums of a row
FEATURES = ("amx-int8", "amx-bf16")  # as LLVM calls them
# calls: of the tile's address, its rows and their bytes, and for memory its address and stride
ZERO, LOAD, STORE = "tvm_mobilenet_tile_zero", "tvm_mobilenet_tile_load", "tvm_mobilenet_tile_store"
MULTIPLY = {"uint8": "tvm_mobilenet_tile_u8", "bfloat16": "tvm_mobilenet_tile_bf16"}


@dataclass(frozen=True)
class Operands:
    """What is multiplied: pixels' type, the weights', the sums', and channels that lie together."""

    pixels: str
    weights: str
    sums: str
    together: int

    @property
    def bytes(self) -> int:
        """Of a channel of a pixel."""
        return 4 // self.together


BYTES = Operands("uint8", "int8", "int32", 4)
PAIRS = Operands("bfloat16", "bfloat16", "float32", 2)
OPERANDS = {"u8": BYTES, "bf16": PAIRS}
# the kinds of kernels that are made of them, for targets that have tiles
TILE_RULES = frozenset({f"tiles_conv2d_{operands.pixels}" for operands in OPERANDS.values()})

NAME = re.compile(r"tvm_mobilenet\.tile_(pixels|weights|zero|multiply|store)_(u8|bf16)_(\d+)x(\d+)")
_registered: set[str] = set()


@dataclass(frozen=True)
class TileProduct:
    """A product of ``pixels`` rows, over ``depth`` channels."""

    of: str  # of OPERANDS
    pixels: int
    depth: int

    def intrinsic(self, kind: str) -> str:
        """The name of one of its steps, which TVM knows from then on."""
        return register(kind, self)


def has_tiles(target: Target | None) -> bool:
    """Whether a target has tile registers, for bytes and for bfloat16."""
    return target is not None and all(target_has_features(one, target) for one in FEATURES)


def register_named(text: str) -> bool:
    """Make those intrinsics known whose names are in ``text``, a trace. Whether there are any."""
    named = set(NAME.findall(text))
    for kind, of, pixels, depth in named:
        register(kind, TileProduct(of, int(pixels), int(depth)))
    return bool(named)


def register(kind: str, product: TileProduct) -> str:
    """Make an intrinsic known to ``Schedule.tensorize``; its name."""
    name = f"tvm_mobilenet.tile_{kind}_{product.of}_{product.pixels}x{product.depth}"
    if name not in _registered:
        TensorIntrin.register(name, *MAKERS[kind](product), override=True)
        _registered.add(name)
    return name


def call(name: str, *args: Expr | int) -> Expr:
    return T.call_extern("int32", name, *args)


def of_pixels(product: TileProduct) -> Intrinsic:
    """Pixels into a tile."""
    operands = OPERANDS[product.of]
    return moved(LOAD, (product.pixels, product.depth), operands.pixels)


def of_weights(product: TileProduct) -> Intrinsic:
    """Weights of LANES outputs into a tile: ``together`` channels of all of them a row."""
    operands = OPERANDS[product.of]
    return moved(LOAD, weight_shape(product), operands.weights)


def of_store(product: TileProduct) -> Intrinsic:
    """A tile of sums into memory."""
    return moved(STORE, (product.pixels, LANES), OPERANDS[product.of].sums)


def weight_shape(product: TileProduct) -> tuple[int, ...]:
    """Of a tile, which is one of some that lie side by side in each row."""
    together = OPERANDS[product.of].together
    return (product.depth // together, 1, LANES, together)


def moved(instruction: str, shape: tuple[int, ...], dtype: str) -> Intrinsic:
    """Between memory, where rows lie at any distance, and a tile of as many rows."""
    loaded, size = instruction == LOAD, DataType(dtype).itemsize
    rows, row_bytes = shape[0], math.prod(shape[1:]) * size
    scopes = ("global", REGISTERS) if loaded else (REGISTERS, "global")
    loops = tuple(extent for extent in shape if extent > 1)

    def place(axes: Sequence[Expr]) -> tuple[Expr | int, ...]:
        left = iter(axes)
        return tuple(next(left) if extent > 1 else 0 for extent in shape)

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle) -> None:
        source = matched(a, shape, dtype, scopes[0])
        target = matched(b, shape, dtype, scopes[1])
        with T.sblock("root"):
            T.reads(whole(source))
            T.writes(whole(target))
            for each in T.grid(*loops):
                with T.sblock("move"):
                    (*axes,) = T.axis.remap("S" * len(loops), each)
                    target[place(axes)] = source[place(axes)]

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle) -> None:
        source = matched(a, shape, dtype, scopes[0])
        target = matched(b, shape, dtype, scopes[1])
        with T.sblock("root"):
            T.reads(whole(source))
            T.writes(whole(target))
            T.evaluate(
                call(
                    instruction,
                    start_of(target if loaded else source),
                    rows,
                    row_bytes,
                    start_of(source if loaded else target),
                    (source if loaded else target).strides[0] * size,
                )
            )

    return description, implementation


def of_zero(product: TileProduct) -> Intrinsic:
    """A tile of sums that are nothing yet."""
    shape, sums = (product.pixels, LANES), OPERANDS[product.of].sums

    @T.prim_func(s_tir=True)
    def description(c: T.handle) -> None:
        tile = matched(c, shape, sums, REGISTERS)
        with T.sblock("root"):
            T.reads()
            T.writes(whole(tile))
            for p, lane in T.grid(*shape):
                with T.sblock("init"):
                    vp, vl = T.axis.remap("SS", [p, lane])
                    tile[vp, vl] = tirx.const(0, sums)

    @T.prim_func(s_tir=True)
    def implementation(c: T.handle) -> None:
        tile = matched(c, shape, sums, REGISTERS)
        with T.sblock("root"):
            T.reads()
            T.writes(whole(tile))
            T.evaluate(call(ZERO, start_of(tile), product.pixels, ROW_BYTES))

    return description, implementation


def of_product(product: TileProduct) -> Intrinsic:
    """A tile of pixels times one of weights, added to one of sums."""
    operands, pixels, depth = OPERANDS[product.of], product.pixels, product.depth
    together, sums = operands.together, operands.sums
    loops = (pixels, LANES, depth // together, together)
    weights, name = weight_shape(product), MULTIPLY[operands.pixels]

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = matched(a, (pixels, depth), operands.pixels, REGISTERS)
        weight = matched(b, weights, operands.weights, REGISTERS)
        acc = matched(c, (pixels, LANES), sums, REGISTERS)
        with T.sblock("root"):
            T.reads(whole(acc), whole(data), whole(weight))
            T.writes(whole(acc))
            for p, lane, k, i in T.grid(*loops):
                with T.sblock("update"):
                    vp, vl, vk, vi = T.axis.remap("SSRR", [p, lane, k, i])
                    acc[vp, vl] = acc[vp, vl] + T.cast(data[vp, vk * together + vi], sums) * T.cast(
                        weight[vk, 0, vl, vi], sums
                    )

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = matched(a, (pixels, depth), operands.pixels, REGISTERS)
        weight = matched(b, weights, operands.weights, REGISTERS)
        acc = matched(c, (pixels, LANES), sums, REGISTERS)
        with T.sblock("root"):
            T.reads(whole(acc), whole(data), whole(weight))
            T.writes(whole(acc))
            T.evaluate(call(name, start_of(acc), start_of(data), start_of(weight)))

    return description, implementation


def matched(handle: Expr, shape: tuple[int, ...], dtype: str, scope: str) -> tirx.Buffer:
    """Rows that lie at any distance, each whole; of weights, one of several in a row."""
    apart = [tirx.Var(f"apart{place}", "int32") for place in range(max(1, len(shape) - 2))]
    inside = [shape[-1], 1] if len(shape) > 2 else [1]
    return T.match_buffer(
        handle, shape, dtype, strides=[*apart, *inside], offset_factor=1, scope=scope
    )


def start_of(buffer: tirx.Buffer) -> Expr:
    return T.address_of(tirx.BufferLoad(buffer, [0] * len(buffer.shape)))


MAKERS = {
    "pixels": of_pixels,
    "weights": of_weights,
    "zero": of_zero,
    "multiply": of_product,
    "store": of_store,
}
