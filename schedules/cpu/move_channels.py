"""Moving channels of blocked tensors on CPUs: straight code for each pixel, rows in parallel."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.primitives import fuse_parallel, parallel_rows, zero_halo


def schedule(sch: Schedule, block: SBlockRV, *, by_rows: bool = False) -> list[Schedule]:
    """Threads share it by rows."""
    n, h, _ = sch.get_loops(block)
    if by_rows:
        parallel_rows(sch, n, h)
    else:
        fuse_parallel(sch, n, h)
    zero_halo(sch, by_rows=by_rows)
    return [sch]
