"""1x1 convolution, and any other dense one: the rows are a copy or a gather of the input."""

from __future__ import annotations

from tvm.s_tir import Schedule
from tvm.s_tir.schedule import SBlockRV

from schedules.cuda import fma_product, mma_product
from schedules.cuda.mma_intrinsics import HALF, TF32
from schedules.cuda.rows import copy_rows


def schedule(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    fma_product.schedule_product(sch, conv, copy_rows)
    return [sch]


def schedule_mma(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    mma_product.schedule_product(sch, conv, copy_rows, HALF)
    return [sch]


def schedule_tf32(sch: Schedule, conv: SBlockRV) -> list[Schedule]:
    mma_product.schedule_product(sch, conv, copy_rows, TF32)
    return [sch]
