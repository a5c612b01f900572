"""The peak of a core's products of tiles, beside those of dot products (dot_probes.py)."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from schedules.x86.tile_products import (
    LANES,
    LOAD,
    MULTIPLY,
    REGISTERS,
    ROW_BYTES,
    ROWS,
    STORE,
    ZERO,
    Operands,
    call,
)
from tvm_mobilenet.kernels.cpu.layout import DTYPE
from tvm_mobilenet.kernels.parsing import parsed_once
from tvm_mobilenet.kernels.probe_sizes import PEAK_OPERATIONS, SCRATCH_FLOATS

SUMS = 4  # tiles of them: a product's is ready long before its turn comes again
ONE_LINE = 0  # bytes between the rows of a tile: all of them are the same


@parsed_once
def tile_peak(operands: Operands) -> tirx.PrimFunc:
    """PEAK_OPERATIONS in SUMS independent chains of products, in registers only.

    Buffer: scratch (SCRATCH_FLOATS,), as of ``fma_peak``.
    """
    depth = ROW_BYTES // operands.bytes
    # rounded up, which adds less than a thousandth
    rounds = -(-PEAK_OPERATIONS // (2 * SUMS * ROWS * LANES * depth))
    name = MULTIPLY[operands.pixels]
    pixels, weights, line = SUMS, SUMS + 1, ROW_BYTES // 4

    @T.prim_func(s_tir=True)
    def main(scratch: T.Buffer((SCRATCH_FLOATS,), DTYPE)) -> None:
        T.func_attr({"tirx.noalias": True})
        with T.sblock("root"):
            tiles = T.sblock_alloc_buffer((SUMS + 2, ROWS, LANES), DTYPE, scope=REGISTERS)
            for i in T.unroll(SUMS):
                with T.sblock("start"):
                    vi = T.axis.remap("S", [i])
                    T.reads()
                    T.writes(tiles[vi, 0:ROWS, 0:LANES])
                    T.evaluate(call(ZERO, T.address_of(tiles[vi, 0, 0]), ROWS, ROW_BYTES))
            for i in T.unroll(2):
                with T.sblock("load"):
                    vi = T.axis.remap("S", [i])
                    T.reads(scratch[0:LANES])
                    T.writes(tiles[pixels + vi, 0:ROWS, 0:LANES])
                    T.evaluate(
                        call(
                            LOAD,
                            T.address_of(tiles[pixels + vi, 0, 0]),
                            ROWS,
                            ROW_BYTES,
                            T.address_of(scratch[0]),
                            ONE_LINE,
                        )
                    )
            for k in T.serial(rounds):
                for i in T.unroll(SUMS):
                    with T.sblock("step"):
                        _, vi = T.axis.remap("RS", [k, i])
                        T.reads(tiles[0 : SUMS + 2, 0:ROWS, 0:LANES])
                        T.writes(tiles[vi, 0:ROWS, 0:LANES])
                        T.evaluate(
                            call(
                                name,
                                T.address_of(tiles[vi, 0, 0]),
                                T.address_of(tiles[pixels, 0, 0]),
                                T.address_of(tiles[weights, 0, 0]),
                            )
                        )
            for i in T.unroll(SUMS):
                with T.sblock("finish"):
                    vi = T.axis.remap("S", [i])
                    T.reads(tiles[vi, 0:ROWS, 0:LANES])
                    T.writes(scratch[line + vi * line : line + vi * line + line])
                    T.evaluate(
                        call(
                            STORE,
                            T.address_of(tiles[vi, 0, 0]),
                            ROWS,
                            ROW_BYTES,
                            T.address_of(scratch[line + vi * line]),
                            ONE_LINE,
                        )
                    )

    return main
