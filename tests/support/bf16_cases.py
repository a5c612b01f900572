"""Kernels in bfloat16, as ``kernel_cases`` are, held against float64 sums of the same operands.

Operands are rounded to bfloat16 here, so that what remains is the sum's own rounding: of K products
at most K + 1 steps of float32, each by 2^-24 of what has been summed, and where the result is
bfloat16 one of 2^-8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from support.arrays import Array, channels_first, interior, normal, scaled, to_blocked
from support.blocked_cases import evaluate, name_of
from support.kernel_cases import Convolution, Dense
from support.quantized_cases import run
from torch.nn import functional
from tvm import tirx

from schedules.cpu.pair_products import PAIR
from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.bfloat16 import (
    bf16_conv2d,
    bf16_dense,
    bf16_depthwise_conv2d,
    bf16_stem_conv2d,
)
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.cpu.dot_nests import columns_read, tap_dwords
from tvm_mobilenet.kernels.cpu.elementwise import blocked_operand, with_epilogue
from tvm_mobilenet.kernels.cpu.expressions import Expression
from tvm_mobilenet.kernels.cpu.layout import BF16, Blocked
from tvm_mobilenet.kernels.cpu.weights import (
    pack_bf16_stem,
    pack_channels,
    pack_quantized_conv2d,
    pack_quantized_dense,
    pack_quantized_depthwise,
)
from tvm_mobilenet.network.rounding import rounded

Numbers = NDArray[Any]
STEP = 2.0**-23  # of a float32 sum, products included
HALF = 2.0**-8  # of a bfloat16


def stored(array: Array) -> Numbers:
    """As bfloat16; what nobody may read as more than a zero's factor is any number."""
    return np.nan_to_num(array, nan=7.0).astype(ml_dtypes.bfloat16)


def clipped(values: NDArray[np.float64], activation: Activation) -> NDArray[np.float64]:
    low = -np.inf if activation.low is None else activation.low
    high = np.inf if activation.high is None else activation.high
    return np.clip(values, low, high)


@dataclass(frozen=True)
class Bf16Convolution:
    """``real`` says what it is; with an ``expression`` as its epilogue the result is bfloat16.

    ``beside``: the expression reads another tensor like the result. A dense one sums ``depth``
    channels a step.
    """

    real: Convolution
    expression: Expression | None = None
    beside: bool = False
    depth: int = PAIR

    @property
    def id(self) -> str:
        name = "" if self.expression is None else f"-{name_of(self.expression)}"
        depth = "" if self.depth == PAIR else f"-by-{self.depth}"
        return f"bf16_{self.real.id}{name}{depth}"

    @property
    def x(self) -> Blocked:
        """With the halo that the last pair of a row reaches into."""
        x = replace(self.real.x, dtype=BF16)
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

    def func(self) -> tirx.PrimFunc:
        real, out = self.real, self.out
        top, _, left, _ = real.padding
        window = Window(real.kernel, real.stride, (top, left), real.dilation)
        if real.kind == "stem":
            image = (real.batch, real.channels[0], *real.size)
            plain = (image, real.padding, out, window, real.activation)
            func = bf16_stem_conv2d(*plain, self.depth)
        elif real.depthwise:
            func = bf16_depthwise_conv2d(self.x, out, window, real.activation)
        else:
            given = (self.x, out, window, real.activation, real.panel, real.groups)
            func = bf16_conv2d(*given, self.depth)
        if self.expression is None:
            return func
        operands = [blocked_operand(replace(out, dtype=BF16), out)] if self.beside else []
        return with_epilogue(func, self.expression, operands, dtype=BF16)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        real, out = self.real, self.out
        inputs = 1 if real.depthwise else real.channels[0] // real.groups
        shape = (real.channels[1], inputs, *real.kernel)
        image = normal(rng, real.batch, real.channels[0], *real.size)
        read = rounded(image)  # which a first convolution does itself
        weight = rounded(scaled(rng, shape, math.prod(shape[1:])))
        bias = normal(rng, real.channels[1])
        v = real.vectors[1]
        arguments: list[Numbers] = [
            image if real.kind == "stem" else stored(to_blocked(read, self.x, real.padding)),
            self.packed(weight).astype(ml_dtypes.bfloat16),
            pack_channels(bias, v),
        ]
        summed = self.plain(read, weight) + bias[:, None, None]
        sizes = self.plain(np.abs(read), np.abs(weight)) + np.abs(bias)[:, None, None]
        error = STEP * (math.prod(shape[1:]) + 1) * sizes
        values: list[Numbers] = [clipped(summed, real.activation)]
        if self.beside:
            other = rounded(normal(rng, out.batch, out.channels, out.height, out.width))
            values.append(other)
            arguments.append(stored(to_blocked(other, out)))
        if self.expression is None:
            result, expected = run(kernel, out.shape, "float32", *arguments), values[0]
        else:
            result = run(kernel, out.shape, BF16, *arguments).astype(np.float64)
            expected = evaluate(self.expression, values)
            # no expression here is steeper than 2
            error = 2 * error + HALF * np.abs(expected) * 1.01
        padded = channels_first(result, out)
        found = interior(padded, out)[:, : out.channels]
        assert (np.abs(found - expected) <= error + 1e-30).all()
        assert np.abs(summed).max() > 0.1, "not all zeros"
        halo = padded.copy()
        interior(halo, out)[:] = 0
        assert not halo.any(), "the halo is zero"

    def packed(self, weight: Array) -> Array:
        real, v = self.real, self.real.vectors[1]
        if real.kind == "stem":
            return pack_bf16_stem(weight, v, self.depth)
        if real.depthwise:
            taps = tap_dwords(self.out.width, real.kernel[1], real.stride[1], PAIR)
            return pack_quantized_depthwise(weight, v, taps.outputs, real.stride[1], PAIR)
        return pack_quantized_conv2d(weight, v, real.panel, self.depth)

    def plain(self, image: Array, weight: Array) -> NDArray[np.float64]:
        """PyTorch's sums in float64."""
        top, bottom, left, right = self.real.padding
        summed: NDArray[np.float64] = functional.conv2d(
            functional.pad(torch.from_numpy(image).double(), (left, right, top, bottom)),
            torch.from_numpy(weight).double(),
            stride=self.real.stride,
            dilation=self.real.dilation,
            groups=self.real.channels[0] if self.real.depthwise else self.real.groups,
        ).numpy()
        return summed


@dataclass(frozen=True)
class Bf16Dense:
    """``real`` says what it is; its input is float32, which the kernel rounds."""

    real: Dense

    @property
    def id(self) -> str:
        return f"bf16_{self.real.id}"

    def func(self) -> tirx.PrimFunc:
        real = self.real
        return bf16_dense(
            real.batch, real.features, real.blocks, real.panel, real.vector, real.activation
        )

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        real = self.real
        features_in, features_out = real.features
        data = normal(rng, real.batch, features_in)
        weight = rounded(scaled(rng, real.features, features_in))
        bias = normal(rng, features_out)
        packed = pack_quantized_dense(weight, real.vector, real.blocks, real.panel, PAIR)
        arguments = (data, packed.astype(ml_dtypes.bfloat16), bias)
        result = run(kernel, (real.batch, features_out), "float32", *arguments)
        read, exact = rounded(data).astype(float), weight.astype(float)
        expected = clipped(read @ exact + bias, real.activation)
        sizes = np.abs(read) @ np.abs(exact) + np.abs(bias)
        assert (np.abs(result - expected) <= STEP * (features_in + 1) * sizes).all()
