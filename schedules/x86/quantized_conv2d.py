"""Dense convolution of bytes (1x1 and KxK) for AVX2, AVX-512 and VNNI, and of bfloat16.

As pointwise_conv2d.py, with four channels of the reduction, or two, in each step of a lane.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.dot_products import BYTE_PRODUCTS, DotProducts
from schedules.cpu.sharing import even_bands
from schedules.primitives import (
    divisors,
    extent,
    own_loops,
    parallel_rows,
    powers_of_two_dividing,
    sum_dot_products,
    unroll,
    zero_halo,
)
from schedules.x86.pointwise_conv2d import (
    BAND_BYTES,
    MAX_TILE_HEIGHT,
    MAX_TILE_VECTORS,
    MAX_TILE_WIDTH,
    default_tile,
)
from schedules.x86.registers import has_avx512

BYTES = 4  # of a step
MAX_REDUCTION_UNROLL = 8
LARGE_TILE = 16  # vectors of sums


def schedule(sch: Schedule, conv: SBlockRV, *, dots: DotProducts = BYTE_PRODUCTS) -> list[Schedule]:
    (epilogue,) = sch.get_consumers(conv)
    n, o, h, w, c = sch.get_loops(epilogue)
    steps = extent(sch, sch.get_loops(conv)[-2])
    lanes = extent(sch, c)
    blocks, height, width = extent(sch, o), extent(sch, h), extent(sch, w)

    # Step 1. The default decision, by the model
    widths = [d for d in divisors(width) if d <= MAX_TILE_WIDTH]
    if has_avx512():  # four pixels' bytes are stored together (compiler/cpu/packed_stores.py)
        widths = [d for d in widths if d % dots.stored_together == 0] or widths
    tile_h, tile_w, vectors = default_tile(lanes, height, widths, blocks)
    panels, rows = blocks // vectors, height // tile_h
    weights_outweigh_image = blocks * lanes > height * width
    if weights_outweigh_image:
        bands = rows
        o_default = [panels, 1, vectors]
    else:
        bands = even_bands(rows, tile_h * width * steps * BYTES, BAND_BYTES)
        o_default = [1, panels, vectors]
    h_default = [bands, rows // bands, tile_h]

    # Step 2. Panels and bands around the tile
    o0, o1, oi = sch.split(o, sch.sample_perfect_tile(o, 3, MAX_TILE_VECTORS, o_default))
    h0, h1, hi = sch.split(h, sch.sample_perfect_tile(h, 3, MAX_TILE_HEIGHT, h_default))
    w_default = [width // tile_w, tile_w]
    w0, wi = sch.split(w, sch.sample_perfect_tile(w, 2, MAX_TILE_WIDTH, w_default))
    sch.reorder(n, o0, h0, o1, h1, w0, hi, wi, oi, c)
    unroll(sch, hi, wi, oi)
    sch.vectorize(c)
    parallel_rows(sch, n, o0, h0)

    # Step 3. The reduction inside the tile
    sch.compute_at(conv, w0, preserve_unit_loops=True)
    cn, co, ch, cw, cc, ckh, ckw, ck, ci = own_loops(sch, conv)
    unrolls = powers_of_two_dividing(steps, MAX_REDUCTION_UNROLL)
    # of a large tile one step: LLVM would load the next one's pixels before there are registers
    unrolled = 1 if tile_h * tile_w * vectors > LARGE_TILE else 2
    default = unrolls.index(min(unrolled, unrolls[-1]))
    factor = sch.sample_categorical(unrolls, [1 / len(unrolls)] * len(unrolls), default)
    k0, ki = sch.split(ck, [None, factor])
    if weights_outweigh_image:
        sch.annotate(k0, "prefetch", "weight")
    tile = [ki, cn, ch, cw, co]
    sum_dot_products(sch, conv, [ckh, ckw, k0], tile, (cc, ci), dots.channels(lanes))
    zero_halo(sch, by_rows=True)
    return [sch]
