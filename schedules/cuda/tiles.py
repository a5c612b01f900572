"""Tiles of a depthwise convolution's result, with the inputs that each of them meets.

A tile's inputs lie in the image, the same number of rows and columns for every tile: at the image's
edges, where a filter reaches outside, the part that is taken begins further in.
"""

from __future__ import annotations

from dataclasses import dataclass

from schedules.cuda.workload import Convolution
from schedules.primitives import divisors

MAX_ROWS = 256  # pixels that a block keeps in shared memory: 16 tiles of 16


@dataclass(frozen=True)
class Tile:
    """(rows, columns) of the result, and of the inputs that they meet."""

    result: tuple[int, int]
    inputs: tuple[int, int]

    @property
    def pixels(self) -> int:
        return self.result[0] * self.result[1]

    def rows(self, multiple: int) -> int:
        """Input pixels, filled up."""
        return -(-self.inputs[0] * self.inputs[1] // multiple) * multiple

    def count(self, conv: Convolution) -> int:
        return conv.pixels // self.pixels


def tile_of(conv: Convolution, result: tuple[int, int]) -> Tile:
    """The tile of so many (rows, columns) of a depthwise convolution's result."""
    window = conv.window
    height, width = (
        reach(conv.source[1 + axis], conv.result[1 + axis], result[axis], *geometry)
        for axis, geometry in enumerate(
            zip(window.kernel, window.stride, window.padding, strict=True)
        )
    )
    return Tile(result, (height, width))


def reach(size: int, results: int, tile: int, kernel: int, stride: int, before: int) -> int:
    """The most inputs, of ``size``, that ``tile`` of so many results meet along one axis."""
    starts = [first * stride - before for first in range(0, results, tile)]
    length = (tile - 1) * stride + kernel
    return max(min(start + length, size) - max(start, 0) for start in starts)


def tiles_of(conv: Convolution, multiple: int) -> list[Tile]:
    """Those whose inputs a block can keep, filled up to whole tiles of so many pixels."""
    _, height, width, _ = conv.result
    tiles = (tile_of(conv, (h, w)) for h in divisors(height) for w in divisors(width))
    return [tile for tile in tiles if tile.rows(multiple) <= MAX_ROWS]
