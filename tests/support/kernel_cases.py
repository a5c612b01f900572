"""Kernels with what they are checked against: packed arguments, and PyTorch's answer unpacked.

A case makes its unscheduled function, draws its inputs and checks what a compiled form of the
function wrote (``arrays``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from support.arrays import (
    ATOL,
    RTOL,
    Array,
    activate,
    check_blocked,
    fill_lanes,
    left_operands,
    normal,
    run,
    scaled,
    to_blocked,
    transformed_windows,
)
from torch.nn import functional
from tvm import tirx

from schedules.cpu.image_tiles import PixelRun, Tile
from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.conv2d import (
    Activation,
    conv2d,
    depthwise_conv2d,
    separable_conv2d,
    stem_conv2d,
)
from tvm_mobilenet.kernels.cpu.head import dense, global_avg_pool2d
from tvm_mobilenet.kernels.cpu.layout import NO_HALO, Blocked, Halo, pack, unpack
from tvm_mobilenet.kernels.cpu.overlap import overlap
from tvm_mobilenet.kernels.cpu.strassen import (
    depthwise_operands,
    operand_shape,
    pack_strassen,
    strassen_conv2d,
)
from tvm_mobilenet.kernels.cpu.weights import (
    pack_channels,
    pack_conv2d,
    pack_dense,
    pack_depthwise,
    pack_stem,
)
from tvm_mobilenet.kernels.cpu.winograd import operand_shape as winograd_shape
from tvm_mobilenet.kernels.cpu.winograd import pack_winograd, winograd_conv2d, winograd_operands
from tvm_mobilenet.kernels.cpu.winograd import tiles as winograd_tiles

NONE, RELU, RELU6 = Activation(), Activation(low=0.0), Activation(low=0.0, high=6.0)
ACTIVATION_NAMES = {NONE: "", RELU: "relu", RELU6: "relu6"}


class Case(Protocol):
    """A kernel of one static shape and its reference."""

    @property
    def id(self) -> str: ...

    def func(self) -> tirx.PrimFunc:
        """The unscheduled function."""

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        """Run ``kernel`` on random inputs and compare all it wrote."""


@dataclass(frozen=True)
class Convolution:
    """A convolution of any kind; padding is (top, bottom, left, right).

    ``kind`` is conv2d, depthwise, stem, operands (depthwise, its output the operands of a Strassen
    product), strassen (1x1, from such operands), windows (the operands of a Winograd product) or
    winograd (3x3, from such operands); ``vectors`` are the input's and the output's
    lanes. ``spare`` is halo that the input has beyond the padding, ``tile`` that of tiles of the
    output that overlap.
    """

    kind: str
    channels: tuple[int, int]
    size: tuple[int, int]
    vectors: tuple[int, int] = (16, 16)
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    activation: Activation = NONE
    halo: Halo = NO_HALO
    spare: Halo = NO_HALO
    batch: int = 1
    panel: int = 1
    groups: int = 1
    dilation: tuple[int, int] = (1, 1)
    tile: Tile | None = None

    @property
    def id(self) -> str:
        height, width = self.size
        parts = [
            f"{self.kind}{self.kernel[0]}x{self.kernel[1]}",
            f"{height}x{width}x{self.channels[0]}_{self.channels[1]}",
            f"s{self.stride[0]}{self.stride[1]}" if self.stride != (1, 1) else "",
            "p{}{}{}{}".format(*self.padding) if any(self.padding) else "",
            ACTIVATION_NAMES[self.activation],
            "halo" + digits(self.halo) if self.halo != NO_HALO else "",
            "spare" + digits(self.spare) if self.spare != NO_HALO else "",
            f"v{self.vectors[0]}_{self.vectors[1]}" if self.vectors[0] != self.vectors[1] else "",
            f"b{self.batch}" if self.batch != 1 else "",
            f"panel{self.panel}" if self.panel != 1 else "",
            f"g{self.groups}" if self.groups != 1 else "",
            f"d{self.dilation[0]}{self.dilation[1]}" if self.dilation != (1, 1) else "",
            tile_id(self.tile) if self.tile is not None else "",
        ]
        return "-".join(part for part in parts if part)

    @property
    def x(self) -> Blocked:
        top, bottom, left, right = self.padding
        spare = self.spare
        halo = Halo(top + spare.top, bottom + spare.bottom, left + spare.left, right + spare.right)
        return Blocked(self.batch, self.channels[0], *self.size, self.vectors[0], halo)

    @property
    def out(self) -> Blocked:
        top, bottom, left, right = self.padding
        reach_h, reach_w = (
            (size - 1) * apart + 1 for size, apart in zip(self.kernel, self.dilation, strict=True)
        )
        height = (self.size[0] + top + bottom - reach_h) // self.stride[0] + 1
        width = (self.size[1] + left + right - reach_w) // self.stride[1] + 1
        return Blocked(self.batch, self.channels[1], height, width, self.vectors[1], self.halo)

    def func(self) -> tirx.PrimFunc:
        func = self.over_rows()
        return func if self.tile is None else overlap(func, self.rows_and_columns, self.tile)

    @property
    def rows_and_columns(self) -> tuple[int, int]:
        """What the kernel has loops over: pixels of the result, or of a product."""
        if self.kind == "winograd":
            return winograd_tiles(self.out)
        height, width = self.out.height, self.out.width
        return (height // 2, width) if self.kind == "strassen" else (height, width)

    def over_rows(self) -> tirx.PrimFunc:
        """The kernel with a loop over rows and one over columns."""
        top, _, left, _ = self.padding
        window = Window(self.kernel, self.stride, (top, left), self.dilation)
        if self.kind == "stem":
            image = (self.batch, self.channels[0], *self.size)
            return stem_conv2d(image, self.padding, self.out, window, self.activation)
        if self.kind == "depthwise":
            return depthwise_conv2d(self.x, self.out, window, self.activation)
        if self.kind == "operands":
            return depthwise_operands(self.x, self.out, window, self.activation)
        if self.kind == "windows":
            return winograd_operands(self.x, self.out, window)
        if self.kind == "winograd":
            return winograd_conv2d(self.x, self.out, self.activation, self.panel)
        if self.kind == "strassen":
            return strassen_conv2d(self.x, self.out, self.activation, self.panel)
        return conv2d(self.x, self.out, window, self.activation, self.panel, self.groups)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        if self.kind == "windows":
            self.check_windows(kernel, rng)
            return
        weight, bias = self.weights(rng)
        self.compare(kernel, rng, (weight, bias), self.packed(weight, bias))

    def check_windows(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        image = normal(rng, self.batch, self.channels[0], *self.size)
        data = to_blocked(image, self.x, self.padding)
        wanted = self.windows(data)
        result = run(kernel, winograd_shape(self.x, self.out), data)
        np.testing.assert_allclose(result, wanted, rtol=RTOL, atol=ATOL)

    def packed(self, weight: Array, bias: Array) -> tuple[Array, Array]:
        v = self.vectors[1]
        packed = {
            "conv2d": lambda: pack_conv2d(weight, v, self.panel),
            "depthwise": lambda: pack_depthwise(weight, v),
            "operands": lambda: pack_depthwise(weight, v),
            "stem": lambda: pack_stem(weight, v),
            "strassen": lambda: pack_strassen(weight, v, self.panel),
            "winograd": lambda: pack_winograd(weight, v, self.panel),
        }[self.kind]()
        return packed, pack_channels(bias, v)

    def data(self, image: Array) -> Array:
        """The image as the kernel reads it."""
        data = image if self.kind == "stem" else to_blocked(image, self.x, self.padding)
        if self.kind == "winograd":
            return self.windows(data)
        return left_operands(data) if self.kind == "strassen" else data

    def windows(self, data: Array) -> Array:
        """The operands of Winograd's products, of a blocked image."""
        top, _, left, _ = self.padding
        first = (self.x.halo.top - top, self.x.halo.left - left)
        return transformed_windows(data, first, (self.out.height, self.out.width))

    @property
    def depthwise(self) -> bool:
        return self.kind in ("depthwise", "operands")

    def weights(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """Weights (O, I, kh, kw) that keep the variance, and a bias."""
        channels_in = 1 if self.depthwise else self.channels[0] // self.groups
        shape = (self.channels[1], channels_in, *self.kernel)
        return scaled(rng, shape, channels_in * math.prod(self.kernel)), normal(rng, shape[0])

    def compare(
        self,
        kernel: Callable[..., object],
        rng: np.random.Generator,
        plain: tuple[Array, Array],
        packed: tuple[Array, Array],
    ) -> None:
        """Run ``kernel`` with the packed weight and bias; PyTorch gets the plain ones."""
        image = normal(rng, self.batch, self.channels[0], *self.size)
        shape = operand_shape(self.out) if self.kind == "operands" else self.out.shape
        result = run(kernel, shape, self.data(image), *packed)
        wanted = self.plain(image, *plain)
        if self.kind == "operands":
            operands = left_operands(to_blocked(wanted, self.out))
            np.testing.assert_allclose(result, operands, rtol=RTOL, atol=ATOL)
        else:
            check_blocked(result, self.out, wanted)

    def plain(self, image: Array, weight: Array, bias: Array) -> Array:
        """What PyTorch makes of an image."""
        top, bottom, left, right = self.padding
        summed = functional.conv2d(
            functional.pad(torch.from_numpy(image), (left, right, top, bottom)),
            torch.from_numpy(weight),
            torch.from_numpy(bias),
            stride=self.stride,
            dilation=self.dilation,
            groups=self.channels[0] if self.depthwise else self.groups,
        )
        return activate(summed.numpy(), self.activation)


def tile_id(tile: Tile) -> str:
    if isinstance(tile, PixelRun):
        return f"run{tile.pixels}x{tile.count}"
    rows, columns = tile
    return f"t{rows or ''}x{columns}"


@dataclass(frozen=True)
class Separable:
    """A depthwise convolution, as ``first`` has it, and the 1x1 convolution after it, as one.

    ``vector`` is the lanes of its output, which has ``channels`` and ``halo``.
    """

    first: Convolution
    channels: int
    vector: int = 16
    activation: Activation = NONE
    halo: Halo = NO_HALO
    panel: int = 1

    @property
    def id(self) -> str:
        parts = [
            "separable",
            self.first.id,
            f"to{self.channels}",
            ACTIVATION_NAMES[self.activation],
            "halo" + digits(self.halo) if self.halo != NO_HALO else "",
            f"v{self.vector}" if self.vector != self.first.vectors[1] else "",
            f"panel{self.panel}" if self.panel != 1 else "",
        ]
        return "-".join(part for part in parts if part)

    @property
    def out(self) -> Blocked:
        middle = self.first.out
        size = (middle.height, middle.width)
        return Blocked(middle.batch, self.channels, *size, self.vector, self.halo)

    def func(self) -> tirx.PrimFunc:
        first = self.first
        top, _, left, _ = first.padding
        window = Window(first.kernel, first.stride, (top, left))
        return separable_conv2d(
            first.x, first.out, self.out, window, first.activation, self.activation, self.panel
        )

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        first, second = self.first, self.second
        filters, filter_bias = first.weights(rng)
        weight, bias = second.weights(rng)
        image = normal(rng, first.batch, first.channels[0], *first.size)
        result = run(
            kernel,
            self.out.shape,
            to_blocked(image, first.x, first.padding),
            pack_depthwise(filters, first.vectors[1]),
            pack_channels(filter_bias, first.vectors[1]),
            pack_conv2d(weight, self.vector, self.panel),
            pack_channels(bias, self.vector),
        )
        check_blocked(
            result, self.out, second.plain(first.plain(image, filters, filter_bias), weight, bias)
        )

    @property
    def second(self) -> Convolution:
        middle = self.first.out
        channels, size = (middle.channels, self.channels), (middle.height, middle.width)
        return Convolution("conv2d", channels, size, activation=self.activation)


@dataclass(frozen=True)
class Pooling:
    """Global average pooling of a blocked image."""

    channels: int
    size: tuple[int, int]
    vector: int = 16
    halo: Halo = NO_HALO
    batch: int = 1

    @property
    def id(self) -> str:
        halo = "-halo" + digits(self.halo) if self.halo != NO_HALO else ""
        batch = f"-b{self.batch}" if self.batch != 1 else ""
        return f"pool-{self.size[0]}x{self.size[1]}x{self.channels}{halo}{batch}"

    def func(self) -> tirx.PrimFunc:
        return global_avg_pool2d(self.x)

    @property
    def x(self) -> Blocked:
        return Blocked(self.batch, self.channels, *self.size, self.vector, self.halo)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        image = normal(rng, self.batch, self.channels, *self.size) + np.float32(1)
        result = run(kernel, (self.batch, self.channels), to_blocked(image, self.x))
        wanted = functional.adaptive_avg_pool2d(torch.from_numpy(image), 1)[:, :, 0, 0].numpy()
        np.testing.assert_allclose(result, wanted, rtol=RTOL, atol=ATOL)


@dataclass(frozen=True)
class Dense:
    """A fully connected layer; ``blocks`` output vectors, which may be more than needed."""

    features: tuple[int, int]
    blocks: int
    panel: int = 1
    vector: int = 16
    activation: Activation = NONE
    batch: int = 1

    @property
    def id(self) -> str:
        name = ACTIVATION_NAMES[self.activation]
        batch = f"-b{self.batch}" if self.batch != 1 else ""
        return f"dense-{self.features[0]}_{self.features[1]}{'-' if name else ''}{name}{batch}"

    def func(self) -> tirx.PrimFunc:
        return dense(
            self.batch, *self.features, self.blocks, self.panel, self.vector, self.activation
        )

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        weight, bias = self.weights(rng)
        self.compare(kernel, rng, (weight, bias), self.packed(weight, bias))

    def packed(self, weight: Array, bias: Array) -> tuple[Array, Array]:
        return pack_dense(weight, self.vector, self.blocks, self.panel), bias

    def weights(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """Weights (I, O) that keep the variance, and a bias."""
        return scaled(rng, self.features, self.features[0]), normal(rng, self.features[1])

    def compare(
        self,
        kernel: Callable[..., object],
        rng: np.random.Generator,
        plain: tuple[Array, Array],
        packed: tuple[Array, Array],
    ) -> None:
        """Run ``kernel`` with the packed weight and bias; PyTorch gets the plain ones."""
        data = normal(rng, self.batch, self.features[0])
        result = run(kernel, (self.batch, self.features[1]), data, *packed)
        np.testing.assert_allclose(result, self.plain(data, *plain), rtol=RTOL, atol=ATOL)

    def plain(self, data: Array, weight: Array, bias: Array) -> Array:
        """What PyTorch makes of the data."""
        tensors = (torch.from_numpy(one) for one in (data, weight.T, bias))
        return activate(functional.linear(*tensors).numpy(), self.activation)


@dataclass(frozen=True)
class Packing:
    """(N, C, H, W) → blocked."""

    x: Blocked

    @property
    def id(self) -> str:
        return "pack-" + describe(self.x)

    def func(self) -> tirx.PrimFunc:
        return pack(self.x)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        x = self.x
        image = normal(rng, x.batch, x.channels, x.height, x.width)
        result = run(kernel, x.shape, image)
        check_blocked(result, x, image)
        assert not fill_lanes(result, x).any(), "filled-up channels are zero"


@dataclass(frozen=True)
class Unpacking:
    """Blocked → (N, C, H, W)."""

    x: Blocked

    @property
    def id(self) -> str:
        return "unpack-" + describe(self.x)

    def func(self) -> tirx.PrimFunc:
        return unpack(self.x)

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        x = self.x
        image = normal(rng, x.batch, x.channels, x.height, x.width)
        result = run(kernel, image.shape, to_blocked(image, x))
        np.testing.assert_array_equal(result, image)


def digits(halo: Halo) -> str:
    return f"{halo.top}{halo.bottom}{halo.left}{halo.right}"


def describe(x: Blocked) -> str:
    batch = f"-b{x.batch}" if x.batch != 1 else ""
    halo = f"-halo{digits(x.halo)}" if x.halo != NO_HALO else ""
    return f"{x.height}x{x.width}x{x.channels}-v{x.vector}{halo}{batch}"
