"""The first convolution, from the plain NCHW image: neighbouring lanes share a pixel's inputs."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cuda.thread_tile import schedule_thread_tile
from schedules.primitives import divisors, extent

MAX_COLUMNS = 4  # pixels a thread: each weight it loads serves them all


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    width = extent(sch, sch.get_loops(conv)[2])
    return schedule_thread_tile(sch, conv, (1, max(d for d in divisors(width) if d <= MAX_COLUMNS)))
