"""Whether a depthwise-separable block is faster as one kernel or as two: an analytic model.

One kernel saves a launch and moving the tensor in between; but every column of blocks computes the
depthwise half again. A few columns of blocks cost less than a launch; dozens do not.
"""

from __future__ import annotations

from tvm.target import Target

from schedules.cuda import fma_product, mma_product
from schedules.cuda.device import device_of
from schedules.cuda.mma_intrinsics import HALF, TF32

TILE = 16
TAPS = 9
LAUNCH_CYCLES = 2000  # about 1.3 µs between two kernels of a graph
OPERANDS = {"fp16": HALF, "tf32": TF32}  # of tensor cores; fp32 runs on FMA units
FMA_OVERHEAD = 3  # instructions a multiply-add of the depthwise half: converting, addressing


def pays(target: Target, precision: str, pixels: int, channels_in: int, channels_out: int) -> bool:
    """Whether to fuse a 3x3 depthwise convolution with the 1x1 convolution after it.

    `precision` is fp32, tf32 or fp16.
    """
    device = device_of(target)
    rows, inner, columns = (-(-size // TILE) * TILE for size in (pixels, channels_in, channels_out))
    operand = OPERANDS.get(precision)
    if operand is not None:
        tiles = (rows // TILE, columns // TILE, inner // TILE)
        _, (warps, each) = mma_product.best_block(device, *tiles, operand)
        width, size = warps * each * TILE, operand.bytes
    else:
        _, width, _ = fma_product.best_block(device, rows, columns, inner)
        size = 4
    again = columns // width - 1
    elements = rows * inner
    bandwidth = device.multiprocessors * device.l2_bytes_per_cycle
    moved = 2 * elements * size / bandwidth
    repeated = (
        again
        * elements
        * max(TAPS * FMA_OVERHEAD / (device.multiprocessors * device.fma_lanes), size / bandwidth)
    )
    return repeated < LAUNCH_CYCLES + moved
