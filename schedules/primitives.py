"""Steps that schedules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

# What schedules a kernel, given the block that names it: the whole function.
Rule: TypeAlias = Callable[[Schedule, SBlockRV], list[Schedule]]

# Annotations of a parallel loop, which say how threads share it: the extent of the last of the
# loops that it was fused of, whose parts are theirs; that none helps another; who does all of it.
ROWS, KEPT, OWNER = "rows", "kept", "owner"
FIRST_THREAD, LAST_THREAD = "first", "last"
ENDS = {"top": FIRST_THREAD, "bottom": LAST_THREAD}  # sides of a halo


def extent(sch: Schedule, loop: LoopRV) -> int:
    """The constant trip count of ``loop``."""
    return int(sch.get(loop).extent)


def own_loops(sch: Schedule, block: SBlockRV) -> list[LoopRV]:
    """The loops of the block's own axes, without those that it was moved into."""
    return list(sch.get_loops(block)[-len(sch.get(block).iter_vars) :])


def divisors(n: int) -> list[int]:
    """All divisors of n, ascending."""
    return [d for d in range(1, n + 1) if n % d == 0]


def powers_of_two_dividing(n: int, limit: int) -> list[int]:
    """1, 2, 4, … up to ``limit``, as far as they divide n."""
    return [2**i for i in range(limit.bit_length()) if 2**i <= limit and n % 2**i == 0]


def fuse_parallel(sch: Schedule, *loops: LoopRV) -> None:
    """One parallel loop over ``loops``; each thread does a run of its iterations."""
    sch.parallel(sch.fuse(*loops))


def parallel_rows(sch: Schedule, *loops: LoopRV, kept: bool = False) -> LoopRV:
    """One parallel loop over ``loops``, of which each thread does its part of the last, the rows.

    A thread has the same rows of the image in every layer: what it reads it mostly wrote itself.
    Where its rows are ``kept``, no other thread does any of them, however late it is.
    """
    rows = extent(sch, loops[-1])
    fused = sch.fuse(*loops)
    sch.annotate(fused, ROWS, rows)
    if kept:
        sch.annotate(fused, KEPT, 1)
    sch.parallel(fused)
    return fused


def zero_halo(sch: Schedule, *, by_rows: bool = False) -> None:
    """Write the halo's zeros one vector at a time, channel blocks or rows in parallel.

    By rows, those above the image are the first thread's and those below it the last one's.
    """
    for block in sch.get_child_blocks(sch.get_sblock("root")):
        _, _, side = sch.get(block).name_hint.partition("halo_")
        if not side:
            continue
        n, o, h, _, c = sch.get_loops(block)
        sch.vectorize(c)
        if not by_rows:
            fuse_parallel(sch, n, o)
        elif side in ENDS:
            fused = sch.fuse(n, o)
            sch.annotate(fused, OWNER, ENDS[side])
            sch.parallel(fused)
        else:
            parallel_rows(sch, n, o, h)


def unroll(sch: Schedule, *loops: LoopRV) -> None:
    for loop in loops:
        sch.unroll(loop)


def accumulate_in_registers(
    sch: Schedule, conv: SBlockRV, reduction: list[LoopRV], tile: list[LoopRV], lanes: LoopRV
) -> None:
    """Make the tile's accumulators a fully unrolled block of vectors around the reduction.

    Loops end as: reduction (first to last), tile (unrolled), lanes (vectorized). Vectorizing and
    unrolling come before decompose_reduction: afterwards the dataflow check refuses them.
    """
    sch.reorder(*reduction, *tile, lanes)
    sch.vectorize(lanes)
    unroll(sch, *tile)
    sch.decompose_reduction(conv, reduction[0])


def sum_dot_products(
    sch: Schedule,
    conv: SBlockRV,
    reduction: list[LoopRV],
    tile: list[LoopRV],
    dot: tuple[LoopRV, LoopRV],
    intrinsic: str,
) -> SBlockRV:
    """As ``accumulate_in_registers``, where a vector's step is an intrinsic over ``dot``: the lanes
    and the bytes that each of them sums. Returns the block that zeroes the accumulators.
    """
    lanes, step = dot
    sch.reorder(*reduction, *tile, lanes, step)
    unroll(sch, *tile)
    return tensorize_sums(sch, conv, reduction[0], lanes, intrinsic)


def tensorize_sums(
    sch: Schedule, conv: SBlockRV, reduction: LoopRV, lanes: LoopRV, intrinsic: str
) -> SBlockRV:
    """Zero the sums before the loops from ``reduction`` on, and make an intrinsic of a step."""
    init = sch.decompose_reduction(conv, reduction)
    *zeroed, vector = own_loops(sch, init)
    sch.vectorize(vector)
    unroll(sch, *zeroed)
    sch.tensorize(lanes, intrinsic)
    return init
