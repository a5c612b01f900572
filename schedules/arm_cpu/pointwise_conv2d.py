"""Dense convolution over blocked activations (1x1 and KxK) for NEON, by-element FMAs.

A tile of rows x columns pixels by ``vectors`` channel vectors stays in registers over the whole
reduction, or over a part of it (parts.py). A step loads four k of every pixel as one vector, eight
of float16, which the blocked layout holds side by side, and multiplies by its lanes: a fourth of
the loads that broadcasting single inputs would take.
A thread's part is some channel panels by some rows, and starts with a copy of its inputs in the
order of use. Where the weights outweigh the image (14x14 and 7x7) the threads share the panels, so
that each reads its weights as few times as the caches allow; elsewhere they share the rows.
"""

from __future__ import annotations

from tvm.ir import Expr
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV
from tvm.tirx import Var

from schedules.arm_cpu.by_element import accumulate_by_element
from schedules.arm_cpu.cores import (
    HALF_LANES,
    REGISTER_BYTES,
    best_gemm_tile,
    current_core,
)
from schedules.arm_cpu.parts import ends_of, item_bytes, lanes_of, start_total, sum_at
from schedules.cpu.image_tiles import RUN, length, split_tiles, tile_lengths
from schedules.cpu.sharing import num_cores
from schedules.cpu.window_tiles import row_dimension
from schedules.primitives import (
    divisors,
    extent,
    own_loops,
    powers_of_two_dividing,
    unroll,
    zero_halo,
)

MAX_TILE_WIDTH = 16
MAX_TILE_HEIGHT = 4
MAX_TILE_VECTORS = 8
LDP_REACH = 1024  # bytes from a base that a pair of 16-byte loads can name
PACKED_PLANES = 2  # copied between two branches
# Steps of float16 between two branches, by the pixels of a tile: with more LLVM loads inputs early,
# and spills those that have to be in the lower registers. For 1, 2 and 4 pixels it does not.
HALF_PLANES = {3: 1, 5: 1, 7: 2, 8: 2}


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    epilogue, total = ends_of(sch, conv)
    core = current_core()
    n, o, h, *w, c = sch.get_loops(epilogue)
    channels_in, channels = channels_read(sch, conv), extent(sch, o) * extent(sch, c)
    blocks, height, width = extent(sch, o), extent(sch, h), length(sch, w)

    # Step 1. The default decision, by the model
    widths = tile_lengths(sch, w, MAX_TILE_WIDTH)
    tile_h, tile_w, vectors = default_tile(sch, conv, height, widths, blocks)
    panels, rows = blocks // vectors, height // tile_h
    row_bytes = tile_h * width * channels_in * item_bytes(sch, conv)
    if channels > height * width:
        parts = max(d for d in divisors(panels) if d <= num_cores())
        weights_stay = channels * channels_in * item_bytes(sch, conv) <= core.l2_bytes
        band_bytes = core.l2_bytes // (2 * parts) if weights_stay else rows * row_bytes
    else:
        parts, band_bytes = 1, core.l1_bytes // 2
    band = band_rows(rows, -(-num_cores() // parts), row_bytes, band_bytes)
    o_default = [parts, panels // parts, vectors]
    h_default = [rows // band, band, tile_h]

    # Step 2. Panels and bands around the tile
    o0, o1, oi = sch.split(o, sch.sample_perfect_tile(o, 3, MAX_TILE_VECTORS, o_default))
    h0, h1, hi = sch.split(h, sch.sample_perfect_tile(h, 3, MAX_TILE_HEIGHT, h_default))
    w0, wi = split_tiles(sch, w, MAX_TILE_WIDTH, tile_w)
    sch.reorder(n, o0, h0, o1, h1, w0, oi, hi, wi, c)
    unroll(sch, oi, hi, wi)
    sch.vectorize(c)
    part = sch.fuse(n, o0, h0)
    sch.parallel(part)
    sum_at(sch, conv, total, w0)

    # Step 3. The inputs of a part's tiles, each tile's side by side; those that overlap share some
    if len(w) == 1 and reads_one_pixel(sch, conv):
        packed = sch.cache_read(conv, 0, "global")
        sch.compute_at(packed, part, preserve_unit_loops=True)
        pack_tiles(sch, packed, extent(sch, hi), extent(sch, wi), image_rows(sch, conv))

    # Step 4. The reduction inside the tile, in steps of one input vector
    reduce_in_tile(sch, conv, tile_h * tile_w, vectors)
    start_total(sch, total)
    zero_halo(sch)
    return [sch]


def default_tile(
    sch: Schedule, conv: SBlockRV, height: int, widths: list[int], blocks: int
) -> tuple[int, int, int]:
    """Rows, columns and channel vectors of the best tile, of those of ``widths`` columns."""
    return best_gemm_tile(
        current_core(),
        [d for d in divisors(height) if d <= MAX_TILE_HEIGHT],
        widths,
        [d for d in divisors(blocks) if d <= MAX_TILE_VECTORS],
        panel=int(sch.get(conv).reads[1].source.shape[-2]),
        lanes=lanes_of(sch, conv),
    )


def channels_read(sch: Schedule, conv: SBlockRV) -> int:
    """All input channels of a group."""
    return int(sch.get(conv).reads[1].source.shape[3])


def reduce_in_tile(sch: Schedule, conv: SBlockRV, pixels: int, vectors: int) -> None:
    """The whole reduction in registers, for a tile of about this many pixels and vectors."""
    cn, co, ch, *cw, cc, ckh, ckw, ck = own_loops(sch, conv)
    channels_in = extent(sch, ck)
    lanes = powers_of_two_dividing(channels_in, lanes_of(sch, conv))[-1]
    most = max_planes(pixels, vectors, channels_in, lanes_of(sch, conv))
    planes = powers_of_two_dividing(channels_in // lanes, most)
    factor = sch.sample_categorical(planes, [1 / len(planes)] * len(planes), len(planes) - 1)
    k0, k1, ki = sch.split(ck, [None, factor, lanes])
    accumulate_by_element(sch, conv, [ckh, ckw, k0, k1], [ki, co, cn, ch, *cw], cc)
    unroll(sch, k1)


def max_planes(pixels: int, vectors: int, channels_in: int, lanes: int) -> int:
    """Steps of ``lanes`` k between two branches: the inputs of all have one base, weights another.

    At least two rounds are left, or LLVM takes the weights for constants of the loop around, loads
    them all before it, and spills them. Of float16, some tiles take fewer steps (HALF_PLANES).
    """
    step_bytes = REGISTER_BYTES * max(pixels, lanes * vectors)
    most = min(LDP_REACH // step_bytes, channels_in // lanes // 2)
    if lanes == HALF_LANES:
        most = min(most, HALF_PLANES.get(pixels, most))
    return max(1, most)


def reads_one_pixel(sch: Schedule, conv: SBlockRV) -> bool:
    """Whether output pixel (h, w) reads input pixel (h, w) and no other: 1x1, stride 1, no halo."""
    block = sch.get(conv)
    if RUN in block.annotations:  # whose loops go over runs of pixels
        return False
    _, _, row, column, _, kernel_h, kernel_w, _ = (int(axis.dom.extent) for axis in block.iter_vars)
    shape = [int(dim) for dim in block.reads[0].source.shape]
    height, width = shape[image_rows(sch, conv)], shape[3]
    return kernel_h == kernel_w == 1 and (row, column) == (height, width)


def image_rows(sch: Schedule, conv: SBlockRV) -> int:
    """Which dimension of its input are the rows."""
    block = sch.get(conv)
    return row_dimension(block.reads[0], block.iter_vars[2].var)


def pack_tiles(sch: Schedule, packed: SBlockRV, tile_h: int, tile_w: int, rows: int) -> None:
    """Lay the copied inputs of a tile in the order in which its reduction meets them.

    As they come, each step's inputs are an image plane apart: too far for ldp's offset, and in a
    new page and often the same cache set each time. The copy is read by every panel of channels.
    """
    n, *planes, w, c = sch.get_loops(packed)[-5:]
    h, k = planes[rows - 1], planes[2 - rows]
    h0, hi = sch.split(h, [None, tile_h])
    w0, wi = sch.split(w, [None, tile_w])
    k0, ki = sch.split(k, [None, powers_of_two_dividing(extent(sch, k), PACKED_PLANES)[-1]])
    sch.reorder(n, h0, w0, k0, ki, hi, wi, c)
    unroll(sch, ki, hi, wi)
    sch.vectorize(c)
    lay_in_tiles(sch, packed, tile_h, tile_w, rows)


def lay_in_tiles(sch: Schedule, written: SBlockRV, tile_h: int, tile_w: int, rows: int) -> None:
    """Let what the block writes lie tile by tile, in one all channels of its pixels.

    ``rows`` is the dimension that they have in the layout before.
    """

    def tiled(n: Var, first: Var, second: Var, w: Var, c: Var) -> tuple[Expr, ...]:
        h, k = (first, second) if rows == 1 else (second, first)
        return (n, h // tile_h, w // tile_w, k, h % tile_h, w % tile_w, c)

    sch.transform_layout(written, ("write", 0), tiled)


def band_rows(rows: int, least_bands: int, row_bytes: int, band_bytes: int) -> int:
    """The most tile rows, of a count that divides ``rows``, whose inputs fit ``band_bytes``.

    At least ``least_bands`` bands are left, where there are so many rows: one for every thread.
    """
    return max(
        d
        for d in divisors(rows)
        if d == 1 or (d * row_bytes <= band_bytes and rows // d >= least_bands)
    )
