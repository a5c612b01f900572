"""The first convolution, from the plain NCHW image, for AVX2 and AVX-512.

Its three input channels fill no vector, so each input value is broadcast against all the output
channels' vectors. The padded rows are computed a band at a time into a scratch that stays in L1.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.image_tiles import split_tiles, tile_lengths
from schedules.cpu.padding import copy_padded
from schedules.primitives import (
    accumulate_in_registers,
    divisors,
    extent,
    own_loops,
    parallel_rows,
    unroll,
    zero_halo,
)
from schedules.x86.registers import RegisterFile, best_gemm_tile

MAX_TILE_WIDTH = 28
MAX_TILE_VECTORS = 8
DEFAULT_BAND = 4  # output rows: 9 padded rows of 3x226 floats are 24 KB, half of L1


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    (pad,) = sch.get_producers(conv)
    (epilogue,) = sch.get_consumers(conv)
    n, o, h, *w, c = sch.get_loops(epilogue)
    lanes = extent(sch, c)
    blocks, height = extent(sch, o), extent(sch, h)

    # Step 1. The default decision, by the model
    _, tile_w, vectors = best_gemm_tile(
        RegisterFile(lanes),
        [1],
        tile_lengths(sch, w, MAX_TILE_WIDTH),
        [d for d in divisors(blocks) if d <= MAX_TILE_VECTORS],
        shared_inputs=True,
    )
    band = max(d for d in divisors(height) if d <= DEFAULT_BAND)

    # Step 2. Bands of rows, panels of channels, tiles of pixels
    h0, h1 = sch.split(h, sch.sample_perfect_tile(h, 2, height, [height // band, band]))
    o0, oi = sch.split(
        o, sch.sample_perfect_tile(o, 2, MAX_TILE_VECTORS, [blocks // vectors, vectors])
    )
    w0, wi = split_tiles(sch, w, MAX_TILE_WIDTH, tile_w)
    sch.reorder(n, h0, o0, h1, w0, wi, oi, c)
    unroll(sch, wi, oi)
    sch.vectorize(c)
    band_loop = parallel_rows(sch, n, h0)

    # Step 3. The reduction inside the tile
    sch.compute_at(conv, w0, preserve_unit_loops=True)
    cn, co, ch, *cw, cc, ck, ckh, ckw = own_loops(sch, conv)
    accumulate_in_registers(sch, conv, [ck, ckh], [ckw, cn, ch, *cw, co], cc)

    # Step 4. The padded rows: zeros first, then the image's rows as they lie
    sch.annotate(w0, "prefetch_next_band", "data")
    sch.compute_at(pad, band_loop, preserve_unit_loops=True)
    copy_padded(sch, pad)
    zero_halo(sch, by_rows=True)
    return [sch]
