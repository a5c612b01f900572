"""1x1 convolution by Strassen's algorithm for AVX2 and AVX-512.

The seven products of a tile (rows x columns of pixels by channel vectors, in registers over the
reduction) are left in a scratch that stays in L1; then their sums make four tiles of the output.
The weights of a panel's seven products lie in reading order and are read for every tile, so the
panels are the outer loop. The sixteen products of Winograd's algorithm and the 2x2 outputs that
their sums make are scheduled alike.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.image_tiles import tile_lengths
from schedules.primitives import (
    accumulate_in_registers,
    extent,
    parallel_rows,
    powers_of_two_dividing,
    unroll,
    zero_halo,
)
from schedules.x86.pointwise_conv2d import (
    MAX_REDUCTION_UNROLL,
    MAX_TILE_HEIGHT,
    MAX_TILE_VECTORS,
    MAX_TILE_WIDTH,
    default_tile,
    default_unroll,
)


def schedule(sch: Schedule, conv: SBlockRV, *, image_first: bool = False) -> list[Schedule]:
    """``image_first``: the bands outside, where the image outweighs the weights."""
    (epilogue,) = sch.get_consumers(conv)
    i, j, n, o, h, w, c = sch.get_loops(epilogue)
    half_k = extent(sch, sch.get_loops(conv)[-1])
    lanes = extent(sch, c)
    blocks, height, width = extent(sch, o), extent(sch, h), extent(sch, w)

    # Step 1. The default decision, by the model
    tile_h, tile_w, vectors = default_tile(
        lanes, height, tile_lengths(sch, [w], MAX_TILE_WIDTH), blocks
    )
    panels, rows = blocks // vectors, height // tile_h

    # Step 2. Panels and bands around the tile, and its four quarters of the output in it
    o_default = [panels, 1, vectors]
    if image_first and height * width >= blocks * lanes:
        o_default = [1, panels, vectors]
    o0, o1, oi = sch.split(o, sch.sample_perfect_tile(o, 3, MAX_TILE_VECTORS, o_default))
    h0, h1, hi = sch.split(h, sch.sample_perfect_tile(h, 3, MAX_TILE_HEIGHT, [rows, 1, tile_h]))
    w0, wi = sch.split(w, sch.sample_perfect_tile(w, 2, MAX_TILE_WIDTH, [width // tile_w, tile_w]))
    sch.reorder(n, o0, h0, o1, h1, w0, hi, wi, oi, i, j, c)
    unroll(sch, hi, wi, oi, i, j)
    sch.vectorize(c)
    parallel_rows(sch, n, o0, h0)

    # Step 3. The products, one after the other
    products = sch.cache_write(conv, 0, "global")
    sch.compute_at(products, w0, preserve_unit_loops=True)
    q, *tile, lane = sch.get_loops(products)[-6:]
    unroll(sch, *tile)
    sch.vectorize(lane)
    sch.annotate(q, "prefetch_within", "weight")

    # Step 4. The reduction inside the tile
    sch.compute_at(conv, q, preserve_unit_loops=True)
    cq, cn, co, ch, cw, cc, ck = sch.get_loops(conv)[-7:]
    unrolls = powers_of_two_dividing(half_k, MAX_REDUCTION_UNROLL)
    default = default_unroll(lanes, tile_h * tile_w, vectors, unrolls)
    factor = sch.sample_categorical(unrolls, [1 / len(unrolls)] * len(unrolls), default)
    k0, ki = sch.split(ck, [None, factor])
    sch.annotate(k0, "prefetch", "weight")
    accumulate_in_registers(sch, conv, [k0], [ki, cq, cn, ch, cw, co], cc)
    zero_halo(sch, by_rows=True)
    return [sch]
