"""Kernels in float16, as ``kernel_cases`` are, held against float64 sums of the same operands.

Operands are rounded to float16 here, so that what remains is the rounding that
``kernels.cpu.float16`` states: in a part of N products at most N steps of 2^-11 of their sizes,
more with each step, then the sum of the parts, bias and result.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from support.arrays import channels_first, interior, normal, scaled, to_blocked
from support.bf16_cases import clipped
from support.blocked_cases import evaluate, name_of
from support.kernel_cases import Convolution, Dense, Separable
from support.quantized_cases import run
from tvm import tirx

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.conv2d import (
    conv2d,
    depthwise_conv2d,
    separable_conv2d,
    stem_conv2d,
)
from tvm_mobilenet.kernels.cpu.elementwise import blocked_operand, with_epilogue
from tvm_mobilenet.kernels.cpu.expressions import Expression
from tvm_mobilenet.kernels.cpu.float16 import half_dense, parts_of
from tvm_mobilenet.kernels.cpu.layout import FP16, Blocked
from tvm_mobilenet.kernels.cpu.weights import pack_channels, pack_conv2d, pack_dense, pack_depthwise
from tvm_mobilenet.network.rounding import rounded

Numbers = NDArray[Any]
STEP = 2.0**-11  # of a number in float16


def half(array: Numbers) -> Numbers:
    """As float16; what nobody may read as more than a zero's factor is any number."""
    return np.nan_to_num(array, nan=7.0).astype(np.float16)


def exact(array: Numbers) -> Numbers:
    """The numbers of float16, which sums in float64 have no rounding to add to."""
    return rounded(array.astype(np.float32), "fp16").astype(np.float64)


def sum_error(products: int, sizes: Numbers) -> Numbers:
    """Of a part of so many products, of which a whole sum's are ``sizes``."""
    error: Numbers = products * STEP / (1 - products * STEP) * sizes
    return error


@dataclass(frozen=True)
class HalfConvolution:
    """``real`` says what it is; with an ``expression`` as its epilogue that is in float32.

    ``beside``: the expression reads another tensor like the result, which is float16 in any case
    but where ``plain``: then it is float32.
    """

    real: Convolution
    expression: Expression | None = None
    beside: bool = False
    plain: bool = False

    @property
    def id(self) -> str:
        name = "" if self.expression is None else f"-{name_of(self.expression)}"
        return f"fp16_{self.real.id}{name}{'-plain' * self.plain}"

    @property
    def x(self) -> Blocked:
        return replace(self.real.x, dtype=FP16)

    @property
    def out(self) -> Blocked:
        made = self.expression is None and not self.plain
        return replace(self.real.out, dtype=FP16) if made else self.real.out

    def func(self) -> tirx.PrimFunc:
        real, out = self.real, self.out
        top, _, left, _ = real.padding
        window = Window(real.kernel, real.stride, (top, left), real.dilation)
        if real.kind == "stem":
            image = (real.batch, real.channels[0], *real.size)
            func = stem_conv2d(image, real.padding, out, window, real.activation, FP16)
        elif real.depthwise:
            func = depthwise_conv2d(self.x, out, window, real.activation)
        else:
            func = conv2d(self.x, out, window, real.activation, real.panel, real.groups)
        if self.expression is None:
            return func
        operands = [blocked_operand(replace(out, dtype=FP16), out)] if self.beside else []
        return with_epilogue(func, self.expression, operands, dtype=FP16)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        real, out = self.real, self.out
        weight: Numbers
        weight, bias = real.weights(rng)
        image = normal(rng, real.batch, real.channels[0], *real.size)
        packed, packed_bias = real.packed(weight, bias)
        arguments: list[Numbers] = [
            image if real.kind == "stem" else half(to_blocked(image, self.x, real.padding)),
            half(packed),
            packed_bias,
        ]
        read, weight = exact(image), exact(weight)
        no_clamp = replace(real, activation=type(real.activation)())
        summed: Numbers = no_clamp.plain(read, weight, bias.astype(float))
        sizes = no_clamp.plain(np.abs(read), np.abs(weight), np.abs(bias).astype(float))
        products = math.prod(weight.shape[1:])
        if not real.depthwise and real.kind != "stem":
            products //= parts_of(real.kernel, weight.shape[1]).count
        # two more: of the bias, where it is float16, and of what it is added to
        error = sum_error(products + 2, sizes)
        values: list[Numbers] = [clipped(summed, real.activation)]
        if self.beside:
            other = normal(rng, out.batch, out.channels, out.height, out.width)
            values.append(exact(other))
            arguments.append(half(to_blocked(other, out)))
        if self.expression is None:
            expected = values[0]
        else:
            # no expression here is steeper than 2
            expected, error = evaluate(self.expression, values), 2 * error
        dtype = "float32" if self.plain else FP16
        error = error + (0 if self.plain else STEP) * np.abs(expected) + 2.0**-24
        result: Numbers = run(kernel, out.shape, dtype, *arguments).astype(np.float64)
        padded = channels_first(result, out)
        found = interior(padded, out)[:, : out.channels]
        assert (np.abs(found - expected) <= error).all()
        # unless an activation made constants of all
        in_float16 = bool((exact(expected) == expected).all())
        assert in_float16 or np.abs(found - expected).max() > 0, "rounded"
        assert np.abs(summed).max() > 0.1, "not all zeros"
        halo = padded.copy()
        interior(halo, out)[:] = 0
        assert not halo.any(), "the halo is zero"


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
        read, taps, matrix = exact(image), exact(filters), exact(weight)
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
class HalfDense:
    """``real`` says what it is; its input is float32, which the kernel rounds."""

    real: Dense

    @property
    def id(self) -> str:
        return f"fp16_{self.real.id}"

    def func(self) -> tirx.PrimFunc:
        real = self.real
        return half_dense(
            real.batch, real.features, real.blocks, real.panel, real.vector, real.activation
        )

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        real = self.real
        features_in, features_out = real.features
        data = normal(rng, real.batch, features_in)
        weight = scaled(rng, real.features, features_in)
        bias = normal(rng, features_out)
        packed = half(pack_dense(weight, real.vector, real.blocks, real.panel))
        result = run(kernel, (real.batch, features_out), "float32", data, packed, bias)
        read, matrix = exact(data), exact(weight)
        expected = clipped(read @ matrix + bias, real.activation)
        sizes = np.abs(read) @ np.abs(matrix) + np.abs(bias)
        part = features_in // parts_of((1, 1), features_in).count
        assert (np.abs(result - expected) <= sum_error(part + 1, sizes)).all()
