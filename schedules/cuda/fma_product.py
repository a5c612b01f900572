"""The FMA half of a convolution: float32 tiles, rows and weights staged through shared memory.

A thread keeps a small tile of sums in registers; the threads of a row of tiles read the same rows,
which shared memory broadcasts, and neighbouring 16 bytes of weights.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV
from tvm.target import Target

from schedules.cuda.device import Device, device_of
from schedules.cuda.rows import RowFiller, copy_rows
from schedules.primitives import divisors, extent, unroll

FLOAT_BYTES = 4
LANES = 4  # floats in 16 bytes
MAX_INNER = 64  # of the inner dimension in shared memory at a time
MAX_K_UNROLL = 8


def schedule_product(sch: Schedule, conv: SBlockRV, fill_rows: RowFiller) -> list[Schedule]:
    """Schedule "conv" and "epilogue"; `fill_rows` does "rows"."""
    (epilogue,) = sch.get_consumers(conv)
    (rows,) = sch.get_producers(conv)
    m, n, k = sch.get_loops(conv)
    height, width, inner = (extent(sch, loop) for loop in (m, n, k))
    device = device_of(Target.current())

    # Step 1. The default decision, by the model
    block_m, block_n, thread_m = best_block(device, height, width, inner)
    k_default = max(
        d
        for d in divisors(inner)
        if d <= MAX_INNER and d * (block_m + block_n) * FLOAT_BYTES <= device.shared_bytes
    )

    # Step 2. Blocks, threads and their tiles
    m_default = [height // block_m, block_m // thread_m, thread_m]
    n_default = [width // block_n, block_n // LANES, LANES]
    m0, m1, mi = sch.split(m, sch.sample_perfect_tile(m, 3, 8, m_default))
    n0, n1, ni = sch.split(n, sch.sample_perfect_tile(n, 3, 4, n_default))
    k0, k1 = sch.split(k, sch.sample_perfect_tile(k, 2, MAX_INNER, [inner // k_default, k_default]))
    unrolls = [d for d in divisors(extent(sch, k1)) if d <= MAX_K_UNROLL]
    chosen = sch.sample_categorical(unrolls, [1 / len(unrolls)] * len(unrolls), len(unrolls) - 1)
    k1, ki = sch.split(k1, [None, chosen])
    side = extent(sch, m1) * extent(sch, mi) + extent(sch, n1) * extent(sch, ni)
    shared = side * extent(sch, k1) * extent(sch, ki) * FLOAT_BYTES
    device.check_block(extent(sch, m1) * extent(sch, n1), shared)
    sch.reorder(m0, n0, m1, n1, k0, k1, ki, mi, ni)
    block = sch.fuse(m0, n0)
    thread = sch.fuse(m1, n1)
    threads = extent(sch, thread)
    sch.bind(block, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
    unroll(sch, ki, mi, ni)

    # Step 3. Rows and weights in shared memory
    sch.set_scope(rows, 0, "shared")
    sch.compute_at(rows, k0, preserve_unit_loops=True)
    fill_rows(sch, rows, [("threadIdx.x", threads)], None)
    weight = sch.cache_read(conv, 1, "shared")
    sch.compute_at(weight, k0, preserve_unit_loops=True)
    copy_rows(sch, weight, [("threadIdx.x", threads)])

    # Step 4. Sums in registers; bias, activation and the store
    sch.set_scope(conv, 0, "local")
    sch.reverse_compute_at(epilogue, thread, preserve_unit_loops=True)
    row, channel = sch.get_loops(epilogue)[-2:]
    unroll(sch, row)
    sch.vectorize(channel)
    init = sch.decompose_reduction(conv, k0)
    unroll(sch, *sch.get_loops(init)[-2:])
    return [sch]


def best_block(device: Device, height: int, width: int, inner: int) -> tuple[int, int, int]:
    """(rows, columns, rows a thread) of a block with the least modelled time.

    A multiprocessor's time is the larger of its arithmetic and of what its blocks read; too few
    threads leave the latency of the arithmetic in the open.
    """

    def cost(choice: tuple[int, int, int]) -> float:
        block_m, block_n, thread_m = choice
        threads = block_m * block_n // (thread_m * LANES)
        blocks = (height // block_m) * (width // block_n)
        together = min(device.resident_blocks(threads), -(-blocks // device.multiprocessors))
        rounds = -(-blocks // (device.multiprocessors * together))
        per_fma = 1 + (thread_m + LANES) / (thread_m * LANES)  # what loads from shared memory add
        busy = min(1.0, threads * together / (2 * device.fma_lanes))
        arithmetic = together * block_m * block_n * inner * per_fma / (device.fma_lanes * busy)
        reads = together * (block_m + block_n) * inner * FLOAT_BYTES / device.l2_bytes_per_cycle
        latency = device.latency_cycles * -(-inner // MAX_INNER)
        return rounds * (latency + max(arithmetic, reads))

    choices = [
        (block_m, block_n, thread_m)
        for block_m in (16, 32, 64, 128)
        for block_n in (16, 32, 64, 128)
        for thread_m in (1, 2, 4, 8)
        if height % block_m == 0
        and width % block_n == 0
        and 64 <= block_m * block_n // (thread_m * LANES) <= 256
    ]
    return min(choices, key=lambda c: (cost(c), c))
