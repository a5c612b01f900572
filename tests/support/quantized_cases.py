"""Kernels over integers, as ``kernel_cases`` are: what stands where nothing is read is any byte.

The reference sums in float64, where sums of products of bytes are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import tvm
from numpy.typing import NDArray
from support.arrays import (
    Array,
    activate,
    channels_first,
    interior,
    normal,
    to_blocked,
)
from support.blocked_cases import evaluate, name_of
from support.kernel_cases import Convolution, Dense, describe
from torch.nn import functional
from tvm import tirx

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.elementwise import (
    blocked_operand,
    copy,
    read_integers,
    with_epilogue,
)
from tvm_mobilenet.kernels.cpu.expressions import (
    SELF,
    Expression,
    QuantizationParameters,
    dequantize,
    is_quantized,
    quantize,
)
from tvm_mobilenet.kernels.cpu.head import global_avg_pool2d
from tvm_mobilenet.kernels.cpu.layout import NO_HALO, Blocked, Halo
from tvm_mobilenet.kernels.cpu.quantized import (
    columns_read,
    quantized_conv2d,
    quantized_dense,
    quantized_depthwise_conv2d,
    quantized_stem_conv2d,
    tap_dwords,
)
from tvm_mobilenet.kernels.cpu.weights import (
    pack_channels,
    pack_quantized_conv2d,
    pack_quantized_dense,
    pack_quantized_depthwise,
    pack_quantized_stem,
)

Bytes = NDArray[np.uint8]
AnyArray = NDArray[Any]
FILL = 93  # what stands for zero
IMAGE = QuantizationParameters(0.025, 120)  # of a stem's image
RESULT = QuantizationParameters(0.03, 131)
SPREAD = 2.0  # the usual size of a sum as a real value
DIFFERENT = 0.01  # of quantized results: the next integer, where a value lies between two
BEFORE = (0x5A, 0xA5)  # what a result holds before a kernel writes it


def random_bytes(rng: np.random.Generator, *shape: int) -> Bytes:
    return rng.integers(0, 256, shape, dtype=np.uint8)


def blocked_bytes(
    rng: np.random.Generator,
    image: Bytes,
    x: Blocked,
    padding: tuple[int, int, int, int] | None = None,
) -> Bytes:
    """``image`` in the layout; FILL where ``padding`` reaches, beyond it any bytes."""
    above = to_blocked(image.astype(np.float32) - FILL, x, padding) + FILL
    filled = np.where(np.isnan(above), random_bytes(rng, *above.shape), above)
    result: Bytes = filled.astype(np.uint8)
    return result


def run(
    kernel: Callable[..., object], shape: tuple[int, ...], dtype: str, *args: object
) -> AnyArray:
    """What ``kernel`` writes, all of it: the same over whatever was there before."""
    results = []
    for byte in BEFORE:
        before = np.full(math.prod(shape) * np.dtype(dtype).itemsize, byte, np.uint8)
        output = tvm.runtime.tensor(before.view(dtype).reshape(shape))
        kernel(*map(tvm.runtime.tensor, args), output)
        results.append(output.numpy())
    first, second = results
    np.testing.assert_array_equal(first, second, "an element is left unwritten")
    result: AnyArray = first
    return result


def check_values(result: AnyArray, expected: NDArray[np.float64]) -> None:
    """Real values to rounding, integers to the next one where two are as near."""
    if result.dtype != np.uint8:
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
        return
    apart = np.abs(result.astype(int) - expected)
    assert apart.max() <= 1
    assert np.count_nonzero(apart) <= max(1, DIFFERENT * apart.size)


def check_blocked(result: AnyArray, x: Blocked, expected: NDArray[np.float64]) -> None:
    """The image is as expected, and all of the halo stands for zero."""
    padded = channels_first(result, x)
    check_values(interior(padded, x)[:, : x.channels], expected)
    halo = padded.astype(float) - x.fill
    interior(halo, x)[:] = 0
    assert not halo.any(), "the halo is what stands for zero"


def result_layout(out: Blocked, expression: Expression) -> Blocked:
    return replace(out, dtype="uint8", fill=FILL) if is_quantized(expression) else out


@dataclass(frozen=True)
class QuantizedConvolution:
    """``real`` says what it is, of real numbers; ``expression`` is its epilogue, uint8 or not.

    ``beside``: the expression reads another tensor of integers, like the result.
    """

    real: Convolution
    expression: Expression = SELF
    beside: bool = False

    @property
    def id(self) -> str:
        name = "" if self.expression == SELF else f"-{name_of(self.expression)}"
        return f"quantized_{self.real.id}{name}"

    @property
    def x(self) -> Blocked:
        """With the halo that the last dot product of a row reaches into."""
        x = self.real.x
        _, _, left, right = self.real.padding
        if not self.real.depthwise:
            return x
        read = columns_read(self.out.width, self.real.kernel[1], self.real.stride[1])
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
            func = quantized_stem_conv2d(image, real.padding, out, window, IMAGE, real.activation)
        elif real.kind == "depthwise":
            func = quantized_depthwise_conv2d(self.x, out, window, real.activation)
        else:
            func = quantized_conv2d(self.x, out, window, real.activation, real.panel, real.groups)
        if self.expression == SELF:
            return func
        operands = [blocked_operand(replace(out, dtype="uint8"), out)] if self.beside else []
        return with_epilogue(func, self.expression, operands, FILL)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        real, out = self.real, result_layout(self.out, self.expression)
        data, integers = self.draw(rng)
        weight = rng.integers(-127, 128, self.weight_shape, dtype=np.int8)
        count = math.prod(weight.shape[1:])
        scale = rng.uniform(0.5, 2, real.channels[1]).astype(np.float32)
        scale *= np.float32(SPREAD / (147 * 74 * math.sqrt(count)))
        bias = normal(rng, real.channels[1])
        v = real.vectors[1]
        arguments: list[AnyArray] = [
            data,
            self.packed(weight),
            pack_channels(scale, v),
            pack_channels(bias, v),
        ]
        values: list[AnyArray] = [self.plain(integers, weight, scale, bias)]
        if self.beside:
            other = random_bytes(rng, out.batch, out.channels, out.height, out.width)
            values.append(other)
            arguments.append(blocked_bytes(rng, other, out))
        result = run(kernel, out.shape, out.dtype, *arguments)
        check_blocked(result, out, evaluate(self.expression, values))

    @property
    def weight_shape(self) -> tuple[int, ...]:
        inputs = 1 if self.real.depthwise else self.real.channels[0] // self.real.groups
        return (self.real.channels[1], inputs, *self.real.kernel)

    def draw(self, rng: np.random.Generator) -> tuple[Array | Bytes, Bytes]:
        """What the kernel reads, and the image's integers."""
        shape = (self.real.batch, self.real.channels[0], *self.real.size)
        if self.real.kind == "stem":
            image = normal(rng, *shape)
            return image, evaluate(quantize(SELF, IMAGE), [image]).astype(np.uint8)
        integers = random_bytes(rng, *shape)
        return blocked_bytes(rng, integers, self.x, self.real.padding), integers

    def packed(self, weight: NDArray[np.int8]) -> NDArray[np.int8]:
        real, v = self.real, self.real.vectors[1]
        if real.kind == "stem":
            return pack_quantized_stem(weight, v)
        if real.kind == "depthwise":
            taps = tap_dwords(self.out.width, real.kernel[1], real.stride[1])
            return pack_quantized_depthwise(weight, v, taps.outputs, real.stride[1])
        return pack_quantized_conv2d(weight, v, real.panel)

    def plain(
        self, integers: Bytes, weight: NDArray[np.int8], scale: Array, bias: Array
    ) -> NDArray[np.float64]:
        """What PyTorch makes of an image's integers."""
        top, bottom, left, right = self.real.padding
        fill = IMAGE.zero_point if self.real.kind == "stem" else FILL
        summed = functional.conv2d(
            functional.pad(
                torch.from_numpy(integers).double(), (left, right, top, bottom), value=fill
            ),
            torch.from_numpy(weight).double(),
            stride=self.real.stride,
            dilation=self.real.dilation,
            groups=self.real.channels[0] if self.real.depthwise else self.real.groups,
        ).numpy()
        scaled = summed * scale[:, None, None] + bias[:, None, None]
        return activate(scaled, self.real.activation).astype(np.float64)


@dataclass(frozen=True)
class QuantizedDense:
    """``real`` says what it is, of real numbers; ``expression`` is its epilogue."""

    real: Dense
    expression: Expression = SELF

    @property
    def id(self) -> str:
        name = "" if self.expression == SELF else f"-{name_of(self.expression)}"
        return f"quantized_{self.real.id}{name}"

    def func(self) -> tirx.PrimFunc:
        real = self.real
        func = quantized_dense(
            real.batch, real.features, real.blocks, real.panel, real.vector, real.activation
        )
        return func if self.expression == SELF else with_epilogue(func, self.expression)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        real = self.real
        features_in, features_out = real.features
        data = random_bytes(rng, real.batch, features_in)
        weight = rng.integers(-127, 128, real.features, dtype=np.int8)
        scale = rng.uniform(0.5, 2, features_out).astype(np.float32)
        scale *= np.float32(SPREAD / (147 * 74 * math.sqrt(features_in)))
        bias = normal(rng, features_out)
        packed = pack_quantized_dense(weight, real.vector, real.blocks, real.panel)
        dtype = "uint8" if is_quantized(self.expression) else "float32"
        result = run(kernel, (real.batch, features_out), dtype, data, packed, scale, bias)
        summed = data.astype(float) @ weight.astype(float)
        values = activate(summed * scale + bias, real.activation)
        check_values(result, evaluate(self.expression, [values]))


@dataclass(frozen=True)
class ElementwiseIntegers:
    """An expression of a blocked tensor of integers, uint8 or not."""

    x: Blocked
    expression: Expression
    halo: Halo = NO_HALO

    @property
    def id(self) -> str:
        return f"integers-{name_of(self.expression)}-{describe(self.x)}"

    def func(self) -> tirx.PrimFunc:
        x = self.x
        return with_epilogue(
            read_integers(copy(x, replace(x, halo=self.halo))), self.expression, fill=FILL
        )

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        x, out = self.x, result_layout(replace(self.x, halo=self.halo), self.expression)
        image = random_bytes(rng, x.batch, x.channels, x.height, x.width)
        result = run(kernel, out.shape, out.dtype, blocked_bytes(rng, image, x))
        check_blocked(result, out, evaluate(self.expression, [image]))


@dataclass(frozen=True)
class IntegerPooling:
    """The mean of the image that blocked integers stand for, quantized."""

    x: Blocked

    @property
    def id(self) -> str:
        return f"pool_integers-{describe(self.x)}"

    def func(self) -> tirx.PrimFunc:
        func = read_integers(global_avg_pool2d(self.x), IMAGE)
        return with_epilogue(func, quantize(SELF, RESULT))

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        x = self.x
        image = random_bytes(rng, x.batch, x.channels, x.height, x.width)
        result = run(kernel, (x.batch, x.channels), "uint8", blocked_bytes(rng, image, x))
        mean = evaluate(dequantize(SELF, IMAGE), [image]).mean((2, 3))
        check_values(result, evaluate(quantize(SELF, RESULT), [mean]))
