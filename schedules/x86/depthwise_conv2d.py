"""Depthwise convolution over blocked activations for AVX2 and AVX-512."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cpu.window_tiles import MAX_TILE_HEIGHT, MAX_TILE_WIDTH, schedule_window, strides
from schedules.primitives import divisors, extent
from schedules.x86.registers import RegisterFile, least_loads_tile


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    *_, height, width, lanes, kernel_h, kernel_w = (extent(sch, k) for k in sch.get_loops(conv))
    tile_h, tile_w = least_loads_tile(
        RegisterFile(lanes),
        (kernel_h, kernel_w),
        strides(sch, conv),
        [d for d in divisors(height) if d <= MAX_TILE_HEIGHT],
        [d for d in divisors(width) if d <= MAX_TILE_WIDTH],
    )
    return schedule_window(sch, conv, tile_h, tile_w, by_rows=True)
