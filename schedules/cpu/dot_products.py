"""Products of bytes summed into 32 bits, as TVM tensor intrinsics.

Activations are uint8 on x86 and int8 on ARM, as instructions multiply them by int8 weights. A step
is four bytes of each lane, by a CPU's instructions for that (byte_instructions.py). Dense
convolutions have larger steps on some ARM cores (register_products.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T
from tvm.target import Target
from tvm.target.codegen import target_has_features

from schedules.cpu.arm import is_64_bit_arm
from schedules.cpu.byte_instructions import BYTES, Instruction, dot_of, instruction_of
from schedules.cpu.register_products import (
    MATRIX_DEPTH,
    PARTS,
    REGISTER,
    REGISTER_STEPS,
    spelled_out,
)
from schedules.cpu.step_intrinsics import (
    Activations,
    Intrinsic,
    Intrinsics,
    Lane,
    Operand,
    intrinsic_of,
    step_of_lanes,
)
from schedules.cpu.vectors import shuffled, zipped

LANE = Lane(BYTES, "int8", "int32")
HALF_REGISTER = 8  # bytes


@dataclass(frozen=True)
class Integers:
    """Of activations: their type, and the channels a vector; None is as many as of floats.

    ``depth`` channels are summed by a step of a dense convolution's products. With ``fixed_point``
    instructions multiply sums by numbers of 31 bits behind the point, and round them. ``in_words``,
    more products than two are summed in 16 bits where those hold them.
    """

    dtype: str
    lanes: int | None = None
    depth: int = BYTES
    fixed_point: bool = False
    in_words: bool = False


UNSIGNED = Integers("uint8")


def integers_of(target: Target | None) -> Integers:
    """What a target's kernels over integers read and write."""
    if target is None or "arm_cpu" not in target.keys:
        return UNSIGNED
    if target_has_features("i8mm", target):
        return Integers("int8", 8, MATRIX_DEPTH, fixed_point=True)
    plain = not target_has_features("dotprod", target)
    depth = REGISTER if plain else BYTES
    fixed = not spelled_out(target)
    return Integers("int8", 16, depth, fixed_point=fixed, in_words=plain and is_64_bit_arm(target))


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


def channels(lanes: int) -> str:
    """The intrinsic for four channels of a pixel, which all lanes share."""
    return DOTS.register("channels", lanes)


def pixels(lanes: int) -> str:
    """The intrinsic for four pixels, whose channels are the lanes."""
    return DOTS.register("pixels", lanes)


def halves(lanes: int) -> str:
    """As ``pixels``, of some of the channels that lie together."""
    return DOTS.register("halves", lanes)


def matrices() -> str:
    """The intrinsic for two pixels by two output channels, of MATRIX_DEPTH input channels."""
    return DOTS.register("matrices", MATRIX_DEPTH)


def parts() -> str:
    """The intrinsic for a register of input channels, whose products PARTS sums share."""
    return DOTS.register("parts", REGISTER)


def folds() -> str:
    """The intrinsic that adds up PARTS sums of each of as many channels."""
    return DOTS.register("folds", PARTS)


def taps(count: int) -> str:
    """The intrinsic for a row of taps of a depthwise filter, of some of the channels."""
    return DOTS.register("taps", count)


def dwords(lanes: int) -> str:
    """The intrinsic for four bytes that lie in an int32, which all lanes share."""
    return DOTS.register("dwords", lanes)


BYTE_PRODUCTS = DotProducts(channels, pixels, dwords, stored_together=4, stem_sums=4)


def make(operand: str, lanes: int, target: Target | None) -> Intrinsic:
    if operand in REGISTER_STEPS:
        return REGISTER_STEPS[operand](lanes, plain=spelled_out(target))
    return of_lanes(operand, lanes, *instruction_of(target), integers_of(target).dtype)


@functools.cache
def of_lanes(
    operand: str, lanes: int, instruction: Instruction, widest: int, dtype: str
) -> Intrinsic:
    dot = dot_of(instruction, widest, lanes)
    return intrinsic_of(step_of_lanes(lanes, LANE, ACTIVATIONS[operand](lanes, dtype), dot))


# What a step of lanes reads


def channels_read(lanes: int, dtype: str) -> Activations:
    return Activations(
        Operand((BYTES,), dtype),
        lambda data, lane, i: T.cast(data[i], "int32"),
        lambda data: spread(
            T.reinterpret(data.vload([0], f"{dtype}x{BYTES}"), dtype="int32"), lanes, dtype
        ),
    )


def pixels_read(lanes: int, dtype: str) -> Activations:
    """The four pixels lie together."""
    return Activations(
        Operand((BYTES, lanes), dtype),
        lambda data, lane, i: T.cast(data[i, lane], "int32"),
        lambda data: transposed(data, lanes, dtype),
    )


def halves_read(lanes: int, dtype: str) -> Activations:
    return Activations(
        Operand((BYTES, lanes), dtype, apart=True),
        lambda data, lane, i: T.cast(data[i, lane], "int32"),
        lambda data: transposed_half(data, lanes, dtype),
    )


def dwords_read(lanes: int, dtype: str) -> Activations:
    return Activations(
        Operand((1,), "int32"),
        lambda data, lane, i: byte_of(data[0], i, dtype),
        lambda data: spread(data[0], lanes, dtype),
    )


ACTIVATIONS: dict[str, Callable[[int, str], Activations]] = {
    "channels": channels_read,
    "pixels": pixels_read,
    "halves": halves_read,
    "dwords": dwords_read,
}
DOTS = Intrinsics("dot", (*ACTIVATIONS, *REGISTER_STEPS), make)
register_named = DOTS.register_named


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


def spread(dword: Expr, lanes: int, dtype: str) -> Expr:
    """An int32 as the four bytes of every lane."""
    return T.reinterpret(T.broadcast(dword, lanes), dtype=f"{dtype}x{BYTES * lanes}")


def byte_of(dword: Expr, place: Expr, dtype: str) -> Expr:
    """The byte of an int32, the lowest first, as an int32."""
    if dtype == "uint8":
        return T.shift_right(dword, place * 8) & 255
    return T.shift_right(T.shift_left(dword, 24 - place * 8), 24)
