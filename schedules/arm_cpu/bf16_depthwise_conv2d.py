"""Depthwise convolution of bfloat16 for NEON.

A step is two neighbouring pixels of each channel, zipped in a register, against the taps that meet
them: two products an instruction and lane. What the tile's outputs have in common, LLVM loads and
zips once.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.pair_products import PAIR, PAIR_PRODUCTS
from schedules.cpu.window_tiles import slope
from schedules.primitives import (
    divisors,
    extent,
    own_loops,
    parallel_rows,
    sum_dot_products,
    unroll,
    zero_halo,
)

MAX_TILE_WIDTH, MAX_TILE_HEIGHT = 8, 8
MOST_SUMS, MOST_OF_A_ROW = 12, 14  # registers of a tile's sums, of several rows and of one
RESIDENT = 24  # registers of sums and taps, which then stay there from tile to tile


@dataclass(frozen=True)
class PairModel:
    """What tiles cost beside their products: each pair of pixels is loaded and zipped once,
    taps that do not stay are loaded two at a time.

    A place of the image is ``outputs`` neighbours, which read ``pairs`` pairs of a row for each of
    ``kernel_h`` rows; ``stride`` is of rows. ``shared``: the next place begins with this one's
    second pair.
    """

    outputs: int
    kernel_h: int
    pairs: int
    stride: int
    shared: bool

    def best(self, heights: list[int], widths: list[int]) -> tuple[int, int]:
        """(rows, places), of those, with the fewest instructions for an output."""
        fitting = [
            (rows, places)
            for rows in heights
            for places in widths
            if rows <= MAX_TILE_HEIGHT and places <= MAX_TILE_WIDTH
            if rows * places * self.outputs <= (MOST_SUMS if rows > 1 else MOST_OF_A_ROW)
        ]
        return min(fitting, key=self.cost, default=(1, 1))

    def cost(self, tile: tuple[int, int]) -> float:
        rows, places = tile
        row = places - 1 + self.pairs if self.shared else places * self.pairs
        inputs = ((rows - 1) * self.stride + self.kernel_h) * row
        sums, taps = rows * places * self.outputs, self.kernel_h * self.outputs * self.pairs
        resident = rows > 1 and sums + taps <= RESIDENT
        return (2 * inputs + (0 if resident else taps / 2)) / sums


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    (epilogue,) = sch.get_consumers(conv)
    n, o, h, w, neighbours, c = sch.get_loops(epilogue)
    height, groups, outputs = extent(sch, h), extent(sch, w), extent(sch, neighbours)

    # Step 1. The default decision, by the model
    block = sch.get(conv)
    taps = block.reads[1].source.shape
    model = PairModel(
        outputs,
        kernel_h=int(taps[1]),
        pairs=int(taps[3]),
        stride=slope(block, block.iter_vars[2].var),
        shared=slope(block, block.iter_vars[3].var) == PAIR,
    )
    tile_h, tile_w = model.best(divisors(height), divisors(groups))
    h_default, w_default = [height // tile_h, tile_h], [groups // tile_w, tile_w]
    h0, hi = sch.split(h, sch.sample_perfect_tile(h, 2, MAX_TILE_HEIGHT, h_default))
    w0, wi = sch.split(w, sch.sample_perfect_tile(w, 2, MAX_TILE_WIDTH, w_default))
    sch.reorder(n, o, h0, w0, hi, wi, neighbours, c)
    unroll(sch, hi, wi, neighbours)
    sch.vectorize(c)
    parallel_rows(sch, n, o, h0, kept=True)

    # Step 2. All taps of the tile
    sch.compute_at(conv, w0, preserve_unit_loops=True)
    cn, co, ch, cw, cp, cc, ckh, ck, ci = own_loops(sch, conv)
    intrinsic = PAIR_PRODUCTS.pixels(extent(sch, c))
    sum_dot_products(sch, conv, [ckh, ck], [cn, co, ch, cw, cp], (cc, ci), intrinsic)
    unroll(sch, ckh, ck)
    zero_halo(sch, by_rows=True)
    return [sch]
