"""Depthwise convolution over blocked activations for NEON: tiles of one vector of four channels.

Which tiles LLVM makes good code of was found by compiling all of them for A53, A72 and N1: the
out-of-order cores' without a spill, the in-order ones' with the fewest cycles by llvm-mca's model,
where a spill or two let it start loads early (benchmarks/arm_assembly.py prints what comes out).
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.arm_cpu.cores import Core, current_core
from schedules.cpu.image_tiles import length, rows_and_columns, tile_lengths
from schedules.cpu.window_tiles import (
    MAX_TILE_HEIGHT,
    MAX_TILE_WIDTH,
    WindowModel,
    schedule_window,
    strides,
)
from schedules.primitives import divisors, extent

MAX_ROW = 8  # outputs of a tile of one row
MIN_ROW = 4  # below, several rows share more
IN_ORDER_ROWS = 2  # more, and the loads that are started early fill the registers


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    _, _, *image, _, kernel_h, kernel_w = sch.get_loops(conv)
    rows, columns = rows_and_columns(image)
    kernel = extent(sch, kernel_h), extent(sch, kernel_w)
    tile = window_model(kernel, strides(sch, conv)).best(
        tile_lengths(sch, rows, MAX_TILE_HEIGHT),
        tile_lengths(sch, columns, MAX_TILE_WIDTH),
        length(sch, columns),
    )
    return schedule_window(sch, conv, *tile)


def default_tile(sch: Schedule, conv: SBlockRV, height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of the tile for ``height`` rows at a time, for outputs that another kernel's
    tiles of ``width`` columns read.

    As wide as these, so that they lie at fixed distances, and no larger than is spared from
    spilling then.
    """
    *_, columns, _, kernel_h, kernel_w = (extent(sch, loop) for loop in sch.get_loops(conv))
    model = window_model((kernel_h, kernel_w), strides(sch, conv))
    small = [rows for rows in divisors(height) if rows * width <= MAX_ROW]
    return model.best(small, [width], columns)


def window_model(kernel: tuple[int, int], stride: tuple[int, int]) -> WindowModel:
    """Of the core of the target in whose scope the rule runs."""
    core = current_core()

    def suits(rows: int, columns: int, tiles: int) -> bool:
        if stride == (1, 1):
            return not core.in_order or (rows <= IN_ORDER_ROWS and columns <= MAX_ROW)
        return suits_stride(core, rows, columns, tiles)

    return WindowModel(kernel, stride, core.registers, suits)


def suits_stride(core: Core, rows: int, columns: int, tiles: int) -> bool:
    """Outputs that a stride keeps apart share few inputs, and what rows share LLVM spills.

    A row of two tiles it unrolls, and spills the second's inputs.
    """
    if tiles == 2:
        return False
    if core.in_order:
        return rows * columns <= MAX_ROW
    width = columns * tiles
    row_suits = any(width % c == 0 and width // c != 2 for c in range(MIN_ROW, MAX_ROW + 1))
    return rows == 1 and columns <= MAX_ROW if row_suits else rows * columns <= MIN_ROW
