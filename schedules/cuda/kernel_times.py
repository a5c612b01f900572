"""How long the kernels of a chain of layers take, in µs: an analytic model, measured nowhere.

A kernel costs its launch and the longer of two: what its busiest multiprocessor does (the products'
own models: rounds of blocks, latencies, arithmetic, reads from L2), and what has to come from or go
to memory, which are activations that the L2 cache does not hold. What a fused kernel repeats is in
the former: a depthwise convolution once for every column of blocks, the pixels around a tile once
for every tile. Weights are left out of the latter: they are read once, fused or not. How many
blocks a multiprocessor holds is what threads and registers allow, not shared memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from schedules.cuda import fma_product, mma_product
from schedules.cuda.depthwise_half import ALONE, After, Before, Half, depthwise_cycles
from schedules.cuda.device import GpuModel
from schedules.cuda.fragments import TILE
from schedules.cuda.mma_intrinsics import HALF, TF32
from schedules.cuda.tiles import Tile, tiles_of
from schedules.cuda.workload import Convolution

# Between two kernels of a graph: an assumption. With 0.5 the pairs of many images are much the
# same; of one image fewer layers are paired where the GPU is large.
LAUNCH_US = 1.3
# as INSTRUCTIONS of the halves, of a kernel whose threads keep windows in registers
WINDOW_INSTRUCTIONS = {2: 4.0, 4: 3.0}
OPERANDS = {"fp16": HALF, "tf32": TF32}  # of tensor cores; fp32 runs on FMA units


@dataclass(frozen=True)
class KernelTimes:
    """Of a device; ``precision`` is fp32, tf32 or fp16."""

    device: GpuModel
    precision: str

    def alone(self, conv: Convolution) -> float:
        """A depthwise or 1x1 convolution by itself."""
        if conv.depthwise:
            products = conv.pixels * filled(conv.channels_out) * conv.window.taps
            busiest = -(-products // self.device.multiprocessors)
            cycles = self.device.latency_cycles + max(
                depthwise_cycles(busiest, self.value_bytes, WINDOW_INSTRUCTIONS),
                self.read_cycles(conv.inputs),
            )
        else:
            cycles = self.product_cycles(conv.pixels, conv)
        return self.microseconds(cycles, conv.inputs, conv.outputs)

    def pair(self, first: Convolution, second: Convolution) -> tuple[float, Tile | None]:
        """Two layers as one kernel; with the tile of its blocks where the second is depthwise."""
        if second.depthwise:
            return self.pointwise_depthwise(first, second)
        return self.separable(first, second), None

    def separable(self, first: Convolution, second: Convolution) -> float:
        """A depthwise convolution and the 1x1 convolution after it, as one kernel."""
        before = Before(taps=first.window.taps, value_bytes=self.value_bytes)
        cycles = self.product_cycles(second.pixels, second, before)
        return self.microseconds(cycles, first.inputs, second.outputs)

    def pointwise_depthwise(
        self, first: Convolution, second: Convolution
    ) -> tuple[float, Tile | None]:
        """A 1x1 convolution and the depthwise one after it, with the tile that is the fastest."""
        times = [(self.tile_time(first, second, tile), tile) for tile in tiles_of(second, TILE)]
        return min(times, key=lambda time: time[0], default=(math.inf, None))

    def tile_time(self, first: Convolution, second: Convolution, tile: Tile) -> float:
        """Of the two as one kernel, infinite where no block has room for the tile."""
        after = After(
            rows=tile.rows(TILE),
            outputs=tile.pixels,
            taps=second.window.taps,
            value_bytes=self.value_bytes,
        )
        try:
            cycles = self.product_cycles(tile.count(second) * after.rows, first, after)
        except ValueError:
            return math.inf
        return self.microseconds(cycles, first.inputs, second.outputs)

    def product_cycles(self, pixels: int, conv: Convolution, half: Half = ALONE) -> float:
        """Of a 1x1 convolution for so many pixels, with what is fused."""
        rows, columns, inner = map(filled, (pixels, conv.channels_out, conv.channels_in))
        operand = OPERANDS.get(self.precision)
        if operand is None:
            sizes = (rows, columns, inner)
            return fma_product.cycles(
                self.device, fma_product.best_block(self.device, *sizes, half), *sizes, half
            )
        tiles = (rows // TILE, columns // TILE, inner // TILE)
        best = mma_product.best_block(self.device, *tiles, operand, half)
        return mma_product.cycles(self.device, best, *tiles, operand, half)

    @property
    def value_bytes(self) -> int:
        return 2 if self.precision == "fp16" else 4

    def read_cycles(self, values: int) -> float:
        """Of all multiprocessors together, from L2."""
        bandwidth = self.device.multiprocessors * self.device.l2_bytes_per_cycle
        return values * self.value_bytes / bandwidth

    def microseconds(self, cycles: float, inputs: int, outputs: int) -> float:
        """Of a kernel of so many cycles that reads and writes so many values."""
        busy = (cycles + self.read_cycles(outputs)) / (1e3 * self.device.clock_ghz)
        sizes = (values * self.value_bytes for values in (inputs, outputs))
        # half of the cache: what is written meanwhile passes through it too
        memory = sum(size for size in sizes if size > self.device.l2_bytes / 2)
        return LAUNCH_US + max(busy, memory / (1e3 * self.device.memory_gb_s))


def filled(number: int) -> int:
    """Up to whole tiles."""
    return -(-number // TILE) * TILE
