"""The first convolution, from the plain NCHW image, for NEON.

Its three input channels fill no vector, so the lanes of a vector of neighbouring columns multiply
the output channels' vectors. The padded rows are computed a band at a time into a scratch that
stays in L1.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.arm_cpu.by_element import accumulate_by_element
from schedules.arm_cpu.cores import best_gemm_tile, current_core
from schedules.arm_cpu.parts import lanes_of
from schedules.cpu.image_tiles import split_tiles, tile_lengths
from schedules.cpu.padding import copy_padded
from schedules.primitives import (
    divisors,
    extent,
    own_loops,
    unroll,
    zero_halo,
)

MAX_TILE_WIDTH = 16
MAX_TILE_VECTORS = 8
DEFAULT_BAND = 4  # output rows: 9 padded rows of 3x226 floats are 24 KB, most of L1


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    (pad,) = sch.get_producers(conv)
    (epilogue,) = sch.get_consumers(conv)
    n, o, h, *w, c = sch.get_loops(epilogue)
    blocks, height = extent(sch, o), extent(sch, h)

    # Step 1. The default decision, by the model
    _, tile_w, vectors = best_gemm_tile(
        current_core(),
        [1],
        tile_lengths(sch, w, MAX_TILE_WIDTH),
        [d for d in divisors(blocks) if d <= MAX_TILE_VECTORS],
        lanes=lanes_of(sch, conv),
    )
    band = max(d for d in divisors(height) if d <= DEFAULT_BAND)

    # Step 2. Bands of rows, panels of channels, tiles of pixels
    h0, h1 = sch.split(h, sch.sample_perfect_tile(h, 2, height, [height // band, band]))
    o0, oi = sch.split(
        o, sch.sample_perfect_tile(o, 2, MAX_TILE_VECTORS, [blocks // vectors, vectors])
    )
    w0, wi = split_tiles(sch, w, MAX_TILE_WIDTH, tile_w)
    sch.reorder(n, h0, o0, h1, w0, oi, wi, c)
    unroll(sch, wi, oi)
    sch.vectorize(c)
    band_loop = sch.fuse(n, h0)
    sch.parallel(band_loop)

    # Step 3. The reduction inside the tile
    sch.compute_at(conv, w0, preserve_unit_loops=True)
    cn, co, ch, *cw, cc, ck, ckh, ckw = own_loops(sch, conv)
    accumulate_by_element(sch, conv, [ck, ckh], [ckw, co, cn, ch, *cw], cc)

    # Step 4. The padded rows of a band
    sch.compute_at(pad, band_loop, preserve_unit_loops=True)
    copy_padded(sch, pad)
    zero_halo(sch)
    return [sch]
