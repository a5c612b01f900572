"""What a core can do at best, measured by code that travels in the bundle.

The roofline of ``bench --profile`` needs the device's own peaks, not a data sheet's. The probes
are compiled for the bundle's target like every kernel, and exported beside ``infer``: the peak of
FMAs and of reading in every library, those of dot products in one with kernels made of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T
from tvm.target import Target

from schedules.cpu.dot_products import (
    BYTES,
    INSTRUCTIONS,
    PMADDWD,
    instruction_of,
    integers_of,
)
from schedules.cpu.register_products import MATRIX_DEPTH, SADDLP, SMMLA, SMULL
from schedules.cpu.vectors import shuffled
from schedules.x86 import pair_products
from tvm_mobilenet.kernels.arithmetic import Arithmetic
from tvm_mobilenet.kernels.cpu.layout import DTYPE
from tvm_mobilenet.kernels.parsing import parsed_once
from tvm_mobilenet.kernels.probe_sizes import PEAK_OPERATIONS, SCRATCH_FLOATS, STREAM_ROW

CHAINS = 12  # independent FMAs: two a cycle at a latency of 4 need 8; 12 fit 16 registers


@parsed_once
def fma_peak(v: int) -> tirx.PrimFunc:
    """PEAK_OPERATIONS in ``CHAINS`` independent chains of vector FMAs, in registers only.

    Buffer: scratch (SCRATCH_FLOATS,); the compiler must not know its first ``v`` floats, the factor
    and the addend of every FMA, and must do the work since the results are left behind them.
    """
    rounds = PEAK_OPERATIONS // (2 * CHAINS * v)

    @T.prim_func(s_tir=True)
    def main(scratch: T.Buffer((SCRATCH_FLOATS,), DTYPE)) -> None:
        T.func_attr({"tirx.noalias": True})
        with T.sblock("root"):
            chains = T.sblock_alloc_buffer((CHAINS, v), DTYPE)
            for i in T.unroll(CHAINS):
                for c in T.vectorized(v):
                    with T.sblock("start"):
                        vi, vc = T.axis.remap("SS", [i, c])
                        chains[vi, vc] = scratch[vc]
            for k in T.serial(rounds):
                for i in T.unroll(CHAINS):
                    for c in T.vectorized(v):
                        with T.sblock("fma"):
                            _, vi, vc = T.axis.remap("RSS", [k, i, c])
                            chains[vi, vc] = chains[vi, vc] * scratch[vc] + scratch[vc]
            for i in T.unroll(CHAINS):
                for c in T.vectorized(v):
                    with T.sblock("finish"):
                        vi, vc = T.axis.remap("SS", [i, c])
                        scratch[v + vi * v + vc] = chains[vi, vc]

    return main


@parsed_once
def stream_read(rows: int, v: int) -> tirx.PrimFunc:
    """Column sums of (rows, STREAM_ROW) floats, read in order.

    Buffers: data (rows, STREAM_ROW); sums (STREAM_ROW,).
    """
    vectors = STREAM_ROW // v

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer((rows, STREAM_ROW), DTYPE), sums: T.Buffer((STREAM_ROW,), DTYPE)
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        with T.sblock("root"):
            acc = T.sblock_alloc_buffer((vectors, v), DTYPE)
            for i in T.unroll(vectors):
                for c in T.vectorized(v):
                    with T.sblock("start"):
                        vi, vc = T.axis.remap("SS", [i, c])
                        acc[vi, vc] = T.float32(0)
            for k in T.serial(rows):
                for i in T.unroll(vectors):
                    for c in T.vectorized(v):
                        with T.sblock("sum"):
                            vk, vi, vc = T.axis.remap("RSS", [k, i, c])
                            acc[vi, vc] = acc[vi, vc] + data[vk, vi * v + vc]
            for i in T.unroll(vectors):
                for c in T.vectorized(v):
                    with T.sblock("finish"):
                        vi, vc = T.axis.remap("SS", [i, c])
                        sums[vi * v + vc] = acc[vi, vc]

    return main


@dataclass(frozen=True)
class Step:
    """Dot products of one instruction or few: ``products`` in all, summed into ``lanes`` sums.

    ``add`` gives the sums after it, of those before and of 32 bits of factors for each lane.
    """

    lanes: int
    products: int
    dtype: str
    add: Callable[[Expr, Expr], Expr]


def step_of(arithmetic: Arithmetic, target: Target) -> Step:
    """The step with most products a cycle that kernels of this kind are made of on a target."""
    return bytes_step(target) if arithmetic == "bytes" else bf16_step(target)


def bytes_step(target: Target) -> Step:
    """What widens bytes to what an instruction multiplies is left out: kernels do so seldom."""
    instruction, lanes = instruction_of(target)
    if integers_of(target).depth == MATRIX_DEPTH:
        return Step(4, 32, "int32", matrices)
    if instruction == "smull":
        return Step(4, 16, "int32", pairs_in_16_bits)
    if instruction == "pmaddwd":
        return Step(lanes, 2 * lanes, "int32", words(lanes))
    dot = INSTRUCTIONS[instruction](lanes)
    activations = integers_of(target).dtype

    def add(sums: Expr, factors: Expr) -> Expr:
        data, weights = (
            T.reinterpret(side, dtype=f"{dtype}x{BYTES * lanes}")
            for side, dtype in ((sums, activations), (factors, "int8"))
        )
        return dot(sums, data, weights)

    return Step(lanes, BYTES * lanes, "int32", add)


def matrices(sums: Expr, factors: Expr) -> Expr:
    data, weights = (T.reinterpret(side, dtype="int8x16") for side in (sums, factors))
    return T.call_llvm_pure_intrin(SMMLA, sums, data, weights, dtype="int32x4")


def pairs_in_16_bits(sums: Expr, factors: Expr) -> Expr:
    """``smull``, ``smlal2``, ``sadalp``."""
    data, weights = (T.reinterpret(side, dtype="int8x16") for side in (sums, factors))
    low, high = (
        T.call_llvm_pure_intrin(
            SMULL, shuffled(data, half), shuffled(weights, half), dtype="int16x8"
        )
        for half in (range(8), range(8, 16))
    )
    return sums + T.call_llvm_pure_intrin(SADDLP, low + high, dtype="int32x4")


def words(lanes: int) -> Callable[[Expr, Expr], Expr]:
    """``pmaddwd`` and ``paddd``: half of what a kernel does for four bytes of each lane."""

    def add(sums: Expr, factors: Expr) -> Expr:
        both = (T.reinterpret(side, dtype=f"int16x{2 * lanes}") for side in (sums, factors))
        return sums + T.call_llvm_pure_intrin(PMADDWD[lanes], *both, dtype=f"int32x{lanes}")

    return add


def bf16_step(target: Target) -> Step:
    lanes = 16
    native = pair_products.has_bf16(target)
    dot = (pair_products.vdpbf16ps if native else pair_products.multiply)(lanes)

    def add(sums: Expr, factors: Expr) -> Expr:
        data, weights = (T.reinterpret(side, dtype=f"int32x{lanes}") for side in (sums, factors))
        return dot(sums, data, weights)

    return Step(lanes, pair_products.PAIR * lanes, "float32", add)


@parsed_once
def dot_peak(step: Step) -> tirx.PrimFunc:
    """PEAK_OPERATIONS in ``CHAINS`` independent chains of ``step``, in registers only.

    What is multiplied by the factors are the sums so far, or the compiler would do it once before
    the loop. Buffer: scratch (SCRATCH_FLOATS,), as of ``fma_peak``.
    """
    lanes, dtype, add = step.lanes, step.dtype, step.add
    rounds = PEAK_OPERATIONS // (2 * CHAINS * step.products)
    sums = f"{dtype}x{lanes}"

    @T.prim_func(s_tir=True)
    def main(scratch: T.Buffer((SCRATCH_FLOATS,), DTYPE)) -> None:
        T.func_attr({"tirx.noalias": True})
        with T.sblock("root"):
            chains = T.sblock_alloc_buffer((CHAINS, lanes), dtype)
            for i in T.unroll(CHAINS):
                with T.sblock("start"):
                    vi = T.axis.remap("S", [i])
                    T.reads(scratch[0:lanes])
                    T.writes(chains[vi, 0:lanes])
                    chains[vi, T.ramp(0, 1, lanes)] = T.reinterpret(
                        scratch[T.ramp(0, 1, lanes)], dtype=sums
                    )
            for k in T.serial(rounds):
                for i in T.unroll(CHAINS):
                    with T.sblock("step"):
                        _, vi = T.axis.remap("RS", [k, i])
                        T.reads(chains[vi, 0:lanes], scratch[0:lanes])
                        T.writes(chains[vi, 0:lanes])
                        chains[vi, T.ramp(0, 1, lanes)] = add(
                            chains[vi, T.ramp(0, 1, lanes)], scratch[T.ramp(0, 1, lanes)]
                        )
            for i in T.unroll(CHAINS):
                with T.sblock("finish"):
                    vi = T.axis.remap("S", [i])
                    T.reads(chains[vi, 0:lanes])
                    T.writes(scratch[lanes + vi * lanes : lanes + vi * lanes + lanes])
                    scratch[T.ramp(lanes + vi * lanes, 1, lanes)] = T.reinterpret(
                        chains[vi, T.ramp(0, 1, lanes)], dtype=f"{DTYPE}x{lanes}"
                    )

    return main
