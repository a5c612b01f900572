"""A window of output pixels in one thread's registers: what the depthwise and first kernels share.

A thread loads the inputs that its pixels meet once, 16 bytes of channels at a time where they lie
together, keeps them in registers for every tap, and needs no shared memory for it. Neighbouring
threads take neighbouring channels, then neighbouring columns.
"""

from __future__ import annotations

import math

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV
from tvm.target import Target

from schedules.cuda.device import device_of
from schedules.cuda.rows import inner_loops, lanes_of
from schedules.primitives import divisors, extent, unroll

BLOCK_THREADS = 128
MAX_TILE = 8  # outputs along a side


def schedule_thread_tile(sch: Schedule, conv: SBlockRV, tile: tuple[int, int]) -> list[Schedule]:
    """Schedule inputs, conv and epilogue; ``tile`` is a thread's default (rows, columns)."""
    (inputs,) = sch.get_producers(conv)
    (epilogue,) = sch.get_consumers(conv)
    (store,) = sch.get_consumers(epilogue)
    n, h, w, c = sch.get_loops(store)
    height, width, channels = extent(sch, h), extent(sch, w), extent(sch, c)
    lanes = lanes_of(sch, store)

    # Step 1. A thread's window, and the threads of a block
    h0, hi = sch.split(h, sch.sample_perfect_tile(h, 2, MAX_TILE, [height // tile[0], tile[0]]))
    w0, wi = sch.split(w, sch.sample_perfect_tile(w, 2, MAX_TILE, [width // tile[1], tile[1]]))
    across = math.gcd(channels // lanes, BLOCK_THREADS)
    columns = extent(sch, w0)
    down = max(d for d in divisors(columns) if d * across <= BLOCK_THREADS)
    most = max(BLOCK_THREADS // across, 1)
    wb, wt = sch.split(w0, sch.sample_perfect_tile(w0, 2, most, [columns // down, down]))
    cb, ct, ci = sch.split(c, [None, across, lanes])
    sch.reorder(n, h0, wb, cb, wt, ct, hi, wi, ci)
    block = sch.fuse(n, h0, wb, cb)
    thread = sch.fuse(wt, ct)
    sch.bind(block, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
    unroll(sch, hi, wi)
    sch.vectorize(ci)

    device_of(Target.current()).check_block(extent(sch, thread), 0)

    # Step 2. Sums, their inputs and weights in registers
    for producer in (epilogue, conv):
        sch.set_scope(producer, 0, "local")
        sch.compute_at(producer, thread, preserve_unit_loops=True)
    unroll(sch, *inner_loops(sch, epilogue, thread))
    outputs, reduction = inner_loops(sch, conv, thread)[:4], inner_loops(sch, conv, thread)[4:]
    sch.reorder(*reduction, *outputs)
    *channel, kernel_h, kernel_w = reduction
    at = channel[0] if channel else thread  # the first convolution goes channel by channel
    sch.set_scope(inputs, 0, "local")
    sch.compute_at(inputs, at, preserve_unit_loops=True)
    weights = sch.cache_read(conv, 1, "local")
    sch.compute_at(weights, at, preserve_unit_loops=True)
    load_in_vectors(sch, weights, at)
    if channel:  # whose image is planes, not channels last
        unroll(sch, *inner_loops(sch, inputs, at))
    else:
        load_in_vectors(sch, inputs, at)
    unroll(sch, kernel_h, kernel_w, *outputs)
    init = sch.decompose_reduction(conv, reduction[0])
    unroll(sch, *inner_loops(sch, init, thread))
    return [sch]


def load_in_vectors(sch: Schedule, block: SBlockRV, outer: LoopRV) -> None:
    """Unroll what ``block`` loads inside ``outer``, 16 bytes of channels at a time."""
    *loops, last = inner_loops(sch, block, outer)
    last, vector = sch.split(last, [None, min(lanes_of(sch, block), extent(sch, last))])
    sch.vectorize(vector)
    unroll(sch, *loops, last)
