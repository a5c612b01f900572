"""The tensor-core half of a convolution: tiles of float16 or tf32, float32 sums.

A block computes m x n tiles with all of the inner dimension's rows in shared memory at once, where
they fit: then the block waits only once, and its warps stream the packed weights from L2 straight
into registers, 16 bytes a lane, without sharing them through shared memory. Batch 1 on a large GPU
is bound by such latencies and not by arithmetic.

Rows of float32 are rounded to tf32 on their way into shared memory, once for all warps that read
them; the weights come rounded.
"""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV
from tvm.target import Target

from schedules.cuda import mma_intrinsics
from schedules.cuda.device import Device, device_of
from schedules.cuda.mma_intrinsics import HALF, TF32, Operand
from schedules.cuda.rows import VECTOR_BYTES, RowFiller, stored_from_registers
from schedules.primitives import divisors, extent, unroll

ROW_PADDING = 16  # bytes that rows are apart in their banks, so that ldmatrix meets no conflict
MAX_FRAGMENT_BYTES = 24 * 16  # a lane's, of A and B in flight: 96 registers
TILE, HELD = mma_intrinsics.TILE, mma_intrinsics.HELD


def schedule_product(
    sch: Schedule, conv: SBlockRV, fill_rows: RowFiller, operand: Operand
) -> list[Schedule]:
    """Schedule "load_a", "conv" and "epilogue"; `fill_rows` does "rows"."""
    (epilogue,) = sch.get_consumers(conv)
    load_a = next(b for b in sch.get_producers(conv) if sch.get(b).name_hint == "load_a")
    (rows,) = sch.get_producers(load_a)
    mt, nt, kt, m, n, k = sch.get_loops(conv)
    m_tiles, n_tiles, k_tiles = (extent(sch, loop) for loop in (mt, nt, kt))
    device = device_of(Target.current())

    # Step 1. The default decision, by the model
    (m_warps, m_each), (n_warps, n_each) = best_block(device, m_tiles, n_tiles, k_tiles, operand)
    m_default = [m_tiles // (m_warps * m_each), m_warps, m_each]
    n_default = [n_tiles // (n_warps * n_each), n_warps, n_each]
    k_inner = max(
        d
        for d in divisors(k_tiles)
        if shared_bytes(m_warps * m_each, d, operand) <= device.shared_bytes
    )

    # Step 2. Blocks, warps and tiles
    m0, m1, mi = sch.split(mt, sch.sample_perfect_tile(mt, 3, 4, m_default))
    n0, n1, ni = sch.split(nt, sch.sample_perfect_tile(nt, 3, 4, n_default))
    k0, k1 = sch.split(kt, sch.sample_perfect_tile(kt, 2, 128, [k_tiles // k_inner, k_inner]))
    in_flight = max(1, max_fragments(operand) // (extent(sch, mi) + extent(sch, ni)))
    unrolls = [d for d in divisors(extent(sch, k1)) if d <= in_flight]
    chosen = sch.sample_categorical(unrolls, [1 / len(unrolls)] * len(unrolls), len(unrolls) - 1)
    k1, ki = sch.split(k1, [None, chosen])
    sch.reorder(m0, n0, m1, n1, k0, k1, ki, mi, ni, m, n, k)
    warps = extent(sch, m1) * extent(sch, n1)
    k_held = extent(sch, k1) * extent(sch, ki)
    held = shared_bytes(extent(sch, m1) * extent(sch, mi), k_held, operand)
    device.check_block(warps * mma_intrinsics.LANES, held)
    block = sch.fuse(m0, n0)
    warp = sch.fuse(m1, n1)
    sch.bind(block, "blockIdx.x")
    sch.bind(warp, "threadIdx.y")
    unroll(sch, ki, mi, ni)

    # Step 3. Rows in shared memory, fragments in registers
    mma_intrinsics.register()
    rounding = mma_intrinsics.ROUND if operand is TF32 else None
    sch.set_scope(load_a, 0, "warp")
    sch.compute_at(load_a, ki, preserve_unit_loops=True)
    if rounding is not None:
        rows = stored_from_registers(sch, rows)
    sch.set_scope(rows, 0, "shared")
    padding = ROW_PADDING // operand.bytes
    sch.storage_align(rows, 0, -2, 2 * padding, padding)
    sch.compute_at(rows, k0, preserve_unit_loops=True)
    threads = [("threadIdx.y", warps), ("threadIdx.x", mma_intrinsics.LANES)]
    fill_rows(sch, rows, threads, rounding)
    weight = sch.cache_read(conv, 1, "warp")
    sch.compute_at(weight, ki, preserve_unit_loops=True)
    *tiles, lane, held = sch.get_loops(weight)[-4:]
    loads, vector = sch.split(held, [None, VECTOR_BYTES // operand.bytes])
    sch.bind(lane, "threadIdx.x")
    unroll(sch, *tiles, loads)
    sch.vectorize(vector)

    # Step 4. Bias, activation and the store, two neighbouring channels at a time
    sch.set_scope(conv, 0, "warp")
    sch.reverse_compute_at(epilogue, warp, preserve_unit_loops=True)
    *tiles, lane, held = sch.get_loops(epilogue)[-4:]
    pairs, two = sch.split(held, [None, 2])
    sch.bind(lane, "threadIdx.x")
    unroll(sch, *tiles, pairs)
    sch.vectorize(two)

    # Step 5. Instructions
    init = sch.decompose_reduction(conv, k0)
    unroll(sch, *sch.get_loops(init)[-4:-2])
    unroll(sch, *sch.get_loops(load_a)[-4:-2])
    sch.tensorize(sch.get_loops(init)[-2], mma_intrinsics.FILL)
    sch.tensorize(sch.get_loops(load_a)[-2], operand.load_a)
    sch.tensorize(m, instruction_of(device, operand))
    return [sch]


def instruction_of(device: Device, operand: Operand) -> str:
    """Raises ValueError for an operand that the device's tensor cores do not take."""
    if device.capability >= 80:
        return mma_intrinsics.MMA_TF32 if operand is TF32 else mma_intrinsics.MMA_K16
    if operand is TF32:
        raise ValueError(f"tf32 needs sm_80 or newer, came sm_{device.capability}")
    return mma_intrinsics.MMA_K8


def shared_bytes(m_tiles: int, k_tiles: int, operand: Operand) -> int:
    """Of the rows that a block holds at a time."""
    return m_tiles * TILE * (k_tiles * TILE * operand.bytes + ROW_PADDING)


def max_fragments(operand: Operand) -> int:
    return MAX_FRAGMENT_BYTES // (HELD * operand.bytes)


def best_block(
    device: Device, m_tiles: int, n_tiles: int, k_tiles: int, operand: Operand
) -> tuple[tuple[int, int], tuple[int, int]]:
    """((warps, tiles a warp) along m, the same along n) with the least modelled time.

    A round of blocks takes as long as its slowest part: the warps' chain of instructions, or the
    bytes that a multiprocessor reads. More tiles a block mean fewer bytes and fewer, longer rounds.
    """

    def cost(choice: tuple[int, int, int, int]) -> float:
        m_warps, m_each, n_warps, n_each = choice
        m_block, n_block = m_warps * m_each, n_warps * n_each
        blocks = (m_tiles // m_block) * (n_tiles // n_block)
        resident = device.resident_blocks(32 * m_warps * n_warps)
        rounds = -(-blocks // (device.multiprocessors * resident))
        together = min(resident, -(-blocks // device.multiprocessors))
        # tf32 multiplies half as much an instruction
        instructions = (2 if operand is HALF else 4) * m_each * n_each * k_tiles
        warps = m_warps * n_warps * together
        tensor = instructions * max(warps / device.tensor_cores, 1) * device.mma_cycles
        loads = (m_block + n_block) * k_tiles * TILE * TILE * operand.bytes * together
        flights = -(-k_tiles * (m_each + n_each) // max_fragments(operand))
        latency = device.latency_cycles * (1 + flights)
        return rounds * (latency + max(tensor, loads / device.l2_bytes_per_cycle))

    choices = [
        (m_warps, m_each, n_warps, n_each)
        for m_warps in (1, 2, 4)
        for m_each in (1, 2, 4)
        for n_warps in (1, 2, 4, 8)
        for n_each in (1, 2, 4)
        if m_tiles % (m_warps * m_each) == 0
        and n_tiles % (n_warps * n_each) == 0
        and m_each * n_each <= 8
        and 1 <= m_warps * n_warps <= 8
    ]
    m_warps, m_each, n_warps, n_each = min(choices, key=lambda c: (cost(c), c))
    return (m_warps, m_each), (n_warps, n_each)
