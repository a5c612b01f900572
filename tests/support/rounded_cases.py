"""Kernels over numbers of 16 bits, as ``kernel_cases`` are, held against float64 sums of them.

Operands are rounded here, so that what remains is the rounding of sums and results: how much that
may be is a case's own (bf16_cases.py, fp16_cases.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from support.arrays import channels_first, interior, normal, to_blocked
from support.blocked_cases import evaluate, name_of
from support.kernel_cases import Convolution, Dense
from support.quantized_cases import run
from tvm import tirx

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.cpu.elementwise import blocked_operand, with_epilogue
from tvm_mobilenet.kernels.cpu.expressions import Expression
from tvm_mobilenet.kernels.cpu.layout import Blocked
from tvm_mobilenet.kernels.cpu.weights import pack_channels

Numbers = NDArray[Any]


def clipped(values: Numbers, activation: Activation) -> Numbers:
    low = -np.inf if activation.low is None else activation.low
    high = np.inf if activation.high is None else activation.high
    return np.clip(values, low, high)


def stored(array: Numbers, dtype: str) -> Numbers:
    """As ``dtype``; what nobody may read as more than a zero's factor is any number."""
    return np.nan_to_num(array, nan=7.0).astype(np.dtype(dtype))


def exact(array: Numbers, dtype: str) -> Numbers:
    """The numbers of ``dtype``, which sums in float64 have no rounding to add to."""
    return stored(array.astype(np.float32), dtype).astype(np.float64)


@dataclass(frozen=True)
class RoundedConvolution(ABC):
    """``real`` says what it is; an ``expression`` is its epilogue, in float32.

    ``beside``: the expression reads another tensor like the result.
    """

    real: Convolution
    expression: Expression | None = None
    beside: bool = False

    precision: ClassVar[str]
    dtype: ClassVar[str]

    @property
    def id(self) -> str:
        name = "" if self.expression is None else f"-{name_of(self.expression)}"
        return f"{self.precision}_{self.real.id}{name}"

    @property
    def x(self) -> Blocked:
        return replace(self.real.x, dtype=self.dtype)

    @property
    @abstractmethod
    def out(self) -> Blocked:
        """What the kernel itself makes."""

    @property
    @abstractmethod
    def result(self) -> str:
        """The type of the result."""

    @abstractmethod
    def kernel(self, image: tuple[int, int, int, int], window: Window) -> tirx.PrimFunc: ...

    @abstractmethod
    def packed(self, weight: Numbers) -> Numbers: ...

    @abstractmethod
    def sum_error(self, weight: Numbers, sizes: Numbers) -> Numbers:
        """The most by which sums may be off, of products and biases of such ``sizes``."""

    @abstractmethod
    def store_error(self, expected: Numbers) -> Numbers: ...

    def func(self) -> tirx.PrimFunc:
        real, out = self.real, self.out
        top, _, left, _ = real.padding
        window = Window(real.kernel, real.stride, (top, left), real.dilation)
        func = self.kernel((real.batch, real.channels[0], *real.size), window)
        if self.expression is None:
            return func
        operands = [blocked_operand(replace(out, dtype=self.dtype), out)] if self.beside else []
        return with_epilogue(func, self.expression, operands, dtype=self.dtype)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        real, out = self.real, self.out
        weight: Numbers
        weight, bias = real.weights(rng)
        image = normal(rng, real.batch, real.channels[0], *real.size)
        stem = real.kind == "stem"  # which rounds the image itself
        arguments: list[Numbers] = [
            image if stem else stored(to_blocked(image, self.x, real.padding), self.dtype),
            stored(self.packed(weight), self.dtype),
            pack_channels(bias, real.vectors[1]),
        ]
        read, weight = exact(image, self.dtype), exact(weight, self.dtype)
        no_clamp = replace(real, activation=Activation())
        summed: Numbers = no_clamp.plain(read, weight, bias.astype(float))
        sizes = no_clamp.plain(np.abs(read), np.abs(weight), np.abs(bias).astype(float))
        error = self.sum_error(weight, sizes)
        values: list[Numbers] = [clipped(summed, real.activation)]
        if self.beside:
            other = normal(rng, out.batch, out.channels, out.height, out.width)
            values.append(exact(other, self.dtype))
            arguments.append(stored(to_blocked(other, out), self.dtype))
        if self.expression is None:
            expected = values[0]
        else:
            # no expression here is steeper than 2
            expected, error = evaluate(self.expression, values), 2 * error
        error = error + self.store_error(expected)
        result: Numbers = run(kernel, out.shape, self.result, *arguments).astype(np.float64)
        padded = channels_first(result, out)
        found = interior(padded, out)[:, : out.channels]
        assert (np.abs(found - expected) <= error).all()
        # unless an activation made constants of all
        representable = bool((exact(expected, self.dtype) == expected).all())
        assert representable or np.abs(found - expected).max() > 0, "rounded"
        assert np.abs(summed).max() > 0.1, "not all zeros"
        halo = padded.copy()
        interior(halo, out)[:] = 0
        assert not halo.any(), "the halo is zero"


@dataclass(frozen=True)
class RoundedDense(ABC):
    """``real`` says what it is; its input is float32, which the kernel rounds."""

    real: Dense

    precision: ClassVar[str]
    dtype: ClassVar[str]

    @property
    def id(self) -> str:
        return f"{self.precision}_{self.real.id}"

    @abstractmethod
    def func(self) -> tirx.PrimFunc: ...

    @abstractmethod
    def packed(self, weight: Numbers) -> Numbers: ...

    @abstractmethod
    def sum_error(self, sizes: Numbers) -> Numbers:
        """As a convolution's."""

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        real = self.real
        weight: Numbers
        weight, bias = real.weights(rng)
        data = normal(rng, real.batch, real.features[0])
        packed = stored(self.packed(weight), self.dtype)
        result = run(kernel, (real.batch, real.features[1]), "float32", data, packed, bias)
        read, matrix = exact(data, self.dtype), exact(weight, self.dtype)
        expected = clipped(read @ matrix + bias, real.activation)
        sizes = np.abs(read) @ np.abs(matrix) + np.abs(bias)
        assert (np.abs(result - expected) <= self.sum_error(sizes)).all()
