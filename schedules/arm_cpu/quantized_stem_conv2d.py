"""The first convolution of bytes, from the plain float32 image, for NEON.

A pixel's channels are quantized into one dword, a band of padded rows at a time; a step is a
pixel against one tap of a vector of output channels.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.arm_cpu.by_element import accumulate_by_element
from schedules.cpu import dot_products
from schedules.cpu.padding import copy_padded
from schedules.primitives import (
    divisors,
    extent,
    own_loops,
    parallel_rows,
    tensorize_sums,
    unroll,
    zero_halo,
)

MAX_TILE_WIDTH = 28
MOST_SUMS = 32  # of a tile: 8 registers
HALF = 8  # channels of a tile, whose taps stay in registers
DEFAULT_BAND = 4  # output rows
PLANES = 4  # dimensions of an image whose planes stay apart
MAX_PLANAR_WIDTH = 8


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    (pad,) = sch.get_producers(conv)
    (epilogue,) = sch.get_consumers(conv)
    if len(sch.get(pad).iter_vars) == PLANES:
        return schedule_planes(sch, pad, conv, epilogue)
    n, o, h, w, c = sch.get_loops(epilogue)
    lanes = extent(sch, c)
    height, width = extent(sch, h), extent(sch, w)

    # Step 1. Bands of rows, tiles of few columns: all the taps of a tile are in one piece of code
    half = min(lanes, HALF)
    tile_w = max(d for d in divisors(width) if d * half <= MOST_SUMS)
    band = max(d for d in divisors(height) if d <= DEFAULT_BAND)
    h0, hi = sch.split(h, sch.sample_perfect_tile(h, 2, 16, [height // band, band]))
    w0, wi = sch.split(w, sch.sample_perfect_tile(w, 2, MAX_TILE_WIDTH, [width // tile_w, tile_w]))
    c0, c1 = sch.split(c, [None, half])
    sch.reorder(n, h0, hi, o, c0, w0, wi, c1)
    unroll(sch, wi)
    sch.vectorize(c1)
    parallel = parallel_rows(sch, n, h0)

    # Step 2. The band's padded rows as dwords
    sch.compute_at(conv, w0, preserve_unit_loops=True)
    inputs = sch.cache_read(conv, 0, "global")
    sch.compute_at(inputs, w0, preserve_unit_loops=True)
    sch.compute_at(pad, parallel, preserve_unit_loops=True)
    copy_padded(sch, pad, lanes)

    # Step 3. The taps, each row's pixels as vectors whose lanes the products name
    cn, co, ch, cw, cc, ckh, ckw, ci = own_loops(sch, conv)
    sch.reorder(ckh, ckw, cn, ch, cw, co, cc, ci)
    unroll(sch, cn, ch, cw, co)
    *copied, row = own_loops(sch, inputs)
    unroll(sch, *copied)
    sch.vectorize(row)
    tensorize_sums(sch, conv, ckh, cc, dot_products.dwords(half))
    unroll(sch, ckh, ckw)
    zero_halo(sch, by_rows=True)
    return [sch]


def schedule_planes(
    sch: Schedule, pad: SBlockRV, conv: SBlockRV, epilogue: SBlockRV
) -> list[Schedule]:
    """Products of 16 bits, by lane: a vector of neighbouring columns has one factor of each."""
    n, o, h, w, c = sch.get_loops(epilogue)
    lanes, height, width = extent(sch, c), extent(sch, h), extent(sch, w)

    # Step 1. Bands of rows, tiles of few columns
    half = min(lanes, HALF)
    tile_w = max(d for d in divisors(width) if d * half <= MOST_SUMS)
    band = max(d for d in divisors(height) if d <= DEFAULT_BAND)
    h0, hi = sch.split(h, sch.sample_perfect_tile(h, 2, 16, [height // band, band]))
    w0, wi = sch.split(
        w, sch.sample_perfect_tile(w, 2, MAX_PLANAR_WIDTH, [width // tile_w, tile_w])
    )
    c0, c1 = sch.split(c, [None, half])
    sch.reorder(n, h0, hi, o, c0, w0, wi, c1)
    unroll(sch, wi)
    sch.vectorize(c1)
    parallel = parallel_rows(sch, n, h0)

    # Step 2. The reduction inside the tile, and the padded rows of a band
    sch.compute_at(conv, w0, preserve_unit_loops=True)
    cn, co, ch, cw, cc, ck, ckh, ckw = own_loops(sch, conv)
    accumulate_by_element(sch, conv, [ck, ckh], [ckw, co, cn, ch, cw], cc)
    unroll(sch, ck, ckh)
    sch.compute_at(pad, parallel, preserve_unit_loops=True)
    copy_padded(sch, pad, lanes)
    zero_halo(sch, by_rows=True)
    return [sch]
