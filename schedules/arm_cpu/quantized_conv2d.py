"""Dense convolution of bytes (1x1 and KxK) for NEON.

As pointwise_conv2d.py: a tile of pixels by registers of four channels stays in registers over the
whole reduction. A step loads up to 16 channels of every pixel, of which each dot product names a
lane of four.
"""

from __future__ import annotations

from tvm.ir import Expr
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV
from tvm.tirx import Var

from schedules.arm_cpu.byte_tiles import (
    FOUR,
    default_channels,
    default_tile,
    keeps_order,
    sum_by_element,
)
from schedules.arm_cpu.cores import SPARE, current_core
from schedules.cpu import dot_products, register_products
from schedules.cpu.sharing import even_bands
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

BYTES = 4
PAIR = 2  # pixels, or channels, of a matrix
MOST_SUMS = 16  # registers of matrices, beside which there is room for a load of each operand
LONGEST_ROW = 7  # pairs of pixels, which two loops sum (compiler/cpu/divided_sums.py)
MAX_VECTORS = 4
IN_PARTS = 6  # dimensions of sums that share a register of products
MAX_TILE_WIDTH = 16
MAX_TILE_HEIGHT = 4
MAX_REDUCTION_UNROLL = 4  # of whole registers of input channels
MAX_MATRIX_UNROLL = 16  # of matrices of them
FEW_STEPS = 8  # of matrices: LLVM unrolls them, and begins with what one load has of four pairs
FEW_ROUNDS = 2  # of those at once, where LLVM moves loads
MANY_REGISTERS = 32  # with 16 LLVM would have the products of two steps at once, and spill the sums
BAND_BYTES = 16 * 1024  # inputs of one band stay in L1 beside the weights


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    if extent(sch, sch.get_loops(conv)[-1]) == register_products.MATRIX_DEPTH:
        return schedule_matrices(sch, conv)
    if len(sch.get(conv).writes[0].region) == IN_PARTS:
        return schedule_parts(sch, conv)
    (epilogue,) = sch.get_consumers(conv)
    n, o, h, w, c = sch.get_loops(epilogue)
    steps = extent(sch, sch.get_loops(conv)[-2])
    lanes = extent(sch, c)
    blocks, height, width = extent(sch, o), extent(sch, h), extent(sch, w)

    # Step 1. The default decision, by the model
    widths = [d for d in divisors(width) if d <= MAX_TILE_WIDTH]
    heights = [d for d in divisors(height) if d <= MAX_TILE_HEIGHT]
    tile_h, tile_w, channels = default_tile(heights, widths, lanes)
    rows = height // tile_h
    weights_outweigh_image = blocks * lanes > height * width
    if weights_outweigh_image:
        bands, o_default = rows, [blocks, 1]
    else:
        bands = even_bands(rows, tile_h * width * steps * BYTES, BAND_BYTES)
        o_default = [1, blocks]
    h_default = [bands, rows // bands, tile_h]

    # Step 2. Channel blocks and bands around the tile
    o0, o1 = sch.split(o, sch.sample_perfect_tile(o, 2, blocks, o_default))
    h0, h1, hi = sch.split(h, sch.sample_perfect_tile(h, 3, MAX_TILE_HEIGHT, h_default))
    w_default = [width // tile_w, tile_w]
    w0, wi = sch.split(w, sch.sample_perfect_tile(w, 2, MAX_TILE_WIDTH, w_default))
    c0, ci = sch.split(c, [None, default_channels(sch, lanes, channels)])
    sch.reorder(n, o0, h0, o1, h1, w0, c0, hi, wi, ci)
    unroll(sch, hi, wi)
    sch.vectorize(ci)
    parallel_rows(sch, n, o0, h0)

    # Step 3. The reduction inside the tile
    sch.compute_at(conv, c0, preserve_unit_loops=True)
    cn, co, ch, cw, cc, ckh, ckw, ck, cb = own_loops(sch, conv)
    register = powers_of_two_dividing(steps, BYTES)[-1]
    rounds = steps // register
    most = most_rounds(rounds, MAX_REDUCTION_UNROLL if keeps_order() else FEW_ROUNDS)
    unrolls = powers_of_two_dividing(rounds, most)
    factor = sch.sample_categorical(unrolls, [1 / len(unrolls)] * len(unrolls), len(unrolls) - 1)
    k0, k1, ki = sch.split(ck, [None, factor, register])
    sum_by_element(sch, conv, [ckh, ckw, k0, k1], [ki, cn, co, ch, cw], (cc, cb))
    unroll(sch, k1)
    zero_halo(sch, by_rows=True)
    return [sch]


def most_rounds(rounds: int, most: int) -> int:
    """How many rounds of a reduction between two branches, ``most`` at most.

    More rounds than these are left, or LLVM loads the inputs before the loop around, and spills.
    """
    return max(1, min(FEW_ROUNDS, rounds // 2), min(most, rounds // 4))


def schedule_matrices(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    """Products of two pixels by two output channels a step.

    The last pair of an odd row is summed as any other; of its second pixel nothing is made.
    """
    (epilogue,) = sch.get_consumers(conv)
    n, o, h, w, c = sch.get_loops(epilogue)
    steps = extent(sch, sch.get_loops(conv)[-2])
    lanes = extent(sch, c)
    blocks, height, width = extent(sch, o), extent(sch, h), extent(sch, w)

    # Step 1. The default decision, by the model
    heights = [d for d in divisors(height) if d <= MAX_TILE_HEIGHT]
    columns = -(-width // PAIR)
    most = FOUR if steps > FEW_STEPS else 2
    tile_h, pairs, vectors = matrix_tile(heights, divisors(columns), divisors(blocks), lanes, most)
    weights_outweigh_image = blocks * lanes > height * width
    panels, rows = blocks // vectors, height // tile_h
    if weights_outweigh_image:
        bands, o_default = rows, [panels, 1, vectors]
    else:
        row_bytes = tile_h * width * steps * register_products.MATRIX_DEPTH
        bands = even_bands(rows, row_bytes, BAND_BYTES)
        o_default = [1, panels, vectors]
    h_default = [bands, rows // bands, tile_h]

    # Step 2. Channel blocks and bands around the tile
    o0, o1, oi = sch.split(o, sch.sample_perfect_tile(o, 3, MAX_VECTORS, o_default))
    h0, h1, hi = sch.split(h, sch.sample_perfect_tile(h, 3, MAX_TILE_HEIGHT, h_default))
    w1, wp = sch.split(w, [None, PAIR])
    w_default = [columns // pairs, pairs]
    w0, wi = sch.split(w1, sch.sample_perfect_tile(w1, 2, MAX_TILE_WIDTH // PAIR, w_default))
    sch.reorder(n, o0, h0, o1, h1, w0, hi, wi, wp, oi, c)
    unroll(sch, hi, wi, wp, oi)
    sch.vectorize(c)
    parallel_rows(sch, n, o0, h0)

    # Step 3. The reduction inside the tile, in matrices of sums
    sch.compute_at(conv, w0, preserve_unit_loops=True)
    sch.transform_layout(conv, ("write", 0), in_matrices)
    cn, co, ch, cw, cc, ckh, ckw, ck, ci = own_loops(sch, conv)
    cw0, cw1 = sch.split(cw, [None, PAIR])
    cc0, cc1 = sch.split(cc, [None, PAIR])
    # four rounds of a long reduction are left, or LLVM begins with the next one's loads
    most = max(1, min(MAX_MATRIX_UNROLL // 2, steps // 2), min(MAX_MATRIX_UNROLL, steps // 4))
    unrolls = powers_of_two_dividing(steps, most)
    factor = sch.sample_categorical(unrolls, [1 / len(unrolls)] * len(unrolls), len(unrolls) - 1)
    k0, k1 = sch.split(ck, [None, factor])
    sch.reorder(ckh, ckw, k0, k1, cn, co, ch, cw0, cc0, cw1, cc1, ci)
    unroll(sch, k1, cn, co, ch, cw0, cc0)
    tensorize_sums(sch, conv, ckh, cw1, dot_products.matrices())
    zero_halo(sch, by_rows=True)
    return [sch]


def schedule_parts(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    """Products of a register of input channels, for one output channel a step."""
    (folded,) = sch.get_consumers(conv)
    (epilogue,) = sch.get_consumers(folded)
    n, o, h, w, c = sch.get_loops(epilogue)
    steps = extent(sch, sch.get_loops(conv)[-4])
    lanes = extent(sch, c)
    blocks, height, width = extent(sch, o), extent(sch, h), extent(sch, w)

    # Step 1. The default decision, by the model
    heights = [d for d in divisors(height) if d <= MAX_TILE_HEIGHT]
    marks = sch.get(conv).annotations
    in_words = int(marks.get(register_products.IN_WORDS, 1))
    tile_h, tile_w, together = parts_tile(heights, divisors(width), in_words)
    rows = height // tile_h
    weights_outweigh_image = blocks * lanes > height * width
    if weights_outweigh_image:
        bands, o_default = rows, [blocks, 1]
    else:
        row_bytes = tile_h * width * steps * register_products.REGISTER
        bands = even_bands(rows, row_bytes, BAND_BYTES)
        o_default = [1, blocks]
    h_default = [bands, rows // bands, tile_h]

    # Step 2. Channels and bands around the tile
    o0, o1 = sch.split(o, sch.sample_perfect_tile(o, 2, blocks, o_default))
    h0, h1, hi = sch.split(h, sch.sample_perfect_tile(h, 3, MAX_TILE_HEIGHT, h_default))
    w_default = [width // tile_w, tile_w]
    w0, wi = sch.split(w, sch.sample_perfect_tile(w, 2, MAX_TILE_WIDTH, w_default))
    c0, ci = sch.split(c, [None, register_products.PARTS])
    sch.reorder(n, o0, h0, o1, h1, w0, c0, hi, wi, ci)
    unroll(sch, hi, wi)
    sch.vectorize(ci)
    parallel_rows(sch, n, o0, h0)

    # Step 3. The sums, and before them the products
    sch.compute_at(folded, c0, preserve_unit_loops=True)
    *outer, lane = own_loops(sch, folded)
    unroll(sch, *outer)
    sch.compute_at(conv, c0, preserve_unit_loops=True)
    cn, co, ch, cw, cc, ckh, ckw, ck, cq, ci, cj = own_loops(sch, conv)
    most = max(in_words, most_rounds(steps, MAX_REDUCTION_UNROLL))
    if register_products.IN_ORDER in marks or current_core().registers < MANY_REGISTERS:
        most = in_words  # of more steps LLVM would look up all places at first, and spill
    unrolls = powers_of_two_dividing(steps, most)
    factor = sch.sample_categorical(unrolls, [1 / len(unrolls)] * len(unrolls), len(unrolls) - 1)
    k0, k1 = sch.split(ck, [None, factor])
    c_default = [register_products.PARTS // together, together]
    cc0, cc1 = sch.split(cc, sch.sample_perfect_tile(cc, 2, register_products.PARTS, c_default))
    sch.reorder(cc0, ckh, ckw, k0, k1, cn, co, ch, cw, cc1, cq, ci, cj)
    unroll(sch, cc0, k1, cn, co, ch, cw, cc1)
    tensorize_sums(sch, conv, ckh, cq, dot_products.parts())
    sch.tensorize(lane, dot_products.folds())
    zero_halo(sch, by_rows=True)
    return [sch]


def parts_tile(heights: list[int], widths: list[int], in_words: int = 1) -> tuple[int, int, int]:
    """(rows, columns, channels) with the fewest loads for a product that needs no spilling.

    Where more steps are summed ``in_words``, two of them read their pixels at the same time.
    """

    def registers(tile: tuple[int, int, int]) -> int:
        rows, columns, channels = tile
        read = channels if in_words == 1 else rows * columns + 1
        return rows * columns * channels + rows * columns + read

    def loads(tile: tuple[int, int, int]) -> tuple[float, int]:
        rows, columns, channels = tile
        weights = channels / (FOUR if channels % FOUR == 0 else 2)
        inputs = rows * (columns // 2 + columns % 2)
        return (inputs + weights) / (rows * columns * channels), rows

    tiles = [
        (rows, columns, channels)
        for rows in heights
        for columns in widths
        for channels in divisors(register_products.PARTS)
    ]
    room = current_core().registers - SPARE
    return min((tile for tile in tiles if registers(tile) <= room), key=loads)


def matrix_tile(
    heights: list[int], pairs: list[int], blocks: list[int], lanes: int, most: int = FOUR
) -> tuple[int, int, int]:
    """(rows, pairs of columns, channel vectors) with the fewest loads for a product.

    A load of weights has FOUR matrices, one of neighbouring pairs ``most`` of them. A row of more
    than MOST_SUMS is summed in parts, of which each loads the weights.
    """
    matrices = lanes // PAIR

    def sums(tile: tuple[int, int, int]) -> int:
        return tile[0] * tile[1] * tile[2] * matrices

    def fits(tile: tuple[int, int, int]) -> bool:
        rows, columns, vectors = tile
        in_parts = rows == vectors == 1 and columns <= LONGEST_ROW and most == FOUR
        return sums(tile) <= MOST_SUMS or in_parts

    def loads(tile: tuple[int, int, int]) -> tuple[float, int, int]:
        rows, columns, vectors = tile
        weights = vectors * matrices / (FOUR if vectors * matrices % FOUR == 0 else 2)
        each = (rows * -(-columns // most) + parts_of(sums(tile)) * weights) / sums(tile)
        return round(each, 3), rows, -sums(tile)

    tiles = [(rows, columns, some) for rows in heights for columns in pairs for some in blocks]
    return min(filter(fits, tiles), key=loads)


def parts_of(sums: int) -> int:
    """How many loops sum so many registers of matrices."""
    return -(-sums // MOST_SUMS)


def in_matrices(n: Var, o: Var, h: Var, w: Var, c: Var) -> tuple[Expr, ...]:
    return (n, o, h, w // PAIR, c // PAIR, w % PAIR, c % PAIR)
