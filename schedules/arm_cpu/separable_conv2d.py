"""A depthwise convolution and the 1x1 convolution after it as one, for NEON.

A band of rows is filtered into a scratch in the order in which the product's tiles read it, which
the 1x1 convolution alone would have to copy its input into, and multiplied at once: the tensor
between the two is never in memory, which the cores of a board share.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from schedules.arm_cpu import depthwise_conv2d
from schedules.arm_cpu.cores import current_core
from schedules.arm_cpu.parts import ends_of, item_bytes, start_total, sum_at
from schedules.arm_cpu.pointwise_conv2d import (
    MAX_TILE_HEIGHT,
    MAX_TILE_VECTORS,
    MAX_TILE_WIDTH,
    channels_read,
    default_tile,
    lay_in_tiles,
    reduce_in_tile,
)
from schedules.cpu.sharing import even_bands, num_cores
from schedules.cpu.window_tiles import row_dimension, sum_window, tile_window
from schedules.primitives import divisors, extent, unroll, zero_halo


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    epilogue, total = ends_of(sch, conv)
    (filtered,) = sch.get_producers(conv)
    n, o, h, w, c = sch.get_loops(epilogue)
    channels_in = channels_read(sch, conv)
    blocks, height, width = extent(sch, o), extent(sch, h), extent(sch, w)

    # Step 1. The default decision, by the model
    tile_h, tile_w, vectors = default_tile(
        sch, conv, height, [d for d in divisors(width) if d <= MAX_TILE_WIDTH], blocks
    )
    rows = height // tile_h
    row_bytes = tile_h * width * channels_in * item_bytes(sch, conv)
    scratch_bytes = current_core().l2_bytes // (2 * num_cores())  # half of a core's share
    bands = even_bands(rows, row_bytes, scratch_bytes)

    # Step 2. Bands of rows, panels of channels, tiles of pixels
    o0, oi = sch.split(
        o, sch.sample_perfect_tile(o, 2, MAX_TILE_VECTORS, [blocks // vectors, vectors])
    )
    h0, h1, hi = sch.split(
        h, sch.sample_perfect_tile(h, 3, MAX_TILE_HEIGHT, [bands, rows // bands, tile_h])
    )
    w0, wi = sch.split(w, sch.sample_perfect_tile(w, 2, MAX_TILE_WIDTH, [width // tile_w, tile_w]))
    sch.reorder(n, h0, o0, h1, w0, oi, hi, wi, c)
    unroll(sch, oi, hi, wi)
    sch.vectorize(c)
    band = sch.fuse(n, h0)
    sch.parallel(band)
    sum_at(sch, conv, total, w0)

    # Step 3. The band's input, filtered
    filter_band(sch, filtered, band, extent(sch, wi))
    block = sch.get(filtered)
    rows_at = row_dimension(block.writes[0], block.iter_vars[2].var)
    lay_in_tiles(sch, filtered, extent(sch, hi), extent(sch, wi), rows_at)

    # Step 4. The reduction inside the tile, in steps of one input vector
    reduce_in_tile(sch, conv, tile_h * tile_w, vectors)
    start_total(sch, total)
    zero_halo(sch)
    return [sch]


def filter_band(sch: Schedule, filtered: SBlockRV, band: LoopRV, width: int) -> None:
    """Compute the depthwise convolution that ``filtered`` ends inside ``band``, for the product's
    tiles of ``width`` columns."""
    (conv,) = sch.get_producers(filtered)
    sch.compute_at(filtered, band, preserve_unit_loops=True)
    height = extent(sch, sch.get_loops(filtered)[-3])
    tile_h, tile_w = depthwise_conv2d.default_tile(sch, conv, height, width)
    *_, tile = tile_window(sch, filtered, tile_h, tile_w)
    sum_window(sch, conv, tile)
