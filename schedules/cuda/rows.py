"""The first half of a convolution: how a block's threads make the rows that the product reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tvm.runtime import DataType
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from schedules.primitives import divisors, extent, unroll

Threads = list[tuple[str, int]]  # thread axes of a block, outermost first, and their extents
RowFiller = Callable[[Schedule, SBlockRV, Threads, str | None], None]
"""Schedules the block that stores the rows, and what computes them.

With a tensor intrinsic, which rounds, ``stored_from_registers`` has come before.
"""


@dataclass(frozen=True)
class Grid:
    """A product's loop over blocks, and the threads of one."""

    block: LoopRV
    threads: Threads


VECTOR_BYTES = 16  # the widest load
MAX_IN_FLIGHT = 8  # loads of a thread, four registers each


def lanes_of(sch: Schedule, block: SBlockRV) -> int:
    """Elements of what ``block`` writes in 16 bytes."""
    return VECTOR_BYTES // int(DataType(str(sch.get(block).writes[0].source.dtype)).itemsize)


def share(
    sch: Schedule, block: SBlockRV, row: LoopRV, column: LoopRV, threads: Threads
) -> tuple[list[LoopRV], LoopRV, LoopRV]:
    """Spread a matrix over the block's threads, 16 bytes each.

    Neighbouring threads take neighbouring columns, as many as divide a row evenly, and go on with
    the next row: an index that wraps around in the middle of a row would not stay affine.
    Returns the serial loops, the last thread loop and the vector.
    """
    lanes = min(lanes_of(sch, block), extent(sch, column))
    (last, count), outer = threads[-1], threads[:-1]
    together = math.gcd(extent(sch, column) // lanes, count)
    columns, across, vector = sch.split(column, [None, together, lanes])
    rows, *others, down = sch.split(row, [None, *(size for _, size in outer), count // together])
    sch.reorder(rows, columns, *others, down, across, vector)
    for loop, (name, _) in zip(others, outer, strict=True):
        sch.bind(loop, name)
    thread = sch.fuse(down, across)
    sch.bind(thread, last)
    return [rows, columns], thread, vector


def stored_from_registers(sch: Schedule, rows: SBlockRV) -> SBlockRV:
    """Let "rows" compute into registers; returns the block that stores them."""
    return sch.cache_write(rows, 0, "local")


def copy_rows(sch: Schedule, rows: SBlockRV, threads: Threads, rounding: str | None = None) -> None:
    """Copied or gathered rows: each thread moves 16 bytes at a time, several of them in flight."""
    row, column = sch.get_loops(rows)[-2:]
    serial, thread, vector = share(sch, rows, row, column, threads)
    sch.vectorize(vector)
    if rounding is not None:  # before fusing, after which no index is affine any more
        (load,) = sch.get_producers(rows)
        rounded = sch.cache_write(load, 0, "local")
        for block in (rounded, load):
            sch.compute_at(block, thread, preserve_unit_loops=True)
        sch.vectorize(sch.get_loops(load)[-1])
        sch.tensorize(sch.get_loops(rounded)[-1], rounding)
    rounds = sch.fuse(*serial)
    most = max(d for d in divisors(extent(sch, rounds)) if d <= MAX_IN_FLIGHT)
    _, rounds = sch.split(rounds, [None, most])
    unroll(sch, rounds)


def filter_rows(
    sch: Schedule, rows: SBlockRV, threads: Threads, rounding: str | None = None
) -> None:
    """Rows that are a depthwise convolution: a thread computes 16 bytes of channels of a pixel."""
    row, column = sch.get_loops(rows)[-2:]
    _, thread, vector = share(sch, rows, row, column, threads)
    sch.vectorize(vector)
    copy = rows  # of what the depthwise convolution left in registers
    if rounding is not None:
        (copy,) = sch.get_producers(rows)
        sch.compute_at(copy, thread, preserve_unit_loops=True)
    (depthwise,) = sch.get_producers(copy)
    (taps,) = sch.get_producers(depthwise)
    sch.set_scope(depthwise, 0, "local")
    sch.set_scope(taps, 0, "local")
    sch.compute_at(depthwise, thread, preserve_unit_loops=True)
    unroll(sch, *sch.get_loops(depthwise)[-2:])
    sch.compute_at(taps, thread, preserve_unit_loops=True)
    reads = [sch.cache_read(depthwise, place, "local") for place in (1, 2)]
    for block in reads:
        sch.compute_at(block, thread, preserve_unit_loops=True)
    for block in (taps, *reads):
        channel = sch.get_loops(block)[-1]
        _, vector = sch.split(channel, [None, min(lanes_of(sch, block), extent(sch, channel))])
        sch.vectorize(vector)
        unroll(sch, *inner_loops(sch, block, thread)[:-1])
    if rounding is not None:
        sch.tensorize(sch.get_loops(copy)[-1], rounding)


def inner_loops(sch: Schedule, block: SBlockRV, outer: LoopRV) -> list[LoopRV]:
    """The loops of ``block`` inside ``outer``."""
    loops: list[LoopRV] = sch.get_loops(block)
    names = [sch.get(loop).loop_var for loop in loops]
    return loops[names.index(sch.get(outer).loop_var) + 1 :]
