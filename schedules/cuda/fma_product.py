"""The FMA half of a convolution: float32 tiles, rows and weights staged through shared memory.

A thread keeps a small tile of sums in registers; the threads of a row of tiles read the same rows,
which shared memory broadcasts, and neighbouring 16 bytes of weights. Where the tiles are few,
threads share out the inner dimension too (slices.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV
from tvm.target import Target

from schedules.cuda import slices
from schedules.cuda.depthwise_half import ALONE, Half
from schedules.cuda.device import GpuModel, device_of
from schedules.cuda.rows import Grid, RowFiller, Threads, copy_rows, share
from schedules.primitives import divisors, extent, unroll

FLOAT_BYTES = 4
LANES = 4  # floats in 16 bytes
MAX_INNER = 64  # of the inner dimension in shared memory at a time
MAX_K_UNROLL = 8
MAX_THREAD_ROWS = 8


def schedule_product(
    sch: Schedule, conv: SBlockRV, fill_rows: RowFiller, half: Half = ALONE
) -> Grid:
    """Schedule "conv" and "epilogue"; ``fill_rows`` does "rows".

    A depthwise ``half`` says which rows a block has, and asks for shared memory.
    """
    (epilogue,) = sch.get_consumers(conv)
    (rows,) = sch.get_producers(conv)
    m, n, k = sch.get_loops(conv)
    height, width, inner = (extent(sch, loop) for loop in (m, n, k))
    device = device_of(Target.current())

    # Step 1. The default decision, by the model, and slices of the inner dimension
    best = best_block(device, height, width, inner, half)
    sliced = slices.sample(sch, inner, best.slices)
    total = conv  # what adds up; with slices a block of its own
    if sliced > 1:
        conv = slices.split_inner(sch, k, sliced)
    m, n, k, *slice_ = sch.get_loops(conv)
    inner //= sliced
    k_default = max(
        d
        for d in divisors(inner)
        if d == 1
        or (
            d * sliced <= MAX_INNER
            and shared_bytes(best.m, best.n, d, sliced) + half.shared_bytes(best.n)
            <= device.shared_bytes
        )
    )

    # Step 2. Blocks, threads and their tiles
    m_default = [height // best.m, best.m // best.thread_m, best.thread_m]
    n_default = [width // best.n, best.n // LANES, LANES]
    m0, m1, mi = split_rows(sch, m, m_default, half)
    n0, n1, ni = sch.split(n, sch.sample_perfect_tile(n, 3, 4, n_default))
    k0, k1 = sch.split(k, sch.sample_perfect_tile(k, 2, MAX_INNER, [inner // k_default, k_default]))
    unrolls = [d for d in divisors(extent(sch, k1)) if d <= MAX_K_UNROLL]
    chosen = sch.sample_categorical(unrolls, [1 / len(unrolls)] * len(unrolls), len(unrolls) - 1)
    k1, ki = sch.split(k1, [None, chosen])
    rows_each, columns_each = (extent(sch, a) * extent(sch, b) for a, b in ((m1, mi), (n1, ni)))
    held = shared_bytes(rows_each, columns_each, extent(sch, k1) * extent(sch, ki), sliced)
    held += half.shared_bytes(columns_each)
    device.check_block(sliced * extent(sch, m1) * extent(sch, n1), held)
    sch.reorder(m0, n0, *slice_, m1, n1, k0, k1, ki, mi, ni)
    block = sch.fuse(m0, n0)
    thread = sch.fuse(m1, n1)
    threads = [("threadIdx.x", extent(sch, thread))]
    sch.bind(block, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
    unroll(sch, ki, mi, ni)
    if sliced > 1:
        sch.bind(slice_[0], slices.AXIS)
        threads = [(slices.AXIS, sliced), *threads]

    # Step 3. Rows and weights in shared memory
    sch.set_scope(rows, 0, "shared")
    sch.compute_at(rows, k0, preserve_unit_loops=True)
    fill_rows(sch, rows, threads, None)
    weight = sch.cache_read(conv, 1, "shared")
    sch.compute_at(weight, k0, preserve_unit_loops=True)
    copy_rows(sch, weight, threads)

    # Step 4. Sums in registers; bias, activation and the store
    if sliced > 1:
        thread = add_slices(sch, conv, total, block, thread, threads)
    else:
        sch.set_scope(conv, 0, "local")
    sch.reverse_compute_at(epilogue, thread, preserve_unit_loops=True)
    row, channel = sch.get_loops(epilogue)[-2:]
    unroll(sch, row)
    sch.vectorize(channel)
    init = sch.decompose_reduction(conv, k0)
    unroll(sch, *sch.get_loops(init)[-2:])
    return Grid(block, threads)


def split_rows(
    sch: Schedule, m: LoopRV, default: list[int], half: Half
) -> tuple[LoopRV, LoopRV, LoopRV]:
    """Rows into blocks, threads and the rows of each."""
    if half.rows is None:
        m0, m1, mi = sch.split(m, sch.sample_perfect_tile(m, 3, MAX_THREAD_ROWS, default))
        return m0, m1, mi
    m0, m = sch.split(m, [None, half.rows])
    m1, mi = sch.split(m, sch.sample_perfect_tile(m, 2, MAX_THREAD_ROWS, default[1:]))
    return m0, m1, mi


def add_slices(
    sch: Schedule,
    conv: SBlockRV,
    total: SBlockRV,
    block: LoopRV,
    thread: LoopRV,
    threads: Threads,
) -> LoopRV:
    """Partial sums into shared memory, from where all threads add them up, 16 bytes each.

    Returns the loop of the threads that do.
    """
    partial = sch.cache_write(conv, 0, "local")
    sch.set_scope(partial, 0, "shared")
    sch.reverse_compute_at(partial, thread, preserve_unit_loops=True)
    row, channel = sch.get_loops(partial)[-2:]
    unroll(sch, row)
    sch.vectorize(channel)
    sch.set_scope(total, 0, "local")
    sch.reverse_compute_at(total, block, preserve_unit_loops=True)
    slice_, row, column = sch.get_loops(total)[-3:]
    sch.reorder(row, column, slice_)
    _, thread, vector = share(sch, total, row, column, threads)
    sch.reorder(slice_, vector)
    unroll(sch, slice_)
    sch.vectorize(vector)
    sch.decompose_reduction(total, slice_)
    return thread


def shared_bytes(rows: int, columns: int, k: int, sliced: int) -> int:
    """Of the rows and weights that a block holds at a time, ``k`` a slice, and of partial sums."""
    staged = (rows + columns) * k * sliced * FLOAT_BYTES
    return staged + slices.shared_bytes(rows * columns, sliced)


@dataclass(frozen=True, order=True)
class Block:
    """Rows and columns of a block, rows of a thread, slices of the inner dimension."""

    m: int
    n: int
    thread_m: int
    slices: int

    @property
    def threads(self) -> int:
        return self.m * self.n // (self.thread_m * LANES) * self.slices


def best_block(device: GpuModel, height: int, width: int, inner: int, half: Half = ALONE) -> Block:
    """The block with the least modelled time.

    Raises ValueError where none of the rows that ``half`` asks for fits.
    """

    def cost(choice: Block) -> float:
        return cycles(device, choice, height, width, inner, half)

    choices = [
        Block(block_m, block_n, thread_m, sliced)
        for block_m in ((16, 32, 64, 128) if half.rows is None else (half.rows,))
        for block_n in (16, 32, 64, 128)
        for thread_m in (1, 2, 4, 8)
        for sliced in slices.options(inner)
        if height % block_m == 0
        and width % block_n == 0
        and block_m * block_n // (thread_m * LANES) >= 32  # a slice is whole warps
        and 64 <= block_m * block_n // (thread_m * LANES) * sliced <= 256
        and shared_bytes(block_m, block_n, 1, sliced) + half.shared_bytes(block_n)
        <= device.shared_bytes
    ]
    return min(choices, key=lambda choice: (cost(choice), choice))


def cycles(
    device: GpuModel, choice: Block, height: int, width: int, inner: int, half: Half = ALONE
) -> float:
    """Of the whole kernel.

    A multiprocessor's time is the larger of its arithmetic and of what its blocks read; too few
    threads leave the latency of the arithmetic in the open.
    """
    block_m, block_n, thread_m = choice.m, choice.n, choice.thread_m
    threads = choice.threads
    blocks = (height // block_m) * (width // block_n)
    together = min(device.resident_blocks(threads), -(-blocks // device.multiprocessors))
    rounds = -(-blocks // (device.multiprocessors * together))
    per_fma = 1 + (thread_m + LANES) / (thread_m * LANES)  # what loads from shared memory add
    busy = min(1.0, threads * together / (2 * device.fma_lanes))
    arithmetic = together * block_m * block_n * inner * per_fma / (device.fma_lanes * busy)
    reads = together * (block_m + block_n) * inner * FLOAT_BYTES / device.l2_bytes_per_cycle
    adding = slices.cycles(together * block_m * block_n, choice.slices)
    latency = device.latency_cycles * -(-inner // MAX_INNER) + adding
    latency += together * half.cycles(block_m, block_n, inner)
    return rounds * (latency + max(arithmetic, reads))
