"""A 1x1 convolution fused with the depthwise convolution after it.

The product leaves the results of a tile's pixels in shared memory; then all threads of the block
filter them, 16 bytes of channels at a time. Which pixels a tile has is the computation's: blocks
compute those between two tiles twice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tvm.runtime import DataType
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cuda import fma_product, mma_product
from schedules.cuda.depthwise_half import ROW_PADDING, After
from schedules.cuda.mma_intrinsics import HALF, TF32
from schedules.cuda.rows import Grid, copy_rows, filter_rows
from schedules.primitives import extent


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    return schedule_halves(sch, conv, fma_product.schedule_product)


def schedule_mma(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    return schedule_halves(sch, conv, partial(mma_product.schedule_product, operand=HALF))


def schedule_tf32(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    return schedule_halves(sch, conv, partial(mma_product.schedule_product, operand=TF32))


def schedule_halves(
    sch: Schedule, conv: SBlockRV, schedule_product: Callable[..., Grid]
) -> list[Schedule]:
    (epilogue,) = sch.get_consumers(conv)
    (taps,) = sch.get_consumers(epilogue)
    (depthwise,) = sch.get_consumers(taps)
    (store,) = sch.get_consumers(depthwise)
    between = sch.get(taps).reads[0]
    value_bytes = int(DataType(str(between.source.dtype)).itemsize)
    _, tap, output, _ = sch.get_loops(taps)
    half = After(
        rows=int(between.region[0].extent),
        outputs=extent(sch, output),
        taps=extent(sch, tap),
        value_bytes=value_bytes,
    )

    # Step 1. The product, its results in shared memory
    grid = schedule_product(sch, conv, copy_rows, half=half)
    sch.set_scope(epilogue, 0, "shared")
    padding = ROW_PADDING // value_bytes
    sch.storage_align(epilogue, 0, -2, 2 * padding, padding)

    # Step 2. The depthwise convolution in the same block
    for block in (taps, depthwise, store):
        sch.reverse_compute_at(block, grid.block, preserve_unit_loops=True)
    filter_rows(sch, store, grid.threads)
    return [sch]
