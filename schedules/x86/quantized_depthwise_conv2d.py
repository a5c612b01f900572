"""Depthwise convolution of bytes for AVX2, AVX-512 and VNNI, and of bfloat16.

A step is four pixels, or two, of each channel of a vector, transposed in a register, against the
taps that meet them. What the tile's outputs have in common, LLVM loads and transposes once.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.dot_products import BYTE_PRODUCTS, DotProducts
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
MOST_OUTPUTS = 8  # vectors of sums, beside the taps


def schedule(sch: Schedule, conv: SBlockRV, *, dots: DotProducts = BYTE_PRODUCTS) -> list[Schedule]:
    (epilogue,) = sch.get_consumers(conv)
    n, o, h, w, neighbours, c = sch.get_loops(epilogue)
    height, groups, outputs = extent(sch, h), extent(sch, w), extent(sch, neighbours)
    lanes = extent(sch, c)

    # Step 1. The tile: two rows share two thirds of what they read
    tile_h = 2 if height % 2 == 0 else 1
    tile_w = max(
        d
        for d in divisors(groups)
        if d == 1 or (d <= MAX_TILE_WIDTH and d * outputs * tile_h <= MOST_OUTPUTS)
    )
    h_default, w_default = [height // tile_h, tile_h], [groups // tile_w, tile_w]
    h0, hi = sch.split(h, sch.sample_perfect_tile(h, 2, MAX_TILE_HEIGHT, h_default))
    w0, wi = sch.split(w, sch.sample_perfect_tile(w, 2, MAX_TILE_WIDTH, w_default))
    sch.reorder(n, o, h0, w0, hi, wi, neighbours, c)
    unroll(sch, hi, wi, neighbours)
    sch.vectorize(c)
    parallel_rows(sch, n, o, h0, kept=True)

    # Step 2. All taps of the tile
    sch.compute_at(conv, w0, preserve_unit_loops=True)
    cn, co, ch, cw, cp, cc, ckh, ck, ci = own_loops(sch, conv)
    tile = [cn, co, ch, cw, cp]
    sum_dot_products(sch, conv, [ckh, ck], tile, (cc, ci), dots.pixels(lanes))
    unroll(sch, ckh, ck)
    zero_halo(sch, by_rows=True)
    return [sch]
