"""The first convolution of bytes, from the plain float32 image, for AVX2, AVX-512 and VNNI.

A pixel's channels are quantized into one dword, a band of padded rows at a time; a step is a
pixel against one tap of a vector of output channels. In bfloat16 a dword holds two channels.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.dot_products import BYTE_PRODUCTS, DotProducts
from schedules.cpu.padding import copy_padded
from schedules.primitives import (
    divisors,
    extent,
    own_loops,
    parallel_rows,
    sum_dot_products,
    unroll,
    zero_halo,
)

MAX_TILE_WIDTH = 28
MAX_TILE_VECTORS = 8
MOST_SUMS = 8  # vectors of a tile by default
DEFAULT_BAND = 4  # output rows


def schedule(sch: Schedule, conv: SBlockRV, *, dots: DotProducts = BYTE_PRODUCTS) -> list[Schedule]:
    (pad,) = sch.get_producers(conv)
    (epilogue,) = sch.get_consumers(conv)
    n, o, h, w, c = sch.get_loops(epilogue)
    lanes, blocks = extent(sch, c), extent(sch, o)
    height, width = extent(sch, h), extent(sch, w)

    # Step 1. Bands of rows, tiles of few columns: all the taps of a tile are in one piece of code,
    # and of a larger one LLVM keeps more pixels for the next taps than there are registers
    tile_w = max(d for d in divisors(width) if d <= MOST_SUMS)
    vectors = max(d for d in divisors(blocks) if d == 1 or d * tile_w <= dots.stem_sums)
    band = max(d for d in divisors(height) if d <= DEFAULT_BAND)
    o0, oi = sch.split(
        o, sch.sample_perfect_tile(o, 2, MAX_TILE_VECTORS, [blocks // vectors, vectors])
    )
    h0, hi = sch.split(h, sch.sample_perfect_tile(h, 2, 16, [height // band, band]))
    w0, wi = sch.split(w, sch.sample_perfect_tile(w, 2, MAX_TILE_WIDTH, [width // tile_w, tile_w]))
    sch.reorder(n, h0, hi, o0, w0, wi, oi, c)
    unroll(sch, wi, oi)
    sch.vectorize(c)
    parallel = parallel_rows(sch, n, h0)

    # Step 2. The band's padded rows as dwords
    sch.compute_at(conv, w0, preserve_unit_loops=True)
    sch.compute_at(pad, parallel, preserve_unit_loops=True)
    copy_padded(sch, pad, lanes)

    # Step 3. The taps
    cn, co, ch, cw, cc, ckh, ckw, *ck, ci = own_loops(sch, conv)
    # in pairs a tile's sums need most registers: none are left to keep pixels for the next column
    taps, unrolled = ([ckw, ckh, *ck], [ckh, *ck]) if ck else ([ckh, ckw], [ckh, ckw])
    sum_dot_products(sch, conv, taps, [cn, ch, cw, co], (cc, ci), dots.dwords(lanes))
    unroll(sch, *unrolled)
    zero_halo(sch, by_rows=True)
    return [sch]
