"""Elementwise arithmetic over blocked tensors for CPUs: a vector at a time, bound by memory."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.primitives import divisors, extent, fuse_parallel, parallel_rows, unroll, zero_halo

MAX_COLUMNS = 8  # vectors at once, which cover the latency of what is computed of each


def schedule(sch: Schedule, block: SBlockRV, *, by_rows: bool = False) -> list[Schedule]:
    """Threads share it by rows, or by channel blocks."""
    n, o, h, w, c = sch.get_loops(block)
    width = extent(sch, w)
    columns = max(d for d in divisors(width) if d <= MAX_COLUMNS)
    _, inner = sch.split(w, sch.sample_perfect_tile(w, 2, MAX_COLUMNS, [width // columns, columns]))
    unroll(sch, inner)
    sch.vectorize(c)
    if by_rows:
        parallel_rows(sch, n, o, h)
    else:
        fuse_parallel(sch, n, o, h)
    zero_halo(sch, by_rows=by_rows)
    return [sch]
