"""Depthwise convolution that leaves the operands of Strassen's algorithm, for AVX2 and AVX-512.

A tile lies in two rows, an even and an odd one, of one channel vector in each half; its four
quarters are left in a scratch that stays in L1, from which their sums are made. Where the registers
hold both rows they are computed together, since they share inputs.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.window_tiles import MAX_TILE_WIDTH, slope
from schedules.primitives import (
    accumulate_in_registers,
    divisors,
    extent,
    parallel_rows,
    unroll,
)
from schedules.x86.registers import RegisterFile, least_loads_tile


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    (epilogue,) = sch.get_consumers(conv)
    (operands,) = sch.get_consumers(epilogue)
    n, o, h, w, q, c = sch.get_loops(operands)
    width, lanes = extent(sch, w), extent(sch, c)
    kernel_h, kernel_w = (extent(sch, loop) for loop in sch.get_loops(conv)[-2:])

    # Step 1. The tile
    registers = RegisterFile(lanes)
    rows = 2 if registers.count == 32 else 1
    _, tile_w = least_loads_tile(
        registers,
        (kernel_h, kernel_w),
        strides_of_rows(sch, conv),
        [rows],
        [d for d in divisors(width) if d <= MAX_TILE_WIDTH],
    )
    w0, wi = sch.split(w, sch.sample_perfect_tile(w, 2, MAX_TILE_WIDTH, [width // tile_w, tile_w]))
    unroll(sch, wi, q)
    sch.vectorize(c)
    parallel_rows(sch, n, o, h, kept=True)  # as in window_tiles.py

    # Step 2. Its quarters
    sch.compute_at(epilogue, w0, preserve_unit_loops=True)
    half, eo, eh, odd, ew, lane = sch.get_loops(epilogue)[-6:]
    sch.reorder(half, odd, eo, eh, ew, lane)
    unroll(sch, eo, eh, ew)
    sch.vectorize(lane)
    if rows == 2:
        sch.unroll(odd)

    # Step 3. All taps of what is computed together, unrolled
    sch.compute_at(conv, half if rows == 2 else odd, preserve_unit_loops=True)
    cn, cj, co, ch, ci, cw, cc, ckh, ckw = sch.get_loops(conv)[-9:]
    accumulate_in_registers(sch, conv, [ckh, ckw], [cn, cj, co, ch, ci, cw], cc)
    unroll(sch, ckh, ckw)
    return [sch]


def strides_of_rows(sch: Schedule, conv: SBlockRV) -> tuple[int, int]:
    """The convolution's stride: how far the input's row and column move per output's."""
    block = sch.get(conv)
    odd, column = (block.iter_vars[axis].var for axis in (4, 5))
    return slope(block, odd), slope(block, column)
