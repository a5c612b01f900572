"""Dense convolution of bfloat16 (1x1 and KxK) for NEON, by matrices of 2x2 sums.

A tile of pairs of pixels by pairs of output channels stays in registers over the whole reduction.
A step multiplies four input channels: a pair's are side by side in one register where its pixels
are neighbours. Where they are not, for a stride, it is loaded in two parts.
"""

from __future__ import annotations

from tvm.ir import Expr
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV
from tvm.tirx import Var

from schedules.cpu.padding import copy_padded
from schedules.cpu.pair_matrices import DEPTH, SIDE
from schedules.cpu.pair_products import matrices, words
from schedules.cpu.sharing import even_bands
from schedules.cpu.window_tiles import slope
from schedules.primitives import (
    divisors,
    extent,
    own_loops,
    parallel_rows,
    powers_of_two_dividing,
    tensorize_sums,
    unroll,
    zero_halo,
)

MOST_SUMS = 24  # registers
MAX_VECTORS = 8
MAX_PAIRS = 8
MAX_TILE_HEIGHT = 4
MAX_REDUCTION_UNROLL = 4
LEAST_ROUNDS = 4
FEW_STEPS = 8
BAND_BYTES = 16 * 1024  # inputs of one band stay in L1 beside the weights
BYTES = 2
WORD = "int64"  # of a first convolution's pixel
STEM_BAND = 4  # rows of a first convolution
ROW_LANES = 8  # pixels that it rounds together


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    pads = sch.get_producers(conv)
    (epilogue,) = sch.get_consumers(conv)
    n, o, h, w, c = sch.get_loops(epilogue)
    steps, lanes = extent(sch, sch.get_loops(conv)[-2]), extent(sch, c)
    blocks, height, width = extent(sch, o), extent(sch, h), extent(sch, w)
    inputs = side_by_side(sch, conv)

    # Step 1. The default decision, by the model
    tile = default_tile(
        [d for d in divisors(height) if d <= MAX_TILE_HEIGHT],
        [d for d in divisors(-(-width // SIDE)) if d <= MAX_PAIRS],
        [d for d in divisors(blocks) if d <= MAX_VECTORS],
        lanes,
    )
    row_bytes = width * steps * DEPTH * BYTES
    o_default, h_default = around(tile, blocks, height, row_bytes, stem=bool(pads))
    if not pads and blocks * lanes > height * width:  # the weights outweigh the image
        o_default = [o_default[1], 1, tile[2]]
        h_default = [height // tile[0], 1, tile[0]]

    # Step 2. Channel blocks and bands around the tile
    o0, o1, oi = sch.split(o, sch.sample_perfect_tile(o, 3, MAX_VECTORS, o_default))
    h0, h1, hi = sch.split(h, sch.sample_perfect_tile(h, 3, MAX_TILE_HEIGHT, h_default))
    w1, wp = sch.split(w, [None, SIDE])
    w_default = [-(-width // SIDE) // tile[1], tile[1]]
    w0, wi = sch.split(w1, sch.sample_perfect_tile(w1, 2, MAX_PAIRS, w_default))
    sch.reorder(n, o0, h0, o1, h1, w0, hi, wi, oi, wp, c)
    unroll(sch, hi, wi, oi, wp)
    sch.vectorize(c)
    parallel = parallel_rows(sch, n, o0, h0)
    if steps <= FEW_STEPS:  # LLVM unrolls them, and would keep all their weights for the next tile
        w0 = sch.fuse(o1, h1, w0)

    # Step 3. The reduction inside the tile, in matrices of sums
    sch.compute_at(conv, w0, preserve_unit_loops=True)
    sch.transform_layout(conv, ("write", 0), in_matrices)
    cn, co, ch, cw, cc, ckh, ckw, ck, ci = own_loops(sch, conv)
    cw0, cw1 = sch.split(cw, [None, SIDE])
    cc0, cc1 = sch.split(cc, [None, SIDE])
    # some rounds are left, or LLVM loads the inputs before the loop around, and spills them
    most = max(1, min(MAX_REDUCTION_UNROLL, steps // LEAST_ROUNDS))
    unrolls = powers_of_two_dividing(steps, most)
    factor = sch.sample_categorical(unrolls, [1 / len(unrolls)] * len(unrolls), len(unrolls) - 1)
    k0, k1 = sch.split(ck, [None, factor])
    sch.reorder(ckh, ckw, k0, k1, cn, co, ch, cw0, cc0, cw1, cc1, ci)
    unroll(sch, k1, cn, co, ch, cw0, cc0)
    if inputs is not None:
        sch.compute_at(inputs, k1, preserve_unit_loops=True)
        *copied, channels = own_loops(sch, inputs)
        unroll(sch, *copied)
        sch.vectorize(channels)
    for pad in pads:
        sch.compute_at(pad, parallel, preserve_unit_loops=True)
        copy_padded(sch, pad, ROW_LANES)
    tensorize_sums(sch, conv, ckh, cw1, (words if pads else matrices)())
    zero_halo(sch, by_rows=True)
    return [sch]


def side_by_side(sch: Schedule, conv: SBlockRV) -> SBlockRV | None:
    """Copy the inputs of pixels that a stride keeps apart, pairs together; None where none does."""
    column = sch.get(conv).iter_vars[3].var
    if slope(sch.get(conv), column) == 1:
        return None
    inputs = sch.reindex(conv, ("read", 0))
    at = [dim.min for dim in sch.get(conv).reads[0].region]
    place = next(i for i, one in enumerate(at) if one.same_as(sch.get(conv).iter_vars[3].var))

    # a pixel is a vector of channels, or one number
    end = len(at) if str(sch.get(conv).reads[0].source.dtype) == WORD else len(at) - 1

    def columns_last(*axes: Var) -> list[Var]:
        return [*axes[:place], *axes[place + 1 : end], axes[place], *axes[end:]]

    sch.transform_layout(inputs, ("write", 0), columns_last)
    return inputs


def default_tile(
    heights: list[int], pairs: list[int], blocks: list[int], lanes: int
) -> tuple[int, int, int]:
    """(rows, pairs of columns, channel vectors) with the fewest loads for a product.

    Weights lie side by side, and ``ldp`` loads two registers of them.
    """
    matrices = lanes // SIDE

    def sums(tile: tuple[int, int, int]) -> int:
        return tile[0] * tile[1] * tile[2] * matrices

    def loads(tile: tuple[int, int, int]) -> tuple[float, int]:
        rows, columns, vectors = tile
        return (rows * columns + vectors * matrices / 2) / sums(tile), rows

    tiles = [(rows, columns, one) for rows in heights for columns in pairs for one in blocks]
    return min((tile for tile in tiles if sums(tile) <= MOST_SUMS), key=loads)


def around(
    tile: tuple[int, int, int], blocks: int, height: int, row_bytes: int, *, stem: bool
) -> tuple[list[int], list[int]]:
    """How channels and rows are split, for threads that share bands of rows.

    A band's inputs stay in L1 beside the weights, a first convolution's are rounded before them.
    """
    tile_h, _, vectors = tile
    rows = height // tile_h
    if stem:
        band = max(d for d in divisors(rows) if d * tile_h <= STEM_BAND)
    else:
        band = rows // even_bands(rows, tile_h * row_bytes, BAND_BYTES)
    return [1, blocks // vectors, vectors], [rows // band, band, tile_h]


def in_matrices(n: Var, o: Var, h: Var, w: Var, c: Var) -> tuple[Expr, ...]:
    return (n, o, h, w // SIDE, c // SIDE, w % SIDE, c % SIDE)
