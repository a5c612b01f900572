"""Padded rows of a plain image: zeros first, then the image's rows as they lie."""

from __future__ import annotations

from tvm.s_tir import Schedule, ScheduleError
from tvm.s_tir.schedule import SBlockRV

from schedules.primitives import divisors, extent


def copy_padded(sch: Schedule, pad: SBlockRV, lanes: int | None = None) -> None:
    """Make the block, which is where it is computed already, two plain loops without conditions.

    Rows are vectors of at most ``lanes``, of which whole ones make them up; None where a row is one
    as it is: a copy does not keep it in registers.

    A block without padding is a copy as it is. So are a few odd shapes for which TVM finds no such
    loops (an image of one row, say): they keep the condition, which costs time and no correctness.
    """
    if is_padded(sch, pad):
        try:
            sch.decompose_padding(pad, sch.get_loops(pad)[-2])
        except ScheduleError:
            return
    row = sch.get_loops(pad)[-1]
    if lanes is not None:
        _, row = sch.split(row, [None, max(d for d in divisors(extent(sch, row)) if d <= lanes)])
    sch.vectorize(row)


def is_padded(sch: Schedule, pad: SBlockRV) -> bool:
    """Whether the rows have any zeros around the image."""
    block = sch.get(pad)
    return [*block.reads[0].source.shape] != [*block.writes[0].source.shape]
