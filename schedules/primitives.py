"""Steps that schedules share."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV


def extent(sch: Schedule, loop: LoopRV) -> int:
    """The constant trip count of `loop`."""
    return int(sch.get(loop).extent)


def divisors(n: int) -> list[int]:
    """All divisors of n, ascending."""
    return [d for d in range(1, n + 1) if n % d == 0]


def powers_of_two_dividing(n: int, limit: int) -> list[int]:
    """1, 2, 4, … up to `limit`, as far as they divide n."""
    return [2**i for i in range(limit.bit_length()) if 2**i <= limit and n % 2**i == 0]


def fuse_parallel(sch: Schedule, *loops: LoopRV) -> None:
    """One parallel loop over `loops`; TVM splits it statically over the threads."""
    sch.parallel(sch.fuse(*loops))


def zero_halo(sch: Schedule) -> None:
    """Write the halo's zeros one vector at a time, channel blocks in parallel."""
    for block in sch.get_child_blocks(sch.get_sblock("root")):
        if sch.get(block).name_hint.startswith("halo_"):
            n, o, *_, c = sch.get_loops(block)
            sch.vectorize(c)
            fuse_parallel(sch, n, o)


def vectorize_divisor(sch: Schedule, loop: LoopRV, lanes: int) -> None:
    """Vectorize `loop` by the largest power of two up to `lanes` that divides it."""
    _, inner = sch.split(loop, [None, powers_of_two_dividing(extent(sch, loop), lanes)[-1]])
    sch.vectorize(inner)


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
