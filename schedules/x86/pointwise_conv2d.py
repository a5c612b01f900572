"""Dense convolution over blocked activations (1x1 and KxK) for AVX2 and AVX-512.

A tile of rows x columns pixels by ``vectors`` channel vectors stays in registers over the whole
reduction; each step loads the tile's weights and broadcasts its inputs. Around it the channel
panels and row bands are two-level loops, so that one knob moves between reading the weights once
(panels outside: 14x14 and 7x7, where they outweigh the image) and reading the image once
(bands outside: 112x112 and 56x56).
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.image_tiles import length, split_tiles, tile_lengths
from schedules.cpu.sharing import even_bands
from schedules.primitives import (
    accumulate_in_registers,
    divisors,
    extent,
    own_loops,
    parallel_rows,
    powers_of_two_dividing,
    unroll,
    zero_halo,
)
from schedules.x86.registers import RegisterFile, best_gemm_tile

MAX_TILE_WIDTH = 28
MAX_TILE_HEIGHT = 8
MAX_TILE_VECTORS = 8
MAX_REDUCTION_UNROLL = 16
BAND_BYTES = 24 * 1024  # inputs of one band stay in L1 beside the panel's weights
FLOAT_BYTES = 4


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    (epilogue,) = sch.get_consumers(conv)
    n, o, h, *w, c = sch.get_loops(epilogue)
    channels_in = extent(sch, sch.get_loops(conv)[-1])
    lanes = extent(sch, c)
    blocks, height, width = extent(sch, o), extent(sch, h), length(sch, w)

    # Step 1. The default decision, by the model
    tile_h, tile_w, vectors = default_tile(
        lanes, height, tile_lengths(sch, w, MAX_TILE_WIDTH), blocks
    )
    panels, rows = blocks // vectors, height // tile_h
    weights_outweigh_image = blocks * lanes > height * width
    if weights_outweigh_image:
        bands = rows
        o_default = [panels, 1, vectors]
    else:
        bands = even_bands(rows, tile_h * width * channels_in * FLOAT_BYTES, BAND_BYTES)
        o_default = [1, panels, vectors]
    h_default = [bands, rows // bands, tile_h]

    # Step 2. Panels and bands around the tile
    o0, o1, oi = sch.split(o, sch.sample_perfect_tile(o, 3, MAX_TILE_VECTORS, o_default))
    h0, h1, hi = sch.split(h, sch.sample_perfect_tile(h, 3, MAX_TILE_HEIGHT, h_default))
    w0, wi = split_tiles(sch, w, MAX_TILE_WIDTH, tile_w)
    sch.reorder(n, o0, h0, o1, h1, w0, hi, wi, oi, c)
    unroll(sch, hi, wi, oi)
    sch.vectorize(c)
    parallel_rows(sch, n, o0, h0)

    # Step 3. The reduction inside the tile
    sch.compute_at(conv, w0, preserve_unit_loops=True)
    cn, co, ch, *cw, cc, ckh, ckw, ck = own_loops(sch, conv)
    unrolls = powers_of_two_dividing(channels_in, MAX_REDUCTION_UNROLL)
    default = default_unroll(lanes, tile_h * tile_w, vectors, unrolls)
    factor = sch.sample_categorical(unrolls, [1 / len(unrolls)] * len(unrolls), default)
    k0, ki = sch.split(ck, [None, factor])
    if weights_outweigh_image:
        sch.annotate(k0, "prefetch", "weight")
    accumulate_in_registers(sch, conv, [ckh, ckw, k0], [ki, cn, ch, *cw, co], cc)
    zero_halo(sch, by_rows=True)
    return [sch]


def default_tile(lanes: int, height: int, widths: list[int], blocks: int) -> tuple[int, int, int]:
    """Rows, columns and channel vectors of the best tile, of those of ``widths`` columns."""
    return best_gemm_tile(
        RegisterFile(lanes),
        [d for d in divisors(height) if d <= MAX_TILE_HEIGHT],
        widths,
        [d for d in divisors(blocks) if d <= MAX_TILE_VECTORS],
    )


def default_unroll(lanes: int, pixels: int, vectors: int, unrolls: list[int]) -> int:
    """Which of ``unrolls`` steps of the reduction to take at once.

    16 registers hold a tile of few pixels, which a step finds with nearly as many other
    instructions: so a whole vector of input channels, whose places are constants. Where the tile
    fills 32 registers, LLVM spills when it overlaps unrolled steps.
    """
    registers = RegisterFile(lanes)
    free = registers.count - (pixels + 1) * vectors
    most = lanes if registers.count == 16 else 4 if free > 2 else 1
    return unrolls.index(min(most, unrolls[-1]))
