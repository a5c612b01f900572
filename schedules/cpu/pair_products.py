"""Dot products of two bfloat16 in each lane, as TVM tensor intrinsics.

Where the CPU has AVX512_BF16 a step is one ``vdpbf16ps``, where an ARM core has BF16 one ``bfdot``;
elsewhere two multiplications and additions of the numbers as float32, which any CPU has and tests
run. The instruction itself is a call of DOT, which compiler/cpu/bfloat16.py defines: TVM's code
generator has no bfloat16. Dense convolutions have larger steps on ARM (pair_matrices.py).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T
from tvm.target import Target
from tvm.target.codegen import target_has_features

from schedules.cpu.dot_products import DotProducts
from schedules.cpu.pair_matrices import DEPTH, bfmmla, by_pairs, of_matrices
from schedules.cpu.step_intrinsics import (
    Activations,
    Dot,
    Intrinsic,
    Intrinsics,
    Lane,
    Operand,
    intrinsic_of,
    step_of_lanes,
)
from schedules.cpu.vectors import shuffled

PAIR = 2
BF16 = "bfloat16"
LANE = Lane(PAIR, BF16, "float32")
DOT = "tvm_mobilenet_dot_bf16_"  # and the lanes: (sums, activations, weights), as int32
MATRICES, WORDS = "matrices", "words"  # of vectors of DEPTH channels, and of as many in an int64
X86_LANES, ARM_LANES = (4, 8, 16), (4,)  # of their instructions


def channels(lanes: int) -> str:
    """The intrinsic for two channels of a pixel, which all lanes share."""
    return PAIRS.register("channels", lanes)


def pixels(lanes: int) -> str:
    """The intrinsic for two pixels, whose channels are the lanes."""
    return PAIRS.register("pixels", lanes)


def dwords(lanes: int) -> str:
    """The intrinsic for two numbers that lie in an int32, which all lanes share."""
    return PAIRS.register("dwords", lanes)


def matrices() -> str:
    """The intrinsic for two neighbouring pixels by two output channels."""
    return PAIRS.register(MATRICES, DEPTH)


def words() -> str:
    """As ``matrices``, of pixels that are an int64 each."""
    return PAIRS.register(WORDS, DEPTH)


PAIR_PRODUCTS = DotProducts(channels, pixels, dwords, stored_together=1, stem_sums=16)


def make(operand: str, lanes: int, target: Target | None) -> Intrinsic:
    return of_lanes(operand, lanes, native=lanes in instruction_lanes(target))


@functools.cache
def of_lanes(operand: str, lanes: int, *, native: bool) -> Intrinsic:
    dot = instruction(lanes) if native else multiply(lanes)
    if operand in (MATRICES, WORDS):
        return of_matrices(bfmmla if native else by_pairs(dot), words=operand == WORDS)

    def of_pairs(sums: Expr, activations: Expr, weights: Expr) -> Expr:
        return dot(sums, activations, T.reinterpret(weights, dtype=f"int32x{lanes}"))

    return intrinsic_of(step_of_lanes(lanes, LANE, ACTIVATIONS[operand](lanes), of_pairs))


def on_arm(target: Target | None) -> bool:
    return target is not None and "arm_cpu" in target.keys


def channels_of_step(target: Target | None) -> int:
    """Input channels that a step of a dense convolution sums: of matrices, or of pairs."""
    return DEPTH if on_arm(target) else PAIR


def has_bf16(target: Target | None) -> bool:
    """Whether a target's CPU has instructions that multiply bfloat16."""
    feature = "bf16" if on_arm(target) else "avx512bf16"
    return target is not None and bool(target_has_features(feature, target))


def instruction_lanes(target: Target | None) -> tuple[int, ...]:
    """Of the instructions that a target has for these products."""
    if not has_bf16(target):
        return ()
    return ARM_LANES if on_arm(target) else X86_LANES


def instruction(lanes: int) -> Dot:
    """``vdpbf16ps`` or ``bfdot``, which take what is no normal number for zero.

    The first rounds to nearest, ties to even, the second to odd.
    """

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


# What a step reads: pairs, each as the int32 of a lane


def channels_read(lanes: int) -> Activations:
    return Activations(
        Operand((PAIR,), BF16),
        lambda data, lane, i: T.cast(data[i], "float32"),
        lambda data: T.broadcast(
            T.reinterpret(data.vload([0], f"{BF16}x{PAIR}"), dtype="int32"), lanes
        ),
    )


def pixels_read(lanes: int) -> Activations:
    """The two pixels, which lie together, are transposed."""
    places = [pixel * lanes + lane for lane in range(lanes) for pixel in range(PAIR)]

    def transposed(data: tirx.Buffer) -> Expr:
        both = data.vload([0, 0], f"{BF16}x{PAIR * lanes}")
        words = T.reinterpret(both, dtype=f"int16x{PAIR * lanes}")
        return T.reinterpret(shuffled(words, places), dtype=f"int32x{lanes}")

    return Activations(
        Operand((PAIR, lanes), BF16),
        lambda data, lane, i: T.cast(data[i, lane], "float32"),
        transposed,
    )


def dwords_read(lanes: int) -> Activations:
    return Activations(
        Operand((1,), "int32"),
        lambda data, lane, i: number_of(data[0], i),
        lambda data: T.broadcast(data[0], lanes),
    )


def number_of(pair: Expr, place: Expr) -> Expr:
    """That of a pair in an int32, the lower first, as a float32."""
    return T.reinterpret("float32", T.shift_left(T.shift_right(pair, place * 16), 16))


ACTIVATIONS: dict[str, Callable[[int], Activations]] = {
    "channels": channels_read,
    "pixels": pixels_read,
    "dwords": dwords_read,
}
PAIRS = Intrinsics("pair", (*ACTIVATIONS, MATRICES, WORDS), make)
register_named = PAIRS.register_named
