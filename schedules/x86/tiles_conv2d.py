"""Dense convolution by the tile registers of AMX (1x1 and KxK), over bytes or bfloat16.

Four tiles of sums, of two tiles of pixels by two vectors of channels, stay in registers over the
whole reduction: each of its steps loads two tiles of pixels and two of weights for four products.
A tile of pixels comes from the first-level cache in 9 cycles, one of weights from the second-level
cache in 47, and a product takes 16. So the fewest loads decide: where all the weights of a panel
fit the registers beside the sums, as those of up to 128 bytes of channels do, they stay there for a
band of rows.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.sharing import even_bands
from schedules.primitives import (
    divisors,
    extent,
    own_loops,
    parallel_rows,
    powers_of_two_dividing,
    unroll,
    zero_halo,
)
from schedules.x86.pixel_tiles import BLOCK_PIXELS, BLOCK_WEIGHTS, KEPT_STEPS
from schedules.x86.tile_products import LANES, OPERANDS, REGISTERS, TileProduct

MAX_REDUCTION_UNROLL = 4
# of copied pixels: beside a panel's weights they stay in a first-level cache of 48 KB
BAND_BYTES = 24 * 1024


def schedule(sch: Schedule, conv: SBlockRV, *, of: str) -> list[Schedule]:
    """``of`` says of which of OPERANDS."""
    operands = OPERANDS[of]
    copy, (epilogue,) = sch.get_producers(conv)[0], sch.get_consumers(conv)
    n, th, tw, o, p, c = sch.get_loops(epilogue)
    *_, cs, ck, ci = sch.get_loops(conv)
    pixels, steps = extent(sch, p), extent(sch, cs)
    product = TileProduct(of, pixels, extent(sch, ck) * extent(sch, ci))
    down, across, blocks = extent(sch, th), extent(sch, tw), extent(sch, o)

    # Step 1. The default decision
    keeps = steps <= KEPT_STEPS
    above, beside, together = block_of(down, across, blocks, steps if keeps else 0)
    rows = down // above
    row_bytes = above * across * pixels * steps * product.depth * operands.bytes
    bands = even_bands(rows, row_bytes, BAND_BYTES)

    # Step 2. Bands of rows, and in them panels of channels around the block
    sizes = [bands, rows // bands, above]
    th0, th1, thi = sch.split(th, sch.sample_perfect_tile(th, 3, above, sizes))
    tw0, twi = sch.split(tw, [None, beside])
    o0, oi = sch.split(o, [None, together])
    sch.reorder(n, th0, o0, th1, tw0, thi, twi, oi, p, c)
    unroll(sch, thi, twi, oi, p)
    sch.vectorize(c)
    band = parallel_rows(sch, n, th0)
    # one loop over blocks: a block's epilogue is done beside the next one's products
    at = sch.fuse(th1, tw0) if keeps else sch.fuse(o0, th1, tw0)

    # Step 3. The sums in tiles
    stored = sch.cache_write(conv, 0, REGISTERS)
    sch.compute_at(stored, at, preserve_unit_loops=True)
    sch.compute_at(conv, at, preserve_unit_loops=True)
    cn, cth, ctw, co, cp, cc, cs, ck, ci = own_loops(sch, conv)
    unrolls = powers_of_two_dividing(steps, MAX_REDUCTION_UNROLL)
    factor: int | object = steps
    if not keeps:
        default = len(unrolls[:2]) - 1
        factor = sch.sample_categorical(unrolls, [1 / len(unrolls)] * len(unrolls), default)
    s0, si = sch.split(cs, [None, factor])
    sch.reorder(s0, si, cn, cth, ctw, co, cp, cc, ck, ci)
    unroll(sch, si, cth, ctw, co)
    if not keeps and blocks * LANES > down * across * pixels:
        sch.annotate(s0, "prefetch", "weight")
    data = sch.cache_read(conv, 0, REGISTERS)
    weight = sch.cache_read(conv, 1, REGISTERS)
    sch.compute_at(data, s0 if keeps else si, preserve_unit_loops=True)
    sch.compute_at(weight, o0 if keeps else si, preserve_unit_loops=True)
    init = sch.decompose_reduction(conv, s0)

    # Step 4. The band's pixels, copied by vectors
    sch.compute_at(copy, band)
    *_, channels = own_loops(sch, copy)
    vectors, lanes = sch.split(channels, [None, LANES])
    unroll(sch, vectors)
    sch.vectorize(lanes)

    # Step 5. Their instructions
    tensorize(sch, data, product.intrinsic("pixels"), 2)
    *_, rows_of_tile, vector, _, _ = own_loops(sch, weight)
    sch.reorder(vector, rows_of_tile)
    tensorize(sch, weight, product.intrinsic("weights"), 3)
    tensorize(sch, init, product.intrinsic("zero"), 2)
    tensorize(sch, stored, product.intrinsic("store"), 2)
    sch.tensorize(cp, product.intrinsic("multiply"))
    zero_halo(sch, by_rows=True)
    return [sch]


def block_of(down: int, across: int, blocks: int, kept: int) -> tuple[int, int, int]:
    """Tiles that are summed at once, above each other and side by side, by vectors of channels.

    Where two steps of weights are ``kept``, they leave registers for one tile of pixels.
    """
    vectors = max(d for d in divisors(blocks) if d <= BLOCK_WEIGHTS)
    if kept > 1:
        return 1, 1, vectors
    if across % BLOCK_PIXELS == 0:
        return 1, BLOCK_PIXELS, vectors
    return BLOCK_PIXELS if down % BLOCK_PIXELS == 0 else 1, 1, vectors


def tensorize(sch: Schedule, block: SBlockRV, intrinsic: str, inside: int) -> None:
    """Of each tile, which has so many loops ``inside``; those around it are unrolled."""
    loops = own_loops(sch, block)
    unroll(sch, *loops[:-inside])
    sch.tensorize(loops[-inside], intrinsic)
