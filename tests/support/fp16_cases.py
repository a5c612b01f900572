"""Kernels in float16.

What remains is the rounding that ``kernels.cpu.float16`` states: in a part of N products at most N
steps of 2^-11 of their sizes, more with each step, then the sum of the parts, bias and result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from support.arrays import channels_first, interior, normal, to_blocked
from support.kernel_cases import Separable
from support.quantized_cases import run
from support.rounded_cases import (
    Numbers,
    RoundedConvolution,
    RoundedDense,
    exact,
    stored,
)
from tvm import tirx

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.conv2d import (
    conv2d,
    depthwise_conv2d,
    separable_conv2d,
    stem_conv2d,
)
from tvm_mobilenet.kernels.cpu.float16 import half_dense, parts_of
from tvm_mobilenet.kernels.cpu.layout import FP16, Blocked
from tvm_mobilenet.kernels.cpu.weights import pack_channels, pack_conv2d, pack_dense, pack_depthwise

STEP = 2.0**-11  # of a number in float16
half, exact_half = partial(stored, dtype=FP16), partial(exact, dtype=FP16)


def sum_error(products: int, sizes: Numbers) -> Numbers:
    """Of a part of so many products, of which a whole sum's are ``sizes``."""
    error: Numbers = products * STEP / (1 - products * STEP) * sizes
    return error


@dataclass(frozen=True)
class HalfConvolution(RoundedConvolution):
    """The result is float16; where ``plain`` it is float32."""

    plain: bool = False

    precision = "fp16"
    dtype = FP16

    @property
    def id(self) -> str:
        return super().id + "-plain" * self.plain

    @property
    def out(self) -> Blocked:
        made = self.expression is None and not self.plain
        return replace(self.real.out, dtype=FP16) if made else self.real.out

    @property
    def result(self) -> str:
        return "float32" if self.plain else FP16

    def kernel(self, image: tuple[int, int, int, int], window: Window) -> tirx.PrimFunc:
        real, out = self.real, self.out
        if real.kind == "stem":
            return stem_conv2d(image, real.padding, out, window, real.activation, FP16)
        if real.depthwise:
            return depthwise_conv2d(self.x, out, window, real.activation)
        return conv2d(self.x, out, window, real.activation, real.panel, real.groups)

    def packed(self, weight: Numbers) -> Numbers:
        return self.real.packed(weight, np.zeros(len(weight), np.float32))[0]

    def sum_error(self, weight: Numbers, sizes: Numbers) -> Numbers:
        products = math.prod(weight.shape[1:])
        if not self.real.depthwise and self.real.kind != "stem":
            products //= parts_of(self.real.kernel, weight.shape[1]).count
        # two more: of the bias, where it is float16, and of what it is added to
        return sum_error(products + 2, sizes)

    def store_error(self, expected: Numbers) -> Numbers:
        return (0 if self.plain else STEP) * np.abs(expected) + 2.0**-24


@dataclass(frozen=True)
class HalfSeparable:
    real: Separable

    @property
    def id(self) -> str:
        return f"fp16_{self.real.id}"

    def func(self) -> tirx.PrimFunc:
        real, first = self.real, self.real.first
        top, _, left, _ = first.padding
        window = Window(first.kernel, first.stride, (top, left))
        x, middle, out = (replace(one, dtype=FP16) for one in (first.x, first.out, real.out))
        activations = (first.activation, real.activation)
        return separable_conv2d(x, middle, out, window, *activations, real.panel)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        real, first, second = self.real, self.real.first, self.real.second
        filters, filter_bias = first.weights(rng)
        weight, bias = second.weights(rng)
        image = normal(rng, first.batch, first.channels[0], *first.size)
        v = first.vectors[1]
        result = run(
            kernel,
            real.out.shape,
            FP16,
            half(to_blocked(image, first.x, first.padding)),
            half(pack_depthwise(filters, v)),
            pack_channels(filter_bias, v),
            half(pack_conv2d(weight, real.vector, real.panel)),
            pack_channels(bias, real.vector),
        )
        read, taps, matrix = exact_half(image), exact_half(filters), exact_half(weight)
        middle: Numbers = first.plain(read, taps, filter_bias.astype(float))
        sizes: Numbers = first.plain(np.abs(read), np.abs(taps), np.abs(filter_bias).astype(float))
        expected: Numbers = second.plain(middle, matrix, bias.astype(float))
        off = sum_error(math.prod(first.kernel) + 3, sizes)
        zero: Numbers = np.zeros(len(bias))
        error: Numbers = second.plain(off, np.abs(matrix), zero)
        part = second.channels[0] // parts_of((1, 1), second.channels[0]).count
        whole = second.plain(np.abs(middle) + off, np.abs(matrix), np.abs(bias).astype(float))
        error = error + sum_error(part + 2, whole) + STEP * np.abs(expected)
        found = interior(channels_first(result.astype(np.float64), real.out), real.out)
        assert (np.abs(found[:, : real.channels] - expected) <= error).all()


@dataclass(frozen=True)
class HalfDense(RoundedDense):
    precision = "fp16"
    dtype = FP16

    def func(self) -> tirx.PrimFunc:
        real = self.real
        return half_dense(
            real.batch, real.features, real.blocks, real.panel, real.vector, real.activation
        )

    def packed(self, weight: Numbers) -> Numbers:
        return pack_dense(weight, self.real.vector, self.real.blocks, self.real.panel)

    def sum_error(self, sizes: Numbers) -> Numbers:
        features = self.real.features[0]
        return sum_error(features // parts_of((1, 1), features).count + 1, sizes)
