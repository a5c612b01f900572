"""The inner dimension of a product shared out among the threads of a block: slices of it.

At 7 x 7 and 14 x 14 there are fewer tiles of outputs than a large GPU has places for; with slices
more threads work on each tile, every chain of sums is shorter, and what they came to is added up
through shared memory, always in the same order.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from schedules.primitives import powers_of_two_dividing

AXIS = "threadIdx.z"  # which slice a thread works on
MAX_SLICES = 4
SUM_BYTES = 4
BARRIER_CYCLES = 100  # a round trip through shared memory and the wait for all warps
SHARED_BYTES_PER_CYCLE = 128  # of a multiprocessor


def options(inner: int) -> list[int]:
    """Numbers of slices for an inner dimension of so many steps."""
    return powers_of_two_dividing(inner, MAX_SLICES)


def sample(sch: Schedule, inner: int, default: int) -> int:
    """The number of slices, as a decision of the schedule."""
    choices = options(inner)
    weights = [1 / len(choices)] * len(choices)
    return int(sch.get(sch.sample_categorical(choices, weights, choices.index(default))))


def split_inner(sch: Schedule, inner: LoopRV, slices: int) -> SBlockRV:
    """Give every slice a sum of its own; the block around ``inner`` is left to add these up.

    Returns the block that computes them. Its loop over slices comes after that over the rest.
    """
    _, slice_ = sch.split(inner, [None, slices])
    return sch.rfactor(slice_, 0)


def shared_bytes(elements: int, slices: int) -> int:
    """Of the partial sums of a block's outputs."""
    return SUM_BYTES * slices * elements if slices > 1 else 0


def cycles(elements: int, slices: int) -> float:
    """Of adding up: every partial sum is written once and read once."""
    if slices == 1:
        return 0.0
    return BARRIER_CYCLES + 2 * shared_bytes(elements, slices) / SHARED_BYTES_PER_CYCLE
