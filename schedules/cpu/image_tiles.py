"""The rows and columns of an image, which a kernel has as one loop each or as tiles that overlap.

Where no good tile divides an image the kernel itself has the tiles (kernels/cpu/overlap.py): a loop
over them and one inside each, for the columns, for rows and columns, or for all pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV

from schedules.primitives import divisors, extent

TILES_AND_INSIDE = 2  # loops of what is in tiles
IN_TILES = 4  # loops of an image of which rows and columns are
RUN = "run"  # marks the block of a convolution over runs of pixels


@dataclass(frozen=True)
class ImageOutput:
    """What a convolution computes: an image, in ``blocks`` vectors of channels, and from what.

    An output is a sum over ``depth`` channels; ``stem``: of an image that is not in vectors.
    """

    height: int
    width: int
    lanes: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    depthwise: bool
    blocks: int
    depth: int
    stem: bool = False


@dataclass(frozen=True)
class PixelRun:
    """A tile of so many pixels one after another, row after row; ``count`` of them cover the image.

    The kernel then has the tiles in place of rows, and a tile's pixels in place of columns.
    """

    pixels: int
    count: int


# Rows and columns, rows None where they are no tiles; or a run of pixels.
Tile: TypeAlias = tuple[int | None, int] | PixelRun
# The tile of those that overlap; None where tiles that divide the image do.
OverlappingTile: TypeAlias = Callable[[ImageOutput], Tile | None]


def covered(length: int, size: int) -> int:
    """Rows or columns that tiles of a size compute, of so many."""
    return -(-length // size) * size


def rows_and_columns(loops: Sequence[LoopRV]) -> tuple[Sequence[LoopRV], Sequence[LoopRV]]:
    """The loops over an image, apart: of its rows and of its columns."""
    rows = 2 if len(loops) == IN_TILES else 1
    return loops[:rows], loops[rows:]


def length(sch: Schedule, loops: Sequence[LoopRV]) -> int:
    """How many rows or columns are computed."""
    return math.prod(extent(sch, loop) for loop in loops)


def tile_lengths(sch: Schedule, loops: Sequence[LoopRV], most: int) -> list[int]:
    """The rows or columns that a tile may have."""
    if len(loops) == TILES_AND_INSIDE:
        return [extent(sch, loops[-1])]
    return [d for d in divisors(extent(sch, loops[0])) if d <= most]


def split_tiles(
    sch: Schedule, loops: Sequence[LoopRV], most: int, default: int
) -> tuple[LoopRV, LoopRV]:
    """The loops over tiles and inside one, by default of ``default`` rows or columns."""
    if len(loops) == TILES_AND_INSIDE:
        return loops[0], loops[1]
    (loop,) = loops
    tiles = extent(sch, loop) // default
    outer, inner = sch.split(loop, sch.sample_perfect_tile(loop, 2, most, [tiles, default]))
    return outer, inner
