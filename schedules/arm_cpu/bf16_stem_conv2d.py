"""The first convolution, from the plain float32 image, for NEON by products of bfloat16.

A band's padded rows are rounded first, two channels of a pixel into a dword. A step is a dword of
each of a tile's pixels, which the products name by lane, against a tap of their channels.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.padding import copy_padded
from schedules.cpu.pair_products import PAIR_PRODUCTS
from schedules.primitives import (
    divisors,
    extent,
    own_loops,
    parallel_rows,
    tensorize_sums,
    unroll,
    zero_halo,
)

MAX_TILE_WIDTH = 16
MAX_TILE_VECTORS = 8
MOST_SUMS = 16  # registers
DEFAULT_WIDTH, DEFAULT_BAND = 4, 4  # columns of a tile, output rows
ROW_LANES = 8  # pixels that are rounded together


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    (pad,) = sch.get_producers(conv)
    (epilogue,) = sch.get_consumers(conv)
    n, o, h, w, c = sch.get_loops(epilogue)
    blocks, lanes = extent(sch, o), extent(sch, c)
    height, width = extent(sch, h), extent(sch, w)

    # Step 1. Bands of rows, tiles of few columns: all the taps of a tile are in one piece of code,
    # which LLVM loads from the stack where a row of tiles has them in common
    tile_w = max(d for d in divisors(width) if d <= DEFAULT_WIDTH)
    vectors = max(d for d in divisors(blocks) if d == 1 or d * tile_w <= MOST_SUMS)
    band = max(d for d in divisors(height) if d <= DEFAULT_BAND)
    o_default = [blocks // vectors, vectors]
    o0, oi = sch.split(o, sch.sample_perfect_tile(o, 2, MAX_TILE_VECTORS, o_default))
    h0, hi = sch.split(h, sch.sample_perfect_tile(h, 2, 16, [height // band, band]))
    w0, wi = sch.split(w, sch.sample_perfect_tile(w, 2, MAX_TILE_WIDTH, [width // tile_w, tile_w]))
    sch.reorder(n, h0, hi, o0, w0, wi, oi, c)
    unroll(sch, wi, oi)
    sch.vectorize(c)
    parallel = parallel_rows(sch, n, h0)

    # Step 2. The band's padded rows as dwords
    sch.compute_at(conv, w0, preserve_unit_loops=True)
    inputs = sch.cache_read(conv, 0, "global")
    sch.compute_at(inputs, w0, preserve_unit_loops=True)
    sch.compute_at(pad, parallel, preserve_unit_loops=True)
    copy_padded(sch, pad, ROW_LANES)

    # Step 3. The taps, each row's pixels as vectors whose lanes the products name
    cn, co, ch, cw, cc, ckh, ckw, ck, ci = own_loops(sch, conv)
    sch.reorder(ckh, ck, ckw, cn, ch, cw, co, cc, ci)
    unroll(sch, cn, ch, cw, co)
    *copied, row = own_loops(sch, inputs)
    unroll(sch, *copied)
    sch.vectorize(row)
    tensorize_sums(sch, conv, ckh, cc, PAIR_PRODUCTS.dwords(lanes))
    unroll(sch, ckh, ck, ckw)
    zero_halo(sch, by_rows=True)
    return [sch]
