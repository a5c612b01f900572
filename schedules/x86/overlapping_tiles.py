"""Which tiles cover an image that none divides, for AVX2 and AVX-512."""

from __future__ import annotations

from schedules.cpu.image_tiles import ImageOutput, covered
from schedules.cpu.window_tiles import MAX_TILE_HEIGHT, MAX_TILE_WIDTH
from schedules.primitives import divisors
from schedules.x86.registers import SHORT_ROW, RegisterFile, least_loads_tile, loads_per_output

AVX512_LANES = 16
GAIN = 0.9  # of the loads of the best tile that divides the image; the last tiles do work twice
SPARED = 1.03  # the columns that a dense row computes, of those it has, for the sake of wide tiles


def overlapping_tile(output: ImageOutput) -> tuple[int | None, int] | None:
    """Rows and columns of the tiles; rows None where they are no tiles.

    None where tiles that divide the image do as well.
    """
    return depthwise_tile(output) if output.depthwise else dense_tile(output)


def dense_tile(output: ImageOutput) -> tuple[None, int] | None:
    """One row, whose inputs lie side by side: several short ones come from memory more slowly.

    A tile has as many columns as fit the registers with two vectors of channels. Up to twice as
    many fit with one, which is nearly as good where they divide the row.
    """
    least, most = (6, 14) if output.lanes == AVX512_LANES else (4, 6)
    width = output.width
    if width < least or any(width % size == 0 for size in range(least, 2 * most + 2)):
        return None
    sizes = range(least, most + 1)
    spared = [size for size in sizes if covered(width, size) <= SPARED * width]
    return None, max(spared, default=min(sizes, key=lambda size: covered(width, size)))


def depthwise_tile(output: ImageOutput) -> tuple[int, int] | None:
    """The tile with the fewest loads. 16 registers hold no tile in which rows share inputs."""
    if output.lanes < AVX512_LANES or output.width <= SHORT_ROW:
        return None
    registers = RegisterFile(output.lanes)

    def best(heights: list[int], widths: list[int]) -> tuple[int, int]:
        return least_loads_tile(registers, output.kernel, output.stride, heights, widths)

    def loads(tile: tuple[int, int]) -> float:
        rows, columns = tile
        again = covered(output.height, rows) * covered(output.width, columns)
        return (
            loads_per_output(tile, output.kernel, output.stride)
            * again
            / (output.height * output.width)
        )

    heights = [d for d in divisors(output.height) if d <= MAX_TILE_HEIGHT]
    widths = [d for d in divisors(output.width) if d <= MAX_TILE_WIDTH]
    dividing = best(heights, widths)
    others = [
        best([rows], [columns])
        for rows in range(1, min(MAX_TILE_HEIGHT, output.height) + 1)
        for columns in range(1, min(MAX_TILE_WIDTH - 1, output.width) + 1)
    ]
    overlapping = min(others, key=loads)
    return overlapping if loads(overlapping) < GAIN * loads(dividing) else None
