"""Depthwise convolution by itself: bound by memory, so every input is loaded once a window."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cuda.thread_tile import schedule_thread_tile
from schedules.primitives import divisors, extent

MAX_INPUTS = 18  # pixels of the window's inputs: four registers each, of 255
MAX_OUTPUTS = 4  # pixels: eight sums each in float16


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    return schedule_thread_tile(sch, conv, best_window(sch, conv))


def best_window(sch: Schedule, conv: SBlockRV) -> tuple[int, int]:
    """(rows, columns) with the fewest loads per output that fit the registers."""
    (inputs,) = sch.get_producers(conv)
    _, height, width, _, kernel_h, kernel_w = (extent(sch, k) for k in sch.get_loops(conv))
    _, reach_h, reach_w, _ = (extent(sch, k) for k in sch.get_loops(inputs))
    stride_h = (reach_h - kernel_h) // max(height - 1, 1)
    stride_w = (reach_w - kernel_w) // max(width - 1, 1)

    def inputs_of(tile: tuple[int, int]) -> int:
        rows, columns = tile
        return ((rows - 1) * stride_h + kernel_h) * ((columns - 1) * stride_w + kernel_w)

    tiles = [
        (rows, columns)
        for rows in divisors(height)
        for columns in divisors(width)
        if rows * columns <= MAX_OUTPUTS and inputs_of((rows, columns)) <= MAX_INPUTS
    ]
    # a filter of more taps than that has no window to share
    return min(tiles, key=lambda tile: inputs_of(tile) / (tile[0] * tile[1]), default=(1, 1))
