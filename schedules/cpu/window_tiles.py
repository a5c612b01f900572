"""Depthwise convolution over blocked activations, for any CPU with vectors of the block's size.

A tile of rows x columns outputs of one channel vector stays in registers; its inputs are loaded
once for all the taps that meet them, and the taps stay in registers where they fit. The input
comes with its halo, so the loop has no branch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tvm.ir import TensorRegion
from tvm.s_tir import SBlock, Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV
from tvm.sym import detect_linear_equation
from tvm.tirx import Var

from schedules.cpu.image_tiles import rows_and_columns, split_tiles
from schedules.primitives import (
    accumulate_in_registers,
    fuse_parallel,
    own_loops,
    parallel_rows,
    unroll,
    zero_halo,
)

MAX_TILE_WIDTH = 16
MAX_TILE_HEIGHT = 8


def schedule_window(
    sch: Schedule, conv: SBlockRV, tile_h: int, tile_w: int, *, by_rows: bool = False
) -> list[Schedule]:
    """Schedule the whole function; the tile is the default decision.

    Threads share it by rows, or by channel blocks.
    """
    (epilogue,) = sch.get_consumers(conv)
    n, o, h0, w0 = tile_window(sch, epilogue, tile_h, tile_w)
    if by_rows:  # a late thread waits for lines, and would for those that another took from it
        parallel_rows(sch, n, o, h0, kept=True)
    else:
        fuse_parallel(sch, n, o, h0)
    sum_window(sch, conv, w0)
    zero_halo(sch, by_rows=by_rows)
    return [sch]


def tile_window(
    sch: Schedule, epilogue: SBlockRV, tile_h: int, tile_w: int
) -> tuple[LoopRV, LoopRV, LoopRV, LoopRV]:
    """Tile the outputs; the loops around a tile: image, channel block, row and column of tiles."""
    n, o, *image, c = own_loops(sch, epilogue)
    rows, columns = rows_and_columns(image)
    h0, hi = split_tiles(sch, rows, MAX_TILE_HEIGHT, tile_h)
    w0, wi = split_tiles(sch, columns, MAX_TILE_WIDTH, tile_w)
    sch.reorder(n, o, h0, w0, hi, wi, c)
    unroll(sch, hi, wi)
    sch.vectorize(c)
    return n, o, h0, w0


def sum_window(sch: Schedule, conv: SBlockRV, tile: LoopRV) -> None:
    """All taps of a tile in registers, unrolled."""
    sch.compute_at(conv, tile, preserve_unit_loops=True)
    cn, co, *image, cc, ckh, ckw = own_loops(sch, conv)
    accumulate_in_registers(sch, conv, [ckh, ckw], [cn, co, *image], cc)
    unroll(sch, ckh, ckw)


@dataclass(frozen=True)
class WindowModel:
    """What tiles of a filter's outputs cost in loads, on a core of so many vector registers.

    ``suits(rows, columns, tiles)`` says which tiles are taken at all, with the number of them in a
    row. The tile's inputs are loaded once and used by every tap that meets them. Where accumulators
    and taps fit the registers together the taps stay there over the whole row of tiles.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    registers: int
    suits: Callable[[int, int, int], bool]

    def loads_per_output(self, tile: tuple[int, int]) -> float:
        rows, columns = tile
        (kernel_h, kernel_w), (stride_h, stride_w) = self.kernel, self.stride
        taps = kernel_h * kernel_w
        inputs = ((rows - 1) * stride_h + kernel_h) * ((columns - 1) * stride_w + kernel_w)
        resident = rows * columns + taps < self.registers
        return (inputs + (0 if resident else taps)) / (rows * columns)

    def best(self, heights: Iterable[int], widths: Sequence[int], width: int) -> tuple[int, int]:
        """(rows, columns), of those, with the fewest loads per output of rows of ``width``."""
        fitting = [
            (rows, columns)
            for rows in heights
            for columns in widths
            if rows <= MAX_TILE_HEIGHT and columns <= MAX_TILE_WIDTH
            if rows * columns <= self.registers // 2
            and self.suits(rows, columns, -(-width // columns))
        ]
        return min(fitting, key=self.loads_per_output, default=(1, 1))


def strides(sch: Schedule, conv: SBlockRV) -> tuple[int, int]:
    """The convolution's stride: how far the input's row and column move per output's."""
    block = sch.get(conv)
    _, _, *image, _, _, _ = (axis.var for axis in block.iter_vars)
    rows, columns = rows_and_columns(image)
    return slope(block, rows[-1]), slope(block, columns[-1])


def slope(block: SBlock, var: Var) -> int:
    """How far a convolution's input moves per step of ``var``, one of its loops over the image."""
    return next(factor for factor in factors(block.reads[0], var) if factor != 0)


def row_dimension(region: TensorRegion, row: Var) -> int:
    """Which dimension of a blocked image its rows are, 1 or 2; ``row`` is the loop over them."""
    return next(place for place, factor in enumerate(factors(region, row)) if factor != 0)


def factors(region: TensorRegion, var: Var) -> list[int]:
    """How far each dimension's first index moves per step of ``var``."""
    return [int(detect_linear_equation(dim.min, [var])[0]) for dim in region.region]
