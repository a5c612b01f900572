"""Depthwise convolution over blocked activations for NEON: tiles of one vector of four channels.

Which tiles LLVM makes good code of was found by compiling all of them for A53, A72 and N1: the
out-of-order cores' without a spill, the in-order ones' with the fewest cycles by llvm-mca's model,
where a spill or two let it start loads early (benchmarks/arm_assembly.py prints what comes out).
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.arm_cpu.cores import Core, current_core
from schedules.cpu.window_tiles import best_window_tile, schedule_window, strides
from schedules.primitives import extent

MAX_ROW = 8  # outputs of a tile of one row
MIN_ROW = 4  # below, several rows share more
IN_ORDER_ROWS = 2  # more, and the loads that are started early fill the registers


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    height = extent(sch, sch.get_loops(conv)[2])
    return schedule_window(sch, conv, *default_tile(sch, conv, height))


def default_tile(
    sch: Schedule, conv: SBlockRV, height: int, width: int | None = None
) -> tuple[int, int]:
    """(rows, columns) of the tile for ``height`` rows at a time.

    With a ``width``, for outputs that another kernel's tiles of so many columns read: as wide as
    these, so that they lie at fixed distances, and no larger than is spared from spilling then.
    """
    core = current_core()
    plain = strides(sch, conv) == (1, 1)

    def suits(rows: int, columns: int, tiles: int) -> bool:
        if width is not None and (columns != width or rows * columns > MAX_ROW):
            return False
        if plain:
            return not core.in_order or (rows <= IN_ORDER_ROWS and columns <= MAX_ROW)
        return suits_stride(core, rows, columns, tiles)

    return best_window_tile(sch, conv, height, core.registers, suits)


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
