"""Which tiles cover an image that none divides, or none that is as good, for AVX2 and AVX-512."""

from __future__ import annotations

import itertools

from schedules.cpu.image_tiles import ImageOutput, PixelRun, Tile, covered
from schedules.cpu.window_tiles import MAX_TILE_HEIGHT, MAX_TILE_WIDTH
from schedules.primitives import divisors
from schedules.x86 import pointwise_conv2d
from schedules.x86.registers import (
    SHORT_ROW,
    RegisterFile,
    best_gemm_tile,
    current_core,
    gemm_cycles,
    least_loads_tile,
    loads_per_output,
)

AVX512_LANES = 16
# what tiles in 16 registers cost beyond the model, measured on Zen 4: five pixels by two vectors or
# four by two reached 92 % of the core's peak, six by two 97 %, and 14 by one, whose loads take the
# time, 3 % less than loads alone would; to find the pixels of a run, whose rows lie apart, took 8 %
# of the time of one with 32 input channels
FEW_SUMS, OF_FEW_SUMS = 12, 1.06
OF_LOADS = 1.03
RUN_CYCLES = 12
GAIN = 0.9  # of the loads of the best tile that divides the image; the last tiles do work twice
SPARED = 1.03  # the columns that a dense row computes, of those it has, for the sake of wide tiles


def overlapping_tile(output: ImageOutput) -> Tile | None:
    """The tile; None where tiles that divide the image do as well."""
    if output.depthwise:
        return depthwise_tile(output)
    pointwise = output.kernel == output.stride == (1, 1) and not output.stem
    run = run_of_pixels(output) if pointwise else None
    return run or dense_tile(output)


def run_of_pixels(output: ImageOutput) -> PixelRun | None:
    """The run that costs least; None where the best tile that divides the image costs no more.

    32 registers hold such a tile for nearly every image: 14 pixels by two vectors. Of the tiles
    that divide 14 or 28 columns, 16 registers hold 14 by one, whose loads take longer than its
    multiplications.
    """
    registers, core = RegisterFile(output.lanes), current_core()
    if registers.count == 32:
        return None
    pixels = output.height * output.width
    vectors = [d for d in divisors(output.blocks) if d <= pointwise_conv2d.MAX_TILE_VECTORS]

    def cost(size: int, vectors: int) -> float:
        """Cycles for each FMA, of a vector and pixel of the image."""
        cycles = gemm_cycles(core, size, vectors, output.lanes)
        if size * vectors < FEW_SUMS:
            return OF_FEW_SUMS * cycles
        return cycles if cycles <= 1 / core.fmas else OF_LOADS * cycles

    def cost_of_run(size: int, vectors: int) -> float:
        apart = RUN_CYCLES / (output.depth * size * vectors)
        return (cost(size, vectors) + apart) * covered(pixels, size) / pixels

    fitting = [
        (size, beside)
        for size, beside in itertools.product(range(2, registers.count), vectors)
        if size <= pixels and (size + 1) * beside + 1 <= registers.count
    ]
    best = min(fitting, key=lambda tile: cost_of_run(*tile), default=None)
    rows, columns, beside = best_gemm_tile(
        registers,
        [d for d in divisors(output.height) if d <= pointwise_conv2d.MAX_TILE_HEIGHT],
        [d for d in divisors(output.width) if d <= pointwise_conv2d.MAX_TILE_WIDTH],
        vectors,
    )
    if best is None or cost_of_run(*best) >= cost(rows * columns, beside):
        return None
    size, _ = best
    return PixelRun(size, covered(pixels, size) // size)


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
