"""Which layers are faster as one kernel than as two: analytic models.

One kernel saves a launch and moving the tensor in between. But of a depthwise convolution fused
with the 1x1 convolution after it, every column of blocks computes the depthwise half again; and of
one fused with the 1x1 convolution before it, neighbouring tiles compute the pixels between them
twice. A layer can be in one kernel only: along a chain of layers the cheapest way to pair them is
found by dynamic programming over the times of ``KernelTimes``.

Of pooling and classifier every block computes the pooling again: where each multiprocessor has one
block, that is one image's last tensor read from L2, in float16 less than a launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm.target import Target

from schedules.cuda import dense, pooled_dense
from schedules.cuda.device import device_of
from schedules.cuda.fragments import TILE
from schedules.cuda.kernel_times import LAUNCH_US, KernelTimes
from schedules.cuda.tiles import Tile
from schedules.cuda.workload import Convolution


@dataclass(frozen=True)
class Pair:
    """Layers ``first`` and ``first + 1`` of a chain; for a depthwise second one, a block's tile."""

    first: int
    tile: Tile | None = None


def cheapest_pairs(target: Target, precision: str, chain: Sequence[Convolution]) -> list[Pair]:
    """The pairs of layers that should be one kernel each; the other layers stay alone.

    ``chain`` are depthwise and 1x1 convolutions in turn; ``precision`` is fp32, tf32 or fp16.
    """
    return cheapest(KernelTimes(device_of(target), precision), chain)[1]


def cheapest(times: KernelTimes, chain: Sequence[Convolution]) -> tuple[float, list[Pair]]:
    """The least time of a chain, in µs, and its pairs."""
    best: list[tuple[float, list[Pair]]] = [(0.0, [])]  # of the first so many layers
    for place, layer in enumerate(chain):
        before, pairs = best[place]
        options = [(before + times.alone(layer), pairs)]
        if place > 0:
            before, pairs = best[place - 1]
            together, tile = times.pair(chain[place - 1], layer)
            options.append((before + together, [*pairs, Pair(place - 1, tile)]))
        best.append(min(options, key=lambda option: option[0]))
    return best[-1]


def pooling_pays(
    target: Target, precision: str, batch: int, area: int, channels: int, outputs: int
) -> bool:
    """Whether to fuse global average pooling over ``area`` pixels with the classifier after it."""
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
    return together < pooling + LAUNCH_US * 1e3 * device.clock_ghz + classifier
