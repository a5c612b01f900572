"""Which tiles cover an image that none divides, for NEON."""

from __future__ import annotations

from collections.abc import Iterable

from schedules.arm_cpu.cores import LANES, best_gemm_tile, current_core, gemm_cycles, gemm_loads
from schedules.arm_cpu.depthwise_conv2d import window_model
from schedules.arm_cpu.pointwise_conv2d import MAX_TILE_HEIGHT as MAX_DENSE_HEIGHT
from schedules.arm_cpu.pointwise_conv2d import MAX_TILE_WIDTH as MAX_DENSE_WIDTH
from schedules.cpu.image_tiles import ImageOutput, covered
from schedules.cpu.window_tiles import MAX_TILE_HEIGHT, MAX_TILE_WIDTH
from schedules.primitives import divisors

GAIN = 0.9  # of the cost of the best tile that divides the image; the last tiles do work twice
VECTORS = (1, 2, 4, 8)  # of channels, that a dense tile may have: nearly every layer has them
SHORT_ROW = 8  # pixels
PANEL = 2  # of these that lie together


def overlapping_tile(output: ImageOutput) -> tuple[int | None, int] | None:
    """Rows and columns of the tiles; rows None where they are no tiles.

    None where tiles that divide the image do as well.
    """
    if output.lanes != LANES:
        return None
    return depthwise_tile(output) if output.depthwise else dense_tile(output)


def dense_tile(output: ImageOutput) -> tuple[None, int] | None:
    """The columns that cost least, of the kernel's own default tiles.

    A cost is FMAs' time and the loads for each: a tile of one pixel keeps the multipliers as busy
    by the model as one of nine, but has all weights come from the caches again for each pixel.
    """
    core = current_core()
    heights = [d for d in divisors(output.height) if d <= MAX_DENSE_HEIGHT]

    def cost(widths: Iterable[int]) -> float:
        rows, columns, vectors = best_gemm_tile(core, heights, widths, VECTORS, PANEL)
        fmas = LANES * rows * columns * vectors
        loads = gemm_loads(rows * columns, vectors, PANEL)
        again = covered(output.width, columns) / output.width
        return (gemm_cycles(core, fmas, loads) * core.fmas + loads / fmas) * again

    dividing = cost([d for d in divisors(output.width) if d <= MAX_DENSE_WIDTH])
    most = min(MAX_DENSE_WIDTH, output.width, core.registers // 2 - 2)
    columns = min(range(1, most + 1), key=lambda size: (round(cost([size]), 3), -size))
    return (None, columns) if cost([columns]) < GAIN * dividing else None


def depthwise_tile(output: ImageOutput) -> tuple[int, int] | None:
    """The tile with the fewest loads, of those that the kernel's own default is chosen from.

    In a short row the columns that are computed twice are too many.
    """
    height, width = output.height, output.width
    if width <= SHORT_ROW:
        return None
    model = window_model(output.kernel, output.stride)

    def loads(tile: tuple[int, int]) -> float:
        rows, columns = tile
        again = covered(height, rows) * covered(width, columns) / (height * width)
        return model.loads_per_output(tile) * again

    dividing = model.best(divisors(height), divisors(width), width)
    others = [
        (rows, columns)
        for rows in range(1, min(MAX_TILE_HEIGHT, height) + 1)
        for columns in range(1, min(MAX_TILE_WIDTH, width) + 1)
        if model.best([rows], [columns], width) == (rows, columns)
    ]
    best = min(others, key=loads)
    return best if loads(best) < GAIN * loads(dividing) else None
