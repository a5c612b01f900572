"""Depthwise convolution over blocked activations for AVX2 and AVX-512."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.image_tiles import rows_and_columns, tile_lengths
from schedules.cpu.window_tiles import MAX_TILE_HEIGHT, MAX_TILE_WIDTH, schedule_window, strides
from schedules.primitives import extent
from schedules.x86.registers import RegisterFile, least_loads_tile


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    _, _, *image, c, kernel_h, kernel_w = sch.get_loops(conv)
    rows, columns = rows_and_columns(image)
    tile_h, tile_w = least_loads_tile(
        RegisterFile(extent(sch, c)),
        (extent(sch, kernel_h), extent(sch, kernel_w)),
        strides(sch, conv),
        tile_lengths(sch, rows, MAX_TILE_HEIGHT),
        tile_lengths(sch, columns, MAX_TILE_WIDTH),
    )
    return schedule_window(sch, conv, tile_h, tile_w, by_rows=True)
