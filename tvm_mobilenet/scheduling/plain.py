"""A schedule for any kernel without a rule: in vectors and in parallel, not the best there is."""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.s_tir.schedule import LoopRV, SBlockRV

from schedules.primitives import divisors, extent

LANES = 16  # floats a vector; LLVM takes several of a machine whose vectors are narrower
REDUCTION = tirx.IterVar.CommReduce


def plain_schedule(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """``func`` for a CPU; as it is where TVM finds no way to schedule it so, or somebody has."""
    if is_scheduled(func):
        return func
    sch = s_tir.Schedule(tvm.IRModule({"main": func}))
    try:
        spread(sch)
    except s_tir.ScheduleError:
        return func
    return sch.mod["main"]


def is_scheduled(func: tirx.PrimFunc) -> bool:
    """Whether some loop of it is parallel, say, or in vectors."""
    kinds: list[int] = []
    tvm_ffi.structural_walk(func.body, (tirx.For, lambda loop: kinds.append(loop.kind)))
    return any(kind != tirx.ForKind.SERIAL for kind in kinds)


def spread(sch: s_tir.Schedule) -> None:
    """Compute the last block in vectors, rows in parallel, and what it reads where it reads it."""
    inline_all(sch)
    *before, last = sch.get_child_blocks(sch.get_sblock("root"))
    spatial, reduction = loops_of(sch, last)
    if not spatial:
        return
    *outer, inner = spatial
    # Step 1. Vectors along the last dimension
    width = max(d for d in divisors(extent(sch, inner)) if d <= LANES)
    tiles, vector = sch.split(inner, [None, width])
    # Step 2. All around them in parallel
    in_rows = outer and before  # what is computed for a row is computed once
    rows = sch.fuse(*outer) if in_rows else sch.fuse(*outer, tiles)
    for block in reversed(before):
        sch.compute_at(block, rows)
    sch.parallel(rows)
    # Step 3. A reduction inside
    if reduction:
        sch.reorder(*reduction, vector)
    sch.vectorize(vector)
    if reduction:
        sch.decompose_reduction(last, reduction[0])


def inline_all(sch: s_tir.Schedule) -> None:
    """Compute every block where it is read, but for the last and those that cannot be."""
    for block in sch.get_child_blocks(sch.get_sblock("root"))[:-1]:
        try:
            sch.compute_inline(block)
        except s_tir.ScheduleError:
            continue  # a reduction, say


def loops_of(sch: s_tir.Schedule, block: SBlockRV) -> tuple[list[LoopRV], list[LoopRV]]:
    """Those over the block's elements, and those over what is summed, say, to each."""
    kinds = [axis.iter_type for axis in sch.get(block).iter_vars]
    loops = sch.get_loops(block)
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind != REDUCTION]
    reduction = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == REDUCTION]
    return spatial, reduction
