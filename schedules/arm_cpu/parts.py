"""Sums of float16 that are made in parts, which another block adds up in float32.

Where a kernel has such a block, ``total``, its tile's sums stay in memory near by, and the part's
in registers; a kernel without has its sums in registers to the end.
"""

from __future__ import annotations

from tvm.runtime import DataType
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV

from schedules.arm_cpu.cores import REGISTER_BYTES
from schedules.primitives import own_loops, unroll

TOTAL = "total"


def ends_of(sch: Schedule, conv: SBlockRV) -> tuple[SBlockRV, SBlockRV | None]:
    """The epilogue of a sum, and the block between that adds up its parts, where there is one."""
    (after,) = sch.get_consumers(conv)
    if sch.get(after).name_hint != TOTAL:
        return after, None
    (epilogue,) = sch.get_consumers(after)
    return epilogue, after


def sum_at(sch: Schedule, conv: SBlockRV, total: SBlockRV | None, tile: LoopRV) -> None:
    """Compute the sums inside ``tile``: one part after the other, where they have parts."""
    if total is None:
        sch.compute_at(conv, tile, preserve_unit_loops=True)
        return
    sch.compute_at(total, tile, preserve_unit_loops=True)
    *image, c, part = own_loops(sch, total)
    sch.reorder(part, *image, c)
    unroll(sch, *image)
    sch.vectorize(c)
    sch.compute_at(conv, part, preserve_unit_loops=True)


def start_total(sch: Schedule, total: SBlockRV | None) -> None:
    """Let the whole sum start with zero; after everything else that is done to the two."""
    if total is None:
        return
    part = sch.get_loops(total)[-len(sch.get(total).iter_vars)]
    sch.decompose_reduction(total, part)


def lanes_of(sch: Schedule, conv: SBlockRV) -> int:
    """Inputs of a register: by-element FMAs take one of so many as their factor."""
    return REGISTER_BYTES // item_bytes(sch, conv)


def item_bytes(sch: Schedule, conv: SBlockRV) -> int:
    """Of one input of the block, and of a weight."""
    return int(DataType(str(sch.get(conv).reads[0].source.dtype)).itemsize)
