"""Kernels over integers, as ``kernel_cases`` are: what stands where nothing is read is any byte.

A case is of uint8 activations, or of int8: everything is 128 lower then, and means the same.

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

from schedules.cpu.byte_instructions import BYTES
from schedules.cpu.register_products import REGISTER
from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.dot_nests import columns_read, tap_dwords
from tvm_mobilenet.kernels.cpu.elementwise import (
    blocked_operand,
    copy,
    read_integers,
    with_epilogue,
)
from tvm_mobilenet.kernels.cpu.expressions import (
    LIMITS,
    SELF,
    Apply,
    Expression,
    Input,
    QuantizationParameters,
    apply,
    dequantize,
    dtype_of,
    is_quantized,
    quantize,
)
from tvm_mobilenet.kernels.cpu.head import global_avg_pool2d
from tvm_mobilenet.kernels.cpu.layout import NO_HALO, Blocked, Halo
from tvm_mobilenet.kernels.cpu.quantized import (
    quantized_conv2d,
    quantized_dense,
    quantized_depthwise_conv2d,
    quantized_stem_conv2d,
)
from tvm_mobilenet.kernels.cpu.quantized_without_dots import (
    partial_conv2d,
    planar_stem_conv2d,
    tapped_depthwise_conv2d,
)
from tvm_mobilenet.kernels.cpu.requantization import FLOAT_BIAS, POINT, FixedPoint
from tvm_mobilenet.kernels.cpu.sum_order import TOGETHER, SumOrder
from tvm_mobilenet.kernels.cpu.weights import (
    pack_bits,
    pack_channels,
    pack_planar_stem,
    pack_quantized_conv2d,
    pack_quantized_dense,
    pack_quantized_depthwise,
    pack_quantized_stem,
)

Bytes = NDArray[np.integer[Any]]
AnyArray = NDArray[Any]
FILL = 93  # what stands for zero
IMAGE = QuantizationParameters(0.025, 120)  # of a stem's image
RESULT = QuantizationParameters(0.03, 131)
SPREAD = 2.0  # the usual size of a sum as a real value
DIFFERENT = 0.01  # of quantized results: the next integer, where a value lies between two
BETWEEN = 128  # a uint8 and the int8 that stands for the same value
BEFORE = (0x5A, 0xA5)  # what a result holds before a kernel writes it


def random_bytes(rng: np.random.Generator, dtype: str, *shape: int) -> Bytes:
    low, high = LIMITS[dtype]
    return rng.integers(low, high + 1, shape, dtype=np.dtype(dtype).type)


def below(dtype: str) -> int:
    """How much lower its integers are than the uint8 that stand for the same values."""
    return BETWEEN if dtype == "int8" else 0


def lowered(quantization: QuantizationParameters, dtype: str) -> QuantizationParameters:
    return replace(quantization, zero_point=quantization.zero_point - below(dtype), dtype=dtype)


def of_signed(expression: Expression) -> Expression:
    """The expression of int8 that stand for the same values as its uint8."""
    if not isinstance(expression, Apply):
        return expression
    args = tuple(of_signed(arg) for arg in expression.args)
    if is_quantized(expression):
        args = (apply("subtract", args[0], float(BETWEEN)),)
    if expression.operator == "subtract" and isinstance(expression.args[0], Input):
        zero = expression.args[1]
        assert isinstance(zero, float)
        args = (args[0], zero - BETWEEN)
    return Apply(expression.operator.replace("uint8", "int8"), args)


def blocked_bytes(
    rng: np.random.Generator,
    image: Bytes,
    x: Blocked,
    padding: tuple[int, int, int, int] | None = None,
) -> Bytes:
    """``image`` in the layout; FILL where ``padding`` reaches, beyond it any bytes."""
    fill, dtype = FILL - below(str(image.dtype)), image.dtype
    above = to_blocked(image.astype(np.float32) - fill, x, padding) + fill
    filled = np.where(np.isnan(above), random_bytes(rng, str(dtype), *above.shape), above)
    result: Bytes = filled.astype(dtype)
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
    if str(result.dtype) not in LIMITS:
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
    dtype = dtype_of(expression)
    return replace(out, dtype=dtype, fill=FILL - below(dtype)) if dtype in LIMITS else out


@dataclass(frozen=True)
class QuantizedConvolution:
    """``real`` says what it is, of real numbers; ``expression`` is its epilogue, of bytes or not.

    ``beside``: the expression reads another tensor of integers, like the result.
    """

    real: Convolution
    expression: Expression = SELF
    beside: bool = False
    dtype: str = "uint8"
    depth: int = 4  # bytes that a step of a dense convolution sums; 16 without dot products
    offset: int | None = None  # of results in fixed point
    together: int = 1  # steps that are summed in 16 bits
    table: bool = False  # which says that of each tile, and its order

    @property
    def id(self) -> str:
        name = "" if self.expression == SELF else f"-{name_of(self.expression)}"
        by = f"-by{self.depth}" * (self.depth > 4)
        by += f"-together{self.together}" * (self.together > 1) + "-ordered" * self.table
        by += "" if self.offset is None else f"-fixed{self.offset}"
        return f"{self.dtype}_{self.real.id}{name}{by}"

    @property
    def x(self) -> Blocked:
        """With the halo that the last dot product of a row reaches into."""
        x = replace(self.real.x, dtype=self.dtype)
        _, _, left, right = self.real.padding
        if not self.real.depthwise or self.depth == REGISTER:
            return x
        read = columns_read(self.out.width, self.real.kernel[1], self.real.stride[1], BYTES)
        beyond = max(0, read - left - x.width - right)
        return replace(x, halo=replace(x.halo, right=x.halo.right + beyond))

    @property
    def out(self) -> Blocked:
        return self.real.out

    def func(self) -> tirx.PrimFunc:
        real, out = self.real, self.out
        top, _, left, _ = real.padding
        window = Window(real.kernel, real.stride, (top, left), real.dilation)
        how = FLOAT_BIAS if self.offset is None else FixedPoint(self.offset)
        if real.kind == "stem":
            image = (real.batch, real.channels[0], *real.size)
            quantization = lowered(IMAGE, self.dtype)
            stem = planar_stem_conv2d if self.depth == REGISTER else quantized_stem_conv2d
            func = stem(image, real.padding, out, window, quantization, real.activation, how)
        elif real.kind == "depthwise":
            kernel = (
                tapped_depthwise_conv2d if self.depth == REGISTER else quantized_depthwise_conv2d
            )
            func = kernel(self.x, out, window, real.activation, how)
        elif self.depth == REGISTER:
            func = partial_conv2d(
                self.x,
                out,
                window,
                real.activation,
                real.groups,
                how,
                together=self.together,
                entries=self.weight_shape[1] // REGISTER if self.table else 0,
            )
        else:
            func = quantized_conv2d(
                self.x,
                out,
                window,
                real.activation,
                real.panel,
                real.groups,
                self.depth,
                requantization=how,
            )
        if self.expression == SELF:
            return func
        operands = [blocked_operand(replace(out, dtype=self.dtype), out)] if self.beside else []
        return with_epilogue(func, self.expression, operands, FILL - below(self.dtype))

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        real, out = self.real, result_layout(self.out, self.expression)
        data, integers = self.draw(rng)
        most = 255 // (2 * self.together)
        weight = rng.integers(-min(most, 127), min(most, 127) + 1, self.weight_shape, dtype=np.int8)
        count = math.prod(weight.shape[1:])
        scale = rng.uniform(0.5, 2, real.channels[1]).astype(np.float32)
        scale *= np.float32(SPREAD / (147 * 74 * math.sqrt(count)))
        bias = normal(rng, real.channels[1])
        if self.offset is not None:  # results in units, biases in those of sums
            scale = scale / np.float32(RESULT.scale)
            bias = np.rint(bias / RESULT.scale / scale) * scale + np.float32(self.offset)
        v = real.vectors[1]
        packed: list[AnyArray] = [self.packed(weight)]
        if self.table:
            order = self.any_order(rng)
            assert order.table is not None
            packed = [order.reorder(packed[0]), order.table]
        arguments: list[AnyArray] = [
            data,
            *packed,
            pack_channels(scale, v),
            self.packed_bias(weight, scale, bias),
        ]
        values: list[AnyArray] = [self.plain(integers, weight, scale, bias)]
        if self.beside:
            other = random_bytes(rng, self.dtype, out.batch, out.channels, out.height, out.width)
            values.append(other)
            arguments.append(blocked_bytes(rng, other, out))
        result = run(kernel, out.shape, out.dtype, *arguments)
        check_blocked(result, out, evaluate(self.expression, values))

    def any_order(self, rng: np.random.Generator) -> SumOrder:
        """Of steps of which none but those that fit anyway are said to be summed together."""
        steps = self.weight_shape[1] // REGISTER
        tiles = (self.out.blocks, self.out.vector // TOGETHER, steps)
        order = rng.permuted(np.broadcast_to(np.arange(steps), tiles), axis=-1)
        together = steps // self.together * self.together
        counts = [together if self.together == 4 else 0, together]
        ends = np.broadcast_to(counts, (*tiles[:2], 2))
        return SumOrder(self.together, np.concatenate([order, ends], axis=-1).astype(np.int32))

    def packed_bias(self, weight: NDArray[np.int8], scale: Array, bias: Array) -> AnyArray:
        if self.offset is None:
            return pack_channels(bias, self.real.vectors[1])
        start = np.rint((bias.astype(np.float64) - self.offset) / scale)
        multiplier = np.rint(scale.astype(np.float64) * 2**POINT)
        bits = np.stack([start, multiplier], axis=1).astype(np.int32)
        return pack_bits(bits, self.real.vectors[1])

    @property
    def weight_shape(self) -> tuple[int, ...]:
        inputs = 1 if self.real.depthwise else self.real.channels[0] // self.real.groups
        return (self.real.channels[1], inputs, *self.real.kernel)

    def draw(self, rng: np.random.Generator) -> tuple[Array | Bytes, Bytes]:
        """What the kernel reads, and the image's integers."""
        shape = (self.real.batch, self.real.channels[0], *self.real.size)
        if self.real.kind == "stem":
            image = normal(rng, *shape)
            values = evaluate(quantize(SELF, lowered(IMAGE, self.dtype)), [image])
            return image, values.astype(self.dtype)
        integers = random_bytes(rng, self.dtype, *shape)
        return blocked_bytes(rng, integers, self.x, self.real.padding), integers

    def packed(self, weight: NDArray[np.int8]) -> NDArray[np.int8] | NDArray[np.int16]:
        real, v = self.real, self.real.vectors[1]
        if real.kind == "stem" and self.depth == REGISTER:
            return pack_planar_stem(weight, v)
        if real.kind == "stem":
            return pack_quantized_stem(weight, v)
        if real.kind == "depthwise" and self.depth == REGISTER:
            return pack_channels(weight[:, 0], v)
        if real.kind == "depthwise":
            taps = tap_dwords(self.out.width, real.kernel[1], real.stride[1], BYTES)
            return pack_quantized_depthwise(weight, v, taps.outputs, real.stride[1])
        return pack_quantized_conv2d(weight, v, real.panel, self.depth)

    def plain(
        self, integers: Bytes, weight: NDArray[np.int8], scale: Array, bias: Array
    ) -> NDArray[np.float64]:
        """What PyTorch makes of an image's integers."""
        top, bottom, left, right = self.real.padding
        fill = IMAGE.zero_point if self.real.kind == "stem" else FILL
        fill -= below(self.dtype)
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
    dtype: str = "uint8"

    @property
    def id(self) -> str:
        name = "" if self.expression == SELF else f"-{name_of(self.expression)}"
        return f"{self.dtype}_{self.real.id}{name}"

    def func(self) -> tirx.PrimFunc:
        real = self.real
        func = quantized_dense(
            real.batch,
            real.features,
            real.blocks,
            real.panel,
            real.vector,
            real.activation,
            self.dtype,
        )
        return func if self.expression == SELF else with_epilogue(func, self.expression)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        real = self.real
        features_in, features_out = real.features
        data = random_bytes(rng, self.dtype, real.batch, features_in)
        weight = rng.integers(-127, 128, real.features, dtype=np.int8)
        scale = rng.uniform(0.5, 2, features_out).astype(np.float32)
        scale *= np.float32(SPREAD / (147 * 74 * math.sqrt(features_in)))
        bias = normal(rng, features_out)
        packed = pack_quantized_dense(weight, real.vector, real.blocks, real.panel)
        dtype = dtype_of(self.expression)
        result = run(kernel, (real.batch, features_out), dtype, data, packed, scale, bias)
        summed = data.astype(float) @ weight.astype(float)
        values = activate(summed * scale + bias, real.activation)
        check_values(result, evaluate(self.expression, [values]))


@dataclass(frozen=True)
class ElementwiseIntegers:
    """An expression of a blocked tensor of integers, of bytes or not."""

    x: Blocked
    expression: Expression
    halo: Halo = NO_HALO
    dtype: str = "uint8"

    @property
    def id(self) -> str:
        return f"{self.dtype}-{name_of(self.expression)}-{describe(self.x)}"

    def func(self) -> tirx.PrimFunc:
        x = self.x
        return with_epilogue(
            read_integers(copy(x, replace(x, halo=self.halo)), self.dtype),
            self.expression,
            fill=FILL - below(self.dtype),
        )

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        x, out = self.x, result_layout(replace(self.x, halo=self.halo), self.expression)
        image = random_bytes(rng, self.dtype, x.batch, x.channels, x.height, x.width)
        result = run(kernel, out.shape, out.dtype, blocked_bytes(rng, image, x))
        check_blocked(result, out, evaluate(self.expression, [image]))


@dataclass(frozen=True)
class IntegerPooling:
    """The mean of the image that blocked integers stand for, quantized."""

    x: Blocked
    dtype: str = "uint8"

    @property
    def id(self) -> str:
        return f"pool_{self.dtype}-{describe(self.x)}"

    def func(self) -> tirx.PrimFunc:
        func = read_integers(global_avg_pool2d(self.x), lowered(IMAGE, self.dtype))
        return with_epilogue(func, quantize(SELF, lowered(RESULT, self.dtype)))

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        x = self.x
        image = random_bytes(rng, self.dtype, x.batch, x.channels, x.height, x.width)
        result = run(kernel, (x.batch, x.channels), self.dtype, blocked_bytes(rng, image, x))
        mean = evaluate(dequantize(SELF, lowered(IMAGE, self.dtype)), [image]).mean((2, 3))
        into = lowered(RESULT, self.dtype)
        # sums of integers by these scales often lie just between two integers
        exact = mean / into.scale + into.zero_point
        between = np.abs(exact - np.floor(exact) - 0.5) < 1e-3
        apart = np.abs(result.astype(int) - evaluate(quantize(SELF, into), [mean]))
        assert apart.max() <= 1 and not apart[~between].any()


def signed(case: Any) -> Any:
    """The case over int8."""
    if isinstance(case, IntegerPooling):
        return replace(case, dtype="int8")
    return replace(case, dtype="int8", expression=of_signed(case.expression))
