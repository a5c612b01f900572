"""Depthwise convolution of bytes for NEON.

A step is four pixels of each channel of a vector, transposed in a register, against the taps that
meet them. What the tile's outputs have in common, LLVM loads and transposes once.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.arm_cpu.byte_tiles import keeps_order
from schedules.cpu import dot_products
from schedules.primitives import (
    divisors,
    extent,
    own_loops,
    parallel_rows,
    sum_dot_products,
    unroll,
    zero_halo,
)

MAX_TILE_WIDTH = 8  # groups of neighbours that share what they read
MAX_TILE_HEIGHT = 8
FEW = 2  # rows, or columns: with more, LLVM loads them all at first, and spills most
TAPPED_LOOPS = 7  # of a filter without dot products
MAX_TAPPED_WIDTH, MAX_TAPPED_HEIGHT = 2, 2  # outputs that share what they read
HALF = 8  # channels of a tile: two registers of taps for each output, which stay


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    if len(sch.get_loops(conv)) == TAPPED_LOOPS:
        return schedule_taps(sch, conv)
    (epilogue,) = sch.get_consumers(conv)
    n, o, h, w, neighbours, c = sch.get_loops(epilogue)
    height, groups, outputs = extent(sch, h), extent(sch, w), extent(sch, neighbours)
    whole = extent(sch, c)
    lanes = min(whole, HALF)

    # Step 1. The tile: rows share what they read, and columns some of what a stride leaves apart
    far = keeps_order()
    tile_h = most_rows(height, MAX_TILE_HEIGHT if far and outputs > 1 else FEW)
    most = 1 if outputs > 1 else 2 * FEW if far else FEW
    tile_w = max(d for d in divisors(groups) if d <= most)
    h_default, w_default = [height // tile_h, tile_h], [groups // tile_w, tile_w]
    h0, hi = sch.split(h, sch.sample_perfect_tile(h, 2, MAX_TILE_HEIGHT, h_default))
    w0, wi = sch.split(w, sch.sample_perfect_tile(w, 2, MAX_TILE_WIDTH, w_default))
    c0, ci = sch.split(c, [whole // lanes, lanes])
    sch.reorder(n, o, h0, c0, w0, hi, wi, neighbours, ci)
    unroll(sch, hi, wi, neighbours)
    sch.vectorize(ci)
    parallel_rows(sch, n, o, h0, kept=True)

    # Step 2. All taps of a row of it: with its sums stored at once, the taps stay in registers
    sch.compute_at(conv, hi, preserve_unit_loops=True)
    cn, co, ch, cw, cp, cc, ckh, ck, ci = own_loops(sch, conv)
    intrinsic = (dot_products.pixels if whole == lanes else dot_products.halves)(lanes)
    sum_dot_products(sch, conv, [ckh, ck], [cn, co, ch, cw, cp], (cc, ci), intrinsic)
    unroll(sch, ckh, ck)
    zero_halo(sch, by_rows=True)
    return [sch]


def most_rows(height: int, most: int) -> int:
    """Of a tile: what divides ``height``, up to ``most``; more than those rather than one row."""
    fitting = [d for d in divisors(height) if d <= MAX_TILE_HEIGHT]
    return max((d for d in fitting if 1 < d <= most), default=fitting[-1])


def schedule_taps(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    """A row of taps a step, of half a vector's channels: all of a tile's steps are unrolled."""
    (epilogue,) = sch.get_consumers(conv)
    n, o, h, w, c = sch.get_loops(epilogue)
    height, width = extent(sch, h), extent(sch, w)

    # Step 1. The tile: its outputs share what they read
    tile_h = max(d for d in divisors(height) if d <= MAX_TAPPED_HEIGHT)
    tile_w = max(d for d in divisors(width) if d <= MAX_TAPPED_WIDTH)
    h_default, w_default = [height // tile_h, tile_h], [width // tile_w, tile_w]
    h0, hi = sch.split(h, sch.sample_perfect_tile(h, 2, MAX_TAPPED_HEIGHT, h_default))
    w0, wi = sch.split(w, sch.sample_perfect_tile(w, 2, MAX_TAPPED_WIDTH, w_default))
    c0, ci = sch.split(c, [None, HALF])
    sch.reorder(n, o, h0, c0, w0, hi, wi, ci)
    unroll(sch, hi, wi)
    sch.vectorize(ci)
    parallel_rows(sch, n, o, h0, kept=True)

    # Step 2. All taps of the tile
    sch.compute_at(conv, w0, preserve_unit_loops=True)
    cn, co, ch, cw, cc, ckh, ckw = own_loops(sch, conv)
    sum_dot_products(
        sch,
        conv,
        [ckh],
        [cn, co, ch, cw],
        (cc, ckw),
        dot_products.taps(extent(sch, ckw)),
    )
    unroll(sch, ckh)
    zero_halo(sch, by_rows=True)
    return [sch]
