"""Kernels over blocked tensors that are no convolutions, and epilogues, as ``kernel_cases`` are."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from support.arrays import ATOL, RTOL, Array, check_blocked, normal, run, to_blocked
from support.kernel_cases import Convolution, Dense, describe
from torch.nn import functional
from tvm import tirx

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.channels import move_channels
from tvm_mobilenet.kernels.cpu.elementwise import (
    Operand,
    blocked_operand,
    copy,
    feature_operand,
    with_epilogue,
)
from tvm_mobilenet.kernels.cpu.expressions import Apply, Expression, Input
from tvm_mobilenet.kernels.cpu.head import blocked_avg_pool2d
from tvm_mobilenet.kernels.cpu.layout import NO_HALO, Blocked, Halo
from tvm_mobilenet.kernels.cpu.pooling import pool2d
from tvm_mobilenet.kernels.cpu.resize import channels_to_space, resize2d
from tvm_mobilenet.kernels.cpu.weights import pack_channels

NUMPY: dict[str, Callable[..., NDArray[np.float64]]] = {
    "abs": np.abs,
    "add": np.add,
    "divide": np.divide,
    "erf": np.vectorize(math.erf),
    "exp": np.exp,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "multiply": np.multiply,
    "negative": np.negative,
    "saturate_int8": lambda x: np.clip(np.rint(x), -128, 127),
    "saturate_int_int8": lambda x: np.clip(np.rint(x), -128, 127),
    "saturate_int_uint8": lambda x: np.clip(np.rint(x), 0, 255),
    "saturate_uint8": lambda x: np.clip(np.rint(x), 0, 255),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "sqrt": np.sqrt,
    "subtract": np.subtract,
    "tanh": np.tanh,
}


def evaluate(expression: Expression, values: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """The expression by NumPy, in float64."""
    if isinstance(expression, Apply):
        return NUMPY[expression.operator](*(evaluate(arg, values) for arg in expression.args))
    if isinstance(expression, Input):
        return values[expression.index].astype(np.float64)
    return np.float64(expression) * np.ones(1)


@dataclass(frozen=True)
class Beside:
    """A tensor that an expression reads beside the first: ``whole``, one ``pixel`` of an image's
    size, or a constant for each of the ``channels``."""

    kind: str
    halo: Halo = NO_HALO

    def layout(self, out: Blocked) -> Blocked:
        batch = 1 if self.kind == "channels" else out.batch
        height, width = (out.height, out.width) if self.kind == "whole" else (1, 1)
        return Blocked(batch, out.channels, height, width, out.vector, self.halo)

    def operand(self, out: Blocked) -> Operand:
        return blocked_operand(self.layout(out), out, constant=self.kind == "channels")

    def draw(self, out: Blocked, rng: np.random.Generator) -> tuple[Array, Array]:
        """The plain values, and packed."""
        layout = self.layout(out)
        values = normal(rng, layout.batch, layout.channels, layout.height, layout.width)
        if self.kind == "channels":
            packed = pack_channels(values.reshape(-1), layout.vector).reshape(layout.shape)
            return values, packed
        return values, to_blocked(values, layout)


@dataclass(frozen=True)
class Elementwise:
    """An expression over blocked tensors, the first of which is whole."""

    x: Blocked
    expression: Expression
    beside: tuple[Beside, ...] = ()
    halo: Halo = NO_HALO

    @property
    def id(self) -> str:
        kinds = "".join(f"-{one.kind}" for one in self.beside)
        return f"elementwise-{name_of(self.expression)}-{describe(self.x)}{kinds}"

    @property
    def out(self) -> Blocked:
        x = self.x
        return Blocked(x.batch, x.channels, x.height, x.width, x.vector, self.halo)

    def func(self) -> tirx.PrimFunc:
        operands = [one.operand(self.out) for one in self.beside]
        return with_epilogue(copy(self.x, self.out), self.expression, operands)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        x = self.x
        image = normal(rng, x.batch, x.channels, x.height, x.width)
        drawn = [one.draw(self.out, rng) for one in self.beside]
        result = run(kernel, self.out.shape, to_blocked(image, x), *(p for _, p in drawn))
        wanted = evaluate(self.expression, [image, *(plain for plain, _ in drawn)])
        check_blocked(result, self.out, np.broadcast_to(wanted, image.shape).astype(np.float32))


@dataclass(frozen=True)
class Extended:
    """A convolution with an expression in its epilogue."""

    convolution: Convolution
    expression: Expression
    beside: tuple[Beside, ...] = ()

    @property
    def id(self) -> str:
        kinds = "".join(f"-{one.kind}" for one in self.beside)
        return f"{self.convolution.id}-{name_of(self.expression)}{kinds}"

    def func(self) -> tirx.PrimFunc:
        out = self.convolution.out
        operands = [one.operand(out) for one in self.beside]
        return with_epilogue(self.convolution.func(), self.expression, operands)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        conv, out = self.convolution, self.convolution.out
        drawn = [one.draw(out, rng) for one in self.beside]
        image = normal(rng, conv.batch, conv.channels[0], *conv.size)
        weight, bias = conv.weights(rng)
        result = run(
            kernel,
            out.shape,
            conv.data(image),
            *conv.packed(weight, bias),
            *(packed for _, packed in drawn),
        )
        first = conv.plain(image, weight, bias)
        wanted = evaluate(self.expression, [first, *(plain for plain, _ in drawn)])
        check_blocked(result, out, wanted.astype(np.float32))


@dataclass(frozen=True)
class ExtendedDense:
    """A fully connected layer with an expression in its epilogue, and a constant a feature."""

    dense: Dense
    expression: Expression

    @property
    def id(self) -> str:
        return f"{self.dense.id}-{name_of(self.expression)}"

    def func(self) -> tirx.PrimFunc:
        operands: list[Operand] = [feature_operand(self.dense.features[1])]
        return with_epilogue(self.dense.func(), self.expression, operands)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        dense = self.dense
        weight, bias = dense.weights(rng)
        constants = normal(rng, dense.features[1])
        data = normal(rng, dense.batch, dense.features[0])
        shape = (dense.batch, dense.features[1])
        result = run(kernel, shape, data, *dense.packed(weight, bias), constants)
        wanted = evaluate(self.expression, [dense.plain(data, weight, bias), constants])
        np.testing.assert_allclose(result, wanted, rtol=RTOL, atol=ATOL)


@dataclass(frozen=True)
class WindowPooling:
    """``kind`` is that of ``pool2d``; padding is (top, bottom, left, right)."""

    kind: str
    x: Blocked
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    halo: Halo = NO_HALO

    @property
    def id(self) -> str:
        sizes = "x".join(map(str, (*self.kernel, *self.stride, *self.padding)))
        return f"pool-{self.kind}-{sizes}-{describe(self.x)}"

    @property
    def out(self) -> Blocked:
        top, bottom, left, right = self.padding
        height = (self.x.height + top + bottom - self.kernel[0]) // self.stride[0] + 1
        width = (self.x.width + left + right - self.kernel[1]) // self.stride[1] + 1
        return Blocked(self.x.batch, self.x.channels, height, width, self.x.vector, self.halo)

    def func(self) -> tirx.PrimFunc:
        top, _, left, _ = self.padding
        window = Window(self.kernel, self.stride, (top, left))
        return pool2d(self.x, self.out, window, self.kind)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        x = self.x
        image = normal(rng, x.batch, x.channels, x.height, x.width)
        result = run(kernel, self.out.shape, to_blocked(image, x))  # what lies outside is NaN
        check_blocked(result, self.out, self.wanted(image))

    def wanted(self, image: Array) -> Array:
        top, bottom, left, right = self.padding
        padded = functools.partial(
            functional.pad, torch.from_numpy(image), (left, right, top, bottom)
        )
        if self.kind == "max":
            lowest = padded(value=-np.inf)
            return functional.max_pool2d(lowest, self.kernel, self.stride).numpy()
        mean = functional.avg_pool2d(padded(), self.kernel, self.stride)
        if self.kind == "mean":
            return mean.numpy()
        ones = functional.pad(torch.ones(image.shape), (left, right, top, bottom))
        return (mean / functional.avg_pool2d(ones, self.kernel, self.stride)).numpy()


@dataclass(frozen=True)
class BlockedPooling:
    """Global average pooling that leaves a blocked image of one pixel."""

    x: Blocked

    @property
    def id(self) -> str:
        return f"blocked_pool-{describe(self.x)}"

    def func(self) -> tirx.PrimFunc:
        return blocked_avg_pool2d(self.x, self.out)

    @property
    def out(self) -> Blocked:
        return Blocked(self.x.batch, self.x.channels, 1, 1, self.x.vector)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        x = self.x
        image = normal(rng, x.batch, x.channels, x.height, x.width) + np.float32(1)
        blocked = to_blocked(image, x)
        blocked[np.isnan(blocked)] = 0
        result = run(kernel, self.out.shape, blocked)
        check_blocked(result, self.out, image.mean((2, 3), keepdims=True))


@dataclass(frozen=True)
class Resizing:
    """To a larger or smaller ``size``, linearly between the corners' pixels, or to the nearest."""

    x: Blocked
    size: tuple[int, int]
    taps: int
    halo: Halo = NO_HALO

    @property
    def id(self) -> str:
        return f"resize-{self.taps}-to{self.size[0]}x{self.size[1]}-{describe(self.x)}"

    @property
    def out(self) -> Blocked:
        return Blocked(self.x.batch, self.x.channels, *self.size, self.x.vector, self.halo)

    def func(self) -> tirx.PrimFunc:
        return resize2d(self.x, self.out, self.taps)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        x = self.x
        image = normal(rng, x.batch, x.channels, x.height, x.width)
        rows, row_weights = self.axis(x.height, self.size[0])
        columns, column_weights = self.axis(x.width, self.size[1])
        tables = (rows, row_weights, columns, column_weights)
        result = run(kernel, self.out.shape, to_blocked(image, x), *tables)
        linear = {"mode": "bilinear", "align_corners": True}
        mode: dict[str, Any] = {"mode": "nearest"} if self.taps == 1 else linear
        wanted = functional.interpolate(torch.from_numpy(image), self.size, **mode)
        check_blocked(result, self.out, wanted.numpy())

    def axis(self, size: int, target: int) -> tuple[NDArray[Any], Array]:
        if self.taps == 1:
            nearest = np.arange(target, dtype=np.int32)[:, None] * size // target
            return nearest, np.ones((target, 1), np.float32)
        places = np.linspace(0, size - 1, target)
        first = np.floor(places)
        pixels = np.minimum(np.stack([first, first + 1], 1), size - 1).astype(np.int32)
        return pixels, np.stack([1 - places + first, places - first], 1).astype(np.float32)


@dataclass(frozen=True)
class ChannelsToSpace:
    """Pixels that lie in the channels of others."""

    out: Blocked
    factor: tuple[int, int]
    spare: Halo = NO_HALO

    @property
    def id(self) -> str:
        return f"channels_to_space-{self.factor[0]}x{self.factor[1]}-{describe(self.out)}"

    @property
    def x(self) -> Blocked:
        out, (tall, wide) = self.out, self.factor
        channels = tall * wide * out.blocks * out.vector
        size = (out.height // tall, out.width // wide)
        return Blocked(out.batch, channels, *size, out.vector, self.spare)

    def func(self) -> tirx.PrimFunc:
        return channels_to_space(self.x, self.out, self.factor)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        x, out, (tall, wide) = self.x, self.out, self.factor
        image = normal(rng, x.batch, x.channels, x.height, x.width)
        result = run(kernel, out.shape, to_blocked(image, x))
        parts = image.reshape(x.batch, tall, wide, -1, x.height, x.width)
        wanted = parts.transpose(0, 3, 4, 1, 5, 2).reshape(x.batch, -1, out.height, out.width)
        check_blocked(result, out, wanted[:, : out.channels])


@dataclass(frozen=True)
class Channels:
    """Channels of ``xs`` in the order that ``places`` say."""

    xs: tuple[Blocked, ...]
    places: tuple[tuple[int, int], ...]
    vector: int = 16
    halo: Halo = NO_HALO

    @property
    def id(self) -> str:
        return f"channels-{len(self.places)}-of-" + "-".join(map(describe, self.xs))

    @property
    def out(self) -> Blocked:
        x = self.xs[0]
        return Blocked(x.batch, len(self.places), x.height, x.width, self.vector, self.halo)

    def func(self) -> tirx.PrimFunc:
        return move_channels(self.xs, self.out, self.places)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        images = [normal(rng, x.batch, x.channels, x.height, x.width) for x in self.xs]
        blocked = [to_blocked(image, x) for image, x in zip(images, self.xs, strict=True)]
        wanted = np.stack([images[which][:, channel] for which, channel in self.places], 1)
        check_blocked(run(kernel, self.out.shape, *blocked), self.out, wanted)


def name_of(expression: Expression) -> str:
    """Its operators, from the outermost in."""
    if not isinstance(expression, Apply):
        return "x" if isinstance(expression, Input) else "1"
    return "_".join([expression.operator, *(name_of(arg) for arg in expression.args)])[:40]
