"""A depthwise convolution fused with the 1x1 convolution after it.

What the depthwise half computes goes into shared memory and nowhere else. Blocks that share pixels
compute it again: nine multiply-adds an element against one a column of the 1x1 convolution.
"""

from __future__ import annotations

from tvm.runtime import DataType
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cuda import fma_product, mma_product
from schedules.cuda.depthwise_half import Before
from schedules.cuda.mma_intrinsics import HALF, TF32, Operand
from schedules.cuda.rows import filter_rows
from schedules.primitives import extent


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    fma_product.schedule_product(sch, conv, filter_rows, depthwise_half(sch))
    return [sch]


def schedule_mma(sch: Schedule, conv: SBlockRV, operand: Operand = HALF) -> list[Schedule]:
    mma_product.schedule_product(sch, conv, filter_rows, operand, depthwise_half(sch))
    return [sch]


def schedule_tf32(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    return schedule_mma(sch, conv, TF32)


def depthwise_half(sch: Schedule) -> Before:
    taps = sch.get_sblock("taps")
    dtype = DataType(str(sch.get(taps).writes[0].source.dtype))
    return Before(taps=extent(sch, sch.get_loops(taps)[0]), value_bytes=int(dtype.itemsize))
