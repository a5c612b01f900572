"""The peak of a core's dot products, of bytes and of bfloat16, beside that of FMAs (probes.py).

A library has these probes only where its network has kernels that are made of such products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T
from tvm.target import Target

from schedules.cpu import pair_products
from schedules.cpu.byte_instructions import BYTES, INSTRUCTIONS, PMADDWD, instruction_of
from schedules.cpu.dot_products import integers_of
from schedules.cpu.pair_matrices import DEPTH, SUMS, bfmmla, by_pairs
from schedules.cpu.register_products import MATRIX_DEPTH, SADDLP, SMMLA, SMULL
from schedules.cpu.vectors import shuffled
from tvm_mobilenet.kernels.arithmetic import Arithmetic
from tvm_mobilenet.kernels.cpu.layout import DTYPE
from tvm_mobilenet.kernels.cpu.probes import CHAINS
from tvm_mobilenet.kernels.parsing import parsed_once
from tvm_mobilenet.kernels.probe_sizes import PEAK_OPERATIONS, SCRATCH_FLOATS


@dataclass(frozen=True)
class DotStep:
    """Dot products of one instruction or few: ``products`` in all, summed into ``lanes`` sums.

    ``add`` gives the sums after it, of those before and of 32 bits of factors for each lane.
    """

    lanes: int
    products: int
    dtype: str
    add: Callable[[Expr, Expr], Expr]


def step_of(arithmetic: Arithmetic, target: Target) -> DotStep:
    """The step with most products a cycle that kernels of this kind are made of on a target."""
    return bytes_step(target) if arithmetic == "bytes" else bf16_step(target)


def bytes_step(target: Target) -> DotStep:
    """What widens bytes to what an instruction multiplies is left out: kernels do so seldom."""
    instruction, lanes = instruction_of(target)
    if integers_of(target).depth == MATRIX_DEPTH:
        return DotStep(4, 32, "int32", matrices)
    if instruction == "smull":
        return DotStep(4, 16, "int32", pairs_in_16_bits)
    if instruction == "pmaddwd":
        return DotStep(lanes, 2 * lanes, "int32", words(lanes))
    dot = INSTRUCTIONS[instruction](lanes)
    activations = integers_of(target).dtype

    def add(sums: Expr, factors: Expr) -> Expr:
        data, weights = (
            T.reinterpret(side, dtype=f"{dtype}x{BYTES * lanes}")
            for side, dtype in ((sums, activations), (factors, "int8"))
        )
        return dot(sums, data, weights)

    return DotStep(lanes, BYTES * lanes, "int32", add)


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


def bf16_step(target: Target) -> DotStep:
    if pair_products.channels_of_step(target) == DEPTH:
        lanes, products = SUMS, SUMS * DEPTH
        step = bfmmla if pair_products.has_bf16(target) else by_pairs(pair_products.multiply(lanes))
    else:
        lanes = 16
        products = pair_products.PAIR * lanes
        native = pair_products.has_bf16(target)
        step = (pair_products.instruction if native else pair_products.multiply)(lanes)

    def add(sums: Expr, factors: Expr) -> Expr:
        data, weights = (T.reinterpret(side, dtype=f"int32x{lanes}") for side in (sums, factors))
        return step(sums, data, weights)

    return DotStep(lanes, products, "float32", add)


@parsed_once
def dot_peak(step: DotStep) -> tirx.PrimFunc:
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
