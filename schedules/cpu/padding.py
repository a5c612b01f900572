"""Padded rows of a plain image: zeros first, then the image's rows as they lie."""

from __future__ import annotations

from tvm.s_tir import Schedule, ScheduleError
from tvm.s_tir.schedule import SBlockRV


def copy_padded(sch: Schedule, pad: SBlockRV) -> None:
    """Make the block, which is where it is computed already, two plain loops without conditions.

    A block without padding is a copy as it is. So are a few odd shapes for which TVM finds no such
    loops (an image of one row, say): they keep the condition, which costs time and no correctness.
    """
    if is_padded(sch, pad):
        try:
            sch.decompose_padding(pad, sch.get_loops(pad)[-2])
        except ScheduleError:
            return
    sch.vectorize(sch.get_loops(pad)[-1])


def is_padded(sch: Schedule, pad: SBlockRV) -> bool:
    """Whether the rows have any zeros around the image."""
    block = sch.get(pad)
    return [*block.reads[0].source.shape] != [*block.writes[0].source.shape]
