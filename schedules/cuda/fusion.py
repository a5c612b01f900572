"""Whether two layers are faster as one kernel or as two: analytic models.

One kernel saves a launch and moving the tensor in between. But of a depthwise-separable block every
column of blocks computes the depthwise half again: a few columns cost less than a launch, dozens do
not. And of pooling and classifier every block computes the pooling again: where each multiprocessor
has one block, that is one image's last tensor read from L2, in float16 less than a launch.
"""

from __future__ import annotations

from tvm.target import Target

from schedules.cuda import dense, fma_product, mma_product, pooled_dense
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
        width = mma_product.best_block(device, *tiles, operand).n_tiles * TILE
        size = operand.bytes
    else:
        width = fma_product.best_block(device, rows, columns, inner).n
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


def pooling_pays(
    target: Target, precision: str, batch: int, area: int, channels: int, outputs: int
) -> bool:
    """Whether to fuse global average pooling over `area` pixels with the classifier after it."""
    device = device_of(target)
    size = 2 if precision == "fp16" else 4
    inner = -(-channels // TILE) * TILE
    warps = pooled_dense.best_warps(device, batch, area, inner, outputs, size)
    together = pooled_dense.cycles(device, warps, batch, area, inner, outputs, size)
    bandwidth = device.multiprocessors * device.l2_bytes_per_cycle
    pooling = device.latency_cycles + batch * area * inner * size / bandwidth
    blocks = -(-batch * outputs // dense.MAX_WARPS // device.multiprocessors)  # of the busiest
    read = blocks * dense.MAX_WARPS * inner * size
    classifier = device.latency_cycles + read / device.l2_bytes_per_cycle
    return together < pooling + LAUNCH_CYCLES + classifier
