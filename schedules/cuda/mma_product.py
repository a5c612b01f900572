"""The tensor-core half of a convolution: tiles of float16 or tf32, float32 sums.

A block computes m x n tiles with all of the inner dimension's rows in shared memory at once, where
they fit: then the block waits only once, and its warps stream the packed weights from L2 straight
into registers, 16 bytes a lane, without sharing them through shared memory. Batch 1 on a large GPU
is bound by such latencies and not by arithmetic. Where the tiles are fewer than the tensor cores,
warps of a block share the inner dimension too, every so-many-th tile each, and add up through
shared memory: no second kernel, no atomics, the same order of sums every time.

Rows of float32 are rounded to tf32 on their way into shared memory, once for all warps that read
them; the weights come rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import LoopRV, SBlockRV
from tvm.target import Target

from schedules.cuda import mma_intrinsics, slices
from schedules.cuda.depthwise_half import ALONE, ROW_PADDING, Half
from schedules.cuda.device import GpuModel, device_of
from schedules.cuda.fragments import HELD, LANES, TILE, c_place
from schedules.cuda.mma_intrinsics import HALF, TF32, Operand
from schedules.cuda.rows import (
    VECTOR_BYTES,
    Grid,
    RowFiller,
    Threads,
    inner_loops,
    stored_from_registers,
)
from schedules.primitives import divisors, extent, unroll

MAX_FRAGMENT_BYTES = 24 * 16  # a lane's, of A and B in flight: 96 registers
MAX_GIVEN_TILES = 8  # of a warp, along rows that a block must have
SUM_BYTES = 4
PAIR = 2  # neighbouring channels, of which a lane holds so many results


def schedule_product(
    sch: Schedule,
    conv: SBlockRV,
    fill_rows: RowFiller,
    operand: Operand,
    half: Half = ALONE,
) -> Grid:
    """Schedule "load_a", "conv" and "epilogue"; ``fill_rows`` does "rows".

    A depthwise ``half`` says which rows a block has, and asks for shared memory.
    """
    (epilogue,) = sch.get_consumers(conv)
    load_a = next(b for b in sch.get_producers(conv) if sch.get(b).name_hint == "load_a")
    (rows,) = sch.get_producers(load_a)
    mt, nt, kt, *_ = sch.get_loops(conv)
    m_tiles, n_tiles, k_tiles = (extent(sch, loop) for loop in (mt, nt, kt))
    device = device_of(Target.current())
    mma_intrinsics.register()

    # Step 1. The default decision, by the model, and slices of the inner dimension
    best = best_block(device, m_tiles, n_tiles, k_tiles, operand, half)
    m_default = [m_tiles // (best.m_warps * best.m_each), best.m_warps, best.m_each]
    n_default = [n_tiles // (best.n_warps * best.n_each), best.n_warps, best.n_each]
    sliced = slices.sample(sch, k_tiles, best.slices)
    total = conv  # what adds up; with slices a block of its own
    if sliced > 1:
        conv = slices.split_inner(sch, kt, sliced)
    mt, nt, kt, *slice_, m, n, k = sch.get_loops(conv)
    k_rest = k_tiles // sliced
    chosen_slices = replace(best, slices=sliced)
    k_inner = max(staged_tiles(device, chosen_slices, k_rest, operand, half), default=1)

    # Step 2. Blocks, warps and tiles
    m0, m1, mi = split_rows(sch, mt, m_default, half)
    n0, n1, ni = sch.split(nt, sch.sample_perfect_tile(nt, 3, 4, n_default))
    k0, k1 = sch.split(kt, sch.sample_perfect_tile(kt, 2, 128, [k_rest // k_inner, k_inner]))
    in_flight = max(1, max_fragments(operand) // (extent(sch, mi) + extent(sch, ni)))
    unrolls = [d for d in divisors(extent(sch, k1)) if d <= in_flight]
    chosen = sch.sample_categorical(unrolls, [1 / len(unrolls)] * len(unrolls), len(unrolls) - 1)
    k1, ki = sch.split(k1, [None, chosen])
    sch.reorder(m0, n0, *slice_, m1, n1, k0, k1, ki, mi, ni, m, n, k)
    tile = [extent(sch, loop) for loop in (m1, mi, n1, ni)]
    warps = tile[0] * tile[2]
    held = shared_bytes(
        tile[0] * tile[1], tile[2] * tile[3], extent(sch, k1) * extent(sch, ki), sliced, operand
    )
    held += half.shared_bytes(tile[2] * tile[3] * TILE)
    device.check_block(sliced * warps * LANES, held)
    block = sch.fuse(m0, n0)
    warp = sch.fuse(m1, n1)
    sch.bind(block, "blockIdx.x")
    sch.bind(warp, "threadIdx.y")
    unroll(sch, ki, mi, ni)
    threads = [("threadIdx.y", warps), ("threadIdx.x", LANES)]
    if sliced > 1:
        sch.bind(slice_[0], slices.AXIS)
        threads = [(slices.AXIS, sliced), *threads]

    # Step 3. Rows in shared memory, fragments in registers
    sch.set_scope(load_a, 0, "warp")
    sch.compute_at(load_a, ki, preserve_unit_loops=True)
    stage_rows(sch, rows, k0, threads, fill_rows, operand)
    load_weights(sch, conv, ki, operand)

    # Step 4. Bias, activation and the store
    if sliced > 1:
        add_slices(sch, conv, total, epilogue, (block, warp), tile, sliced)
    else:
        sch.set_scope(conv, 0, "warp")
        sch.reverse_compute_at(epilogue, warp, preserve_unit_loops=True)
        *tiles, lane, position = sch.get_loops(epilogue)[-4:]
        unroll(sch, *tiles)
        give_to_lanes(sch, lane, position, PAIR)

    # Step 5. Instructions
    init = sch.decompose_reduction(conv, k0)
    unroll(sch, *sch.get_loops(init)[-4:-2])
    unroll(sch, *sch.get_loops(load_a)[-4:-2])
    sch.tensorize(sch.get_loops(init)[-2], mma_intrinsics.FILL)
    sch.tensorize(sch.get_loops(load_a)[-2], operand.load_a)
    sch.tensorize(m, instruction_of(device, operand))
    return Grid(block, threads)


def split_rows(
    sch: Schedule, mt: LoopRV, default: list[int], half: Half
) -> tuple[LoopRV, LoopRV, LoopRV]:
    """Tiles of rows into blocks, warps and the tiles of each."""
    if half.rows is None:
        m0, m1, mi = sch.split(mt, sch.sample_perfect_tile(mt, 3, 4, default))
        return m0, m1, mi
    m0, mt = sch.split(mt, [None, half.rows // TILE])
    m1, mi = sch.split(mt, sch.sample_perfect_tile(mt, 2, MAX_GIVEN_TILES, default[1:]))
    return m0, m1, mi


def stage_rows(
    sch: Schedule,
    rows: SBlockRV,
    at: LoopRV,
    threads: Threads,
    fill_rows: RowFiller,
    operand: Operand,
) -> None:
    """Rows into shared memory, tf32's rounded before."""
    rounding = mma_intrinsics.ROUND if operand is TF32 else None
    if rounding is not None:
        rows = stored_from_registers(sch, rows)
    sch.set_scope(rows, 0, "shared")
    padding = ROW_PADDING // operand.bytes
    sch.storage_align(rows, 0, -2, 2 * padding, padding)
    sch.compute_at(rows, at, preserve_unit_loops=True)
    fill_rows(sch, rows, threads, rounding)


def load_weights(sch: Schedule, conv: SBlockRV, at: LoopRV, operand: Operand) -> None:
    """Fragments of B from memory into registers, 16 bytes a lane at a time."""
    weight = sch.cache_read(conv, 1, "warp")
    sch.compute_at(weight, at, preserve_unit_loops=True)
    *tiles, lane, position = sch.get_loops(weight)[-4:]
    unroll(sch, *tiles)
    give_to_lanes(sch, lane, position, VECTOR_BYTES // operand.bytes)


def give_to_lanes(sch: Schedule, lane: LoopRV, position: LoopRV, vector: int) -> None:
    """What a lane holds goes ``vector`` elements at a time."""
    steps, elements = sch.split(position, [None, vector])
    sch.bind(lane, "threadIdx.x")
    unroll(sch, steps)
    sch.vectorize(elements)


def add_slices(
    sch: Schedule,
    conv: SBlockRV,
    total: SBlockRV,
    epilogue: SBlockRV,
    at: tuple[LoopRV, LoopRV],
    tile: list[int],
    sliced: int,
) -> None:
    """Partial sums into shared memory; every slice's warps add up a part of what a lane holds.

    ``at`` are the loops of blocks and warps, ``tile`` the (warps, each) of m, then of n.
    """
    block, warp = at
    partial = sch.cache_write(conv, 0, "warp")
    sch.set_scope(partial, 0, "shared")
    sch.reverse_compute_at(partial, warp, preserve_unit_loops=True)
    *tiles, lane, position = sch.get_loops(partial)[-4:]
    unroll(sch, *tiles)
    give_to_lanes(sch, lane, position, VECTOR_BYTES // SUM_BYTES)

    # the sum goes by lanes and what they hold, as the epilogue does
    mt, nt, slice_, m, n = sch.get_loops(total)
    sch.reorder(slice_, mt, nt, m, n)
    sch.transform_block_layout(total, lambda s, mt, nt, m, n: (s, mt, nt, *c_place(m, n)))
    sch.reverse_compute_at(total, block, preserve_unit_loops=True)
    slice_, mt, nt, lane, position = sch.get_loops(total)[-5:]
    m1, mi = sch.split(mt, [tile[0], tile[1]])
    n1, ni = sch.split(nt, [tile[2], tile[3]])
    sch.reorder(m1, n1, mi, ni, lane, position, slice_)
    sch.bind(sch.fuse(m1, n1), "threadIdx.y")
    unroll(sch, mi, ni)
    sch.set_scope(total, 0, "local")
    sch.reverse_compute_at(epilogue, ni, preserve_unit_loops=True)
    for block in (total, epilogue):
        lane, position, *slice_ = inner_loops(sch, block, ni)[-3 if block is total else -2 :]
        own, pairs, two = sch.split(position, [sliced, None, PAIR])
        sch.reorder(own, lane, *slice_, pairs, two)
        sch.bind(own, slices.AXIS)
        sch.bind(lane, "threadIdx.x")
        unroll(sch, *slice_, pairs)
        sch.vectorize(two)
    init = sch.decompose_reduction(total, inner_loops(sch, total, ni)[-3])
    unroll(sch, sch.get_loops(init)[-2])


def instruction_of(device: GpuModel, operand: Operand) -> str:
    """Raises ValueError for an operand that the device's tensor cores do not take."""
    if device.capability >= 80:
        return mma_intrinsics.MMA_TF32 if operand is TF32 else mma_intrinsics.MMA_K16
    if operand is TF32:
        raise ValueError(f"tf32 needs sm_80 or newer, got sm_{device.capability}")
    return mma_intrinsics.MMA_K8


def shared_bytes(m_tiles: int, n_tiles: int, k_tiles: int, sliced: int, operand: Operand) -> int:
    """Of the rows that a block holds at a time, ``k_tiles`` a slice, and of partial sums."""
    rows = m_tiles * TILE * (sliced * k_tiles * TILE * operand.bytes + ROW_PADDING)
    return rows + slices.shared_bytes(m_tiles * n_tiles * TILE * TILE, sliced)


def max_fragments(operand: Operand) -> int:
    return MAX_FRAGMENT_BYTES // (HELD * operand.bytes)


@dataclass(frozen=True, order=True)
class Block:
    """Warps and the tiles of each, along m and n, and slices of the inner dimension."""

    m_warps: int
    m_each: int
    n_warps: int
    n_each: int
    slices: int

    @property
    def m_tiles(self) -> int:
        return self.m_warps * self.m_each

    @property
    def n_tiles(self) -> int:
        return self.n_warps * self.n_each

    @property
    def warps(self) -> int:
        return self.m_warps * self.n_warps * self.slices


def best_block(
    device: GpuModel,
    m_tiles: int,
    n_tiles: int,
    k_tiles: int,
    operand: Operand,
    half: Half = ALONE,
) -> Block:
    """The block with the least modelled time.

    Raises ValueError where none of the rows that ``half`` asks for fits.
    """

    def cost(choice: Block) -> float:
        return cycles(device, choice, m_tiles, n_tiles, k_tiles, operand, half)

    choices = [
        Block(m_warps, m_each, n_warps, n_each, sliced)
        for m_warps, m_each in rows_of_warps(half)
        for n_warps in (1, 2, 4, 8)
        for n_each in (1, 2, 4)
        for sliced in slices.options(k_tiles)
        if m_tiles % (m_warps * m_each) == 0
        and n_tiles % (n_warps * n_each) == 0
        and m_each * n_each <= 8
        and m_warps * n_warps * sliced <= 8
    ]
    possible = [
        choice
        for choice in choices
        if staged_tiles(device, choice, k_tiles // choice.slices, operand, half)
    ]
    return min(possible, key=lambda choice: (cost(choice), choice))


def staged_tiles(
    device: GpuModel, choice: Block, k_slice: int, operand: Operand, half: Half
) -> list[int]:
    """How many tiles along the inner dimension a slice can have in shared memory at a time.

    Rows are rounded to tf32 by whole vectors: threads have to share them out evenly.
    """
    kept = half.shared_bytes(choice.n_tiles * TILE)
    return [
        tiles
        for tiles in divisors(k_slice)
        if shared_bytes(choice.m_tiles, choice.n_tiles, tiles, choice.slices, operand) + kept
        <= device.shared_bytes
        and (operand is HALF or evenly_shared(choice, tiles))
    ]


def evenly_shared(choice: Block, k_tiles: int) -> bool:
    """Whether all warps of a block have as much of its rows to round."""
    vectors = choice.slices * k_tiles * TILE * TF32.bytes // VECTOR_BYTES
    rows_at_once = choice.warps * (LANES // math.gcd(vectors, LANES))
    return choice.m_tiles * TILE % rows_at_once == 0


def rows_of_warps(half: Half) -> list[tuple[int, int]]:
    """(warps, tiles of each) along m to choose from."""
    if half.rows is None:
        return [(warps, each) for warps in (1, 2, 4) for each in (1, 2, 4)]
    tiles = half.rows // TILE
    return [(tiles // each, each) for each in divisors(tiles)]


def cycles(
    device: GpuModel,
    choice: Block,
    m_tiles: int,
    n_tiles: int,
    k_tiles: int,
    operand: Operand,
    half: Half = ALONE,
) -> float:
    """Of the whole kernel.

    A round of blocks takes as long as its slowest part: the warps' chain of instructions, or the
    bytes that a multiprocessor reads. More tiles a block mean fewer bytes and fewer, longer rounds;
    more slices shorter chains, and adding up.
    """
    blocks = (m_tiles // choice.m_tiles) * (n_tiles // choice.n_tiles)
    resident = device.resident_blocks(LANES * choice.warps)
    rounds = -(-blocks // (device.multiprocessors * resident))
    together = min(resident, -(-blocks // device.multiprocessors))
    each = choice.m_each * choice.n_each
    k_slice = k_tiles // choice.slices
    # tf32 multiplies half as much an instruction
    instructions = (2 if operand is HALF else 4) * each * k_slice
    warps = choice.warps * together
    tensor = instructions * max(warps / device.tensor_cores, 1) * device.mma_cycles
    tiles = (choice.m_tiles + choice.n_tiles) * k_tiles
    loads = tiles * TILE * TILE * operand.bytes * together
    flights = -(-k_slice * (choice.m_each + choice.n_each) // max_fragments(operand))
    rows, columns = choice.m_tiles * TILE, choice.n_tiles * TILE
    adding = slices.cycles(together * rows * columns, choice.slices)
    depthwise = together * half.cycles(rows, columns, k_tiles * TILE)
    steps = k_slice // max(staged_tiles(device, choice, k_slice, operand, half))
    latency = device.latency_cycles * (steps + flights) + adding + depthwise
    return rounds * (latency + max(tensor, loads / device.l2_bytes_per_cycle))
