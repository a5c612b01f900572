"""Depthwise convolution over blocked activations for NEON: tiles of one vector of four channels."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.arm_cpu.cores import current_core
from schedules.window_tiles import (
    MAX_TILE_HEIGHT,
    MAX_TILE_WIDTH,
    best_window_tile,
    schedule_window,
    strides,
)

# Outputs that a stride keeps apart share few inputs, and LLVM spills what their rows share.
MAX_STRIDED_TILE = (1, 8)


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    plain = strides(sch, conv) == (1, 1)
    limits = (MAX_TILE_HEIGHT, MAX_TILE_WIDTH) if plain else MAX_STRIDED_TILE
    tile_h, tile_w = best_window_tile(sch, conv, current_core().registers, limits)
    return schedule_window(sch, conv, tile_h, tile_w)
