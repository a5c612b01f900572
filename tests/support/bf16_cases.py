"""Kernels in bfloat16.

Of sums only their own rounding remains: of K products at most K + 1 steps of float32, each by 2^-24
of what has been summed, and where the result is bfloat16 one of 2^-8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from support.rounded_cases import Numbers, RoundedConvolution, RoundedDense
from tvm import tirx

from schedules.cpu.pair_products import PAIR
from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.bfloat16 import (
    bf16_conv2d,
    bf16_dense,
    bf16_depthwise_conv2d,
    bf16_stem_conv2d,
)
from tvm_mobilenet.kernels.cpu.dot_nests import columns_read, tap_dwords
from tvm_mobilenet.kernels.cpu.layout import BF16, Blocked
from tvm_mobilenet.kernels.cpu.weights import (
    pack_bf16_stem,
    pack_quantized_conv2d,
    pack_quantized_dense,
    pack_quantized_depthwise,
)

STEP = 2.0**-23  # of a float32 sum, products included
HALF = 2.0**-8  # of a bfloat16


@dataclass(frozen=True)
class Bf16Convolution(RoundedConvolution):
    """With an ``expression`` the result is bfloat16. A dense one sums ``depth`` channels a step."""

    depth: int = PAIR

    precision = "bf16"
    dtype = BF16

    @property
    def id(self) -> str:
        return super().id + ("" if self.depth == PAIR else f"-by-{self.depth}")

    @property
    def x(self) -> Blocked:
        """With the halo that the last pair of a row reaches into."""
        x = super().x
        _, _, left, right = self.real.padding
        width, taps, stride = self.out.width, self.real.kernel[1], self.real.stride[1]
        if self.real.depthwise:
            read = columns_read(width, taps, stride, PAIR)
        elif self.depth == PAIR:
            return x
        else:  # both pixels of a row's last pair
            read = (width + width % 2 - 1) * stride + (taps - 1) * self.real.dilation[1] + 1
        beyond = max(0, read - left - x.width - right)
        return replace(x, halo=replace(x.halo, right=x.halo.right + beyond))

    @property
    def out(self) -> Blocked:
        return self.real.out

    @property
    def result(self) -> str:
        return "float32" if self.expression is None else BF16

    def kernel(self, image: tuple[int, int, int, int], window: Window) -> tirx.PrimFunc:
        real, out = self.real, self.out
        if real.kind == "stem":
            plain = (image, real.padding, out, window, real.activation)
            return bf16_stem_conv2d(*plain, self.depth)
        if real.depthwise:
            return bf16_depthwise_conv2d(self.x, out, window, real.activation)
        given = (self.x, out, window, real.activation, real.panel, real.groups)
        return bf16_conv2d(*given, self.depth)

    def packed(self, weight: Numbers) -> Numbers:
        real, v = self.real, self.real.vectors[1]
        if real.kind == "stem":
            return pack_bf16_stem(weight, v, self.depth)
        if real.depthwise:
            taps = tap_dwords(self.out.width, real.kernel[1], real.stride[1], PAIR)
            return pack_quantized_depthwise(weight, v, taps.outputs, real.stride[1], PAIR)
        return pack_quantized_conv2d(weight, v, real.panel, self.depth)

    def sum_error(self, weight: Numbers, sizes: Numbers) -> Numbers:
        return STEP * (math.prod(weight.shape[1:]) + 1) * sizes

    def store_error(self, expected: Numbers) -> Numbers:
        step = 0 if self.expression is None else HALF
        return step * np.abs(expected) * 1.01 + 1e-30


@dataclass(frozen=True)
class Bf16Dense(RoundedDense):
    precision = "bf16"
    dtype = BF16

    def func(self) -> tirx.PrimFunc:
        real = self.real
        return bf16_dense(
            real.batch, real.features, real.blocks, real.panel, real.vector, real.activation
        )

    def packed(self, weight: Numbers) -> Numbers:
        return pack_quantized_dense(
            weight, self.real.vector, self.real.blocks, self.real.panel, PAIR
        )

    def sum_error(self, sizes: Numbers) -> Numbers:
        return STEP * (self.real.features[0] + 1) * sizes
