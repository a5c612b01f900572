"""Global average pooling and the classifier after it as one kernel, for few images.

Every block computes the whole mean, into shared memory, before each of its warps computes an
output. A thread sums 8 bytes of channels, with as many pixels in flight as its registers hold;
reading the image again in every block is what a launch less costs (fusion.py weighs the two).
"""

from __future__ import annotations

from tvm.runtime import DataType
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV
from tvm.target import Target

from schedules.cuda.dense import LANES, give_outputs_to_warps
from schedules.cuda.device import GpuModel, device_of
from schedules.cuda.rows import inner_loops, lanes_of
from schedules.primitives import divisors, extent, unroll

FLOAT_BYTES = REGISTER_BYTES = 4
LOAD_BYTES = 8  # of a pixel: 7 x 7 of them fit a thread's registers
MAX_REGISTERS = 128  # of pixels in flight
OTHER_REGISTERS = 64  # sums, weights, addresses
MAX_WARPS = 32


def schedule(sch: Schedule, block: SBlockRV) -> list[Schedule]:
    mean = next(b for b in sch.get_producers(block) if sch.get(b).name_hint == "mean")
    (pool,) = sch.get_producers(mean)
    batch, outputs, channels = (extent(sch, loop) for loop in sch.get_loops(block))
    area = extent(sch, sch.get_loops(pool)[-1])
    size = int(DataType(str(sch.get(pool).reads[0].source.dtype)).itemsize)
    device = device_of(Target.current())

    # Step 1. Outputs to warps, as in the classifier by itself
    warps = best_warps(device, batch, area, channels, outputs, size)
    grid, warp, lane = give_outputs_to_warps(sch, block, warps, MAX_WARPS)
    threads = extent(sch, warp) * extent(sch, lane)
    device.check_block(threads, channels * FLOAT_BYTES)

    # Step 2. The mean in shared memory, a few channels a thread at a time
    vector = LOAD_BYTES // size
    sch.set_scope(mean, 0, "shared")
    sch.compute_at(mean, grid, preserve_unit_loops=True)
    # by vectors first: where channels do not fill the threads, a vector is whole or not there
    vectors, channel = sch.split(sch.get_loops(mean)[-1], [None, vector])
    _, down, across = sch.split(vectors, [None, extent(sch, warp), extent(sch, lane)])
    sch.bind(down, "threadIdx.y")
    sch.bind(across, "threadIdx.x")
    sch.vectorize(channel)

    # Step 3. Its sums in registers, many pixels in flight
    sch.set_scope(pool, 0, "local")
    sch.compute_at(pool, across, preserve_unit_loops=True)
    *_, c, p = sch.get_loops(pool)
    p0, pi = sch.split(p, [None, pixels_in_flight(device, area, threads)])
    sch.reorder(p0, pi, c)
    image = sch.cache_read(pool, 0, "local")
    sch.compute_at(image, p0, preserve_unit_loops=True)
    *pixels, last = inner_loops(sch, image, p0)
    unroll(sch, *pixels, pi, c)
    sch.vectorize(last)
    init = sch.decompose_reduction(pool, p0)
    unroll(sch, sch.get_loops(init)[-1])

    # Step 4. A lane's part of the mean in 16 bytes
    mean_read = sch.cache_read(block, 0, "local")
    sch.compute_at(mean_read, lane, preserve_unit_loops=True)
    *loops, last = inner_loops(sch, mean_read, lane)
    loads, last = sch.split(last, [None, min(lanes_of(sch, mean_read), extent(sch, last))])
    unroll(sch, *loops, loads)
    sch.vectorize(last)
    return [sch]


def pixels_in_flight(device: GpuModel, area: int, threads: int) -> int:
    """As many as fit the registers that blocks of so many threads leave a thread."""
    free = min(MAX_REGISTERS, device.registers // threads - OTHER_REGISTERS)
    return max(d for d in divisors(area) if d * LOAD_BYTES // REGISTER_BYTES <= max(free, 2))


def best_warps(
    device: GpuModel, batch: int, area: int, channels: int, outputs: int, size: int
) -> int:
    """Warps of a block, which are its outputs, with the least modelled time."""
    choices = [d for d in divisors(outputs) if d <= MAX_WARPS]
    return min(choices, key=lambda d: (cycles(device, d, batch, area, channels, outputs, size), d))


def cycles(
    device: GpuModel, warps: int, batch: int, area: int, channels: int, outputs: int, size: int
) -> float:
    """Of the whole kernel: what a multiprocessor's blocks read, and the latencies in the open.

    ``size`` is the bytes of a value of the image, and of a weight.
    """
    threads = warps * LANES
    blocks = -(-batch * outputs // warps // device.multiprocessors)  # of the busiest
    waves = -(-blocks // device.resident_blocks(threads))
    flights = -(-channels * size // (LOAD_BYTES * threads))
    flights *= area // pixels_in_flight(device, area, threads)
    read = blocks * (area + warps) * channels * size
    return waves * (flights + 1) * device.latency_cycles + read / device.l2_bytes_per_cycle
