"""Global average pooling: a thread a channel, all its pixels in flight; bound by one latency."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.primitives import divisors, extent, unroll

BLOCK_THREADS = 32
MAX_UNROLL = 64  # 7 x 7 pixels whole


def schedule(sch: Schedule, block: SBlockRV) -> list[Schedule]:
    (epilogue,) = sch.get_consumers(block)
    n, c = sch.get_loops(epilogue)
    channels = extent(sch, c)
    threads = max(d for d in divisors(channels) if d <= BLOCK_THREADS)
    c0, ci = sch.split(c, sch.sample_perfect_tile(c, 2, 256, [channels // threads, threads]))
    sch.bind(sch.fuse(n, c0), "blockIdx.x")
    sch.bind(ci, "threadIdx.x")
    sch.set_scope(block, 0, "local")
    sch.compute_at(block, ci, preserve_unit_loops=True)
    pixels = sch.get_loops(block)[-1]
    most = max(d for d in divisors(extent(sch, pixels)) if d <= MAX_UNROLL)
    outer, inner = sch.split(pixels, [None, most])
    unroll(sch, inner)
    sch.decompose_reduction(block, outer)
    return [sch]
