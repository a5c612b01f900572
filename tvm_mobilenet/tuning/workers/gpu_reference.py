"""What a kernel for GPUs must compute, by NumPy: the counterpart of ``reference`` for CPUs.

The sums are NumPy's own, in float64; the layouts are those of ``computes.gpu``: activations
(pixels, channels), filled up to whole tiles. Which pixel meets which is read off the unscheduled
function: its index expressions and conditions are evaluated here, for all pixels at once. Rows of
a result that nothing writes are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import ir, tirx

from schedules.cuda.fragments import HALVES, HELD, TF32, Fragments
from tvm_mobilenet.kernels.gpu.image import TILE
from tvm_mobilenet.tuning.workers.blocked_arrays import Array
from tvm_mobilenet.tuning.workers.kernel_form import FORM_ERRORS, KernelForm, NoReference

OPERATORS: dict[type, Callable[..., Any]] = {
    tirx.Add: np.add,
    tirx.Sub: np.subtract,
    tirx.Mul: np.multiply,
    tirx.FloorDiv: np.floor_divide,
    tirx.FloorMod: np.mod,
    tirx.Min: np.minimum,
    tirx.Max: np.maximum,
    tirx.LT: np.less,
    tirx.LE: np.less_equal,
    tirx.GT: np.greater,
    tirx.GE: np.greater_equal,
    tirx.EQ: np.equal,
    tirx.And: np.logical_and,
    tirx.Or: np.logical_or,
}
FRAGMENTS = {one.suffix: one for one in (HALVES, TF32)}


def output(func: tirx.PrimFunc, inputs: Sequence[Array], result: Array) -> Array:
    """What ``func`` must write, like ``result``, given its inputs in their order.

    Raises NoReference for a kernel of another kind or another form.
    """
    kernel = KernelForm(func)
    rule, _, suffix = kernel.rule.rpartition("_")
    fragments = FRAGMENTS.get(suffix)
    reference = REFERENCES.get(rule if fragments is not None else kernel.rule)
    if reference is None:
        raise NoReference(f"no reference for {kernel.rule or 'a kernel without a rule'}")
    doubles = [one.astype(np.float64) for one in inputs]
    form = f"{kernel.rule} in a form the reference does not know"
    try:
        value = reference(_Layer(kernel, fragments), result.shape, *doubles)
    except FORM_ERRORS as error:
        raise NoReference(form) from error
    if value.shape != result.shape:
        raise NoReference(form)
    return value.astype(result.dtype)


# ---- the layers


def conv2d(layer: _Layer, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Dense convolution, 1x1 included."""
    data, weight, bias = inputs
    return layer.kernel.clamp(layer.pixels("rows", data) @ layer.matrix(weight) + bias)


def depthwise_conv2d(layer: _Layer, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Depthwise convolution by itself: weights (taps, C)."""
    data, weight, bias = inputs
    image = layer.pixels("inputs", data)  # as far as the filter reaches
    _, *window = layer.kernel.extents("conv")[3:]
    taps = layer.windows(image, tuple(window))
    summed = sum(tap * weight[place] for place, tap in enumerate(taps))
    return layer.stored(shape, layer.kernel.clamp(summed + bias))


def separable_conv2d(layer: _Layer, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Depthwise and 1x1: the weights and bias of the one, then of the other."""
    data, filters, filter_bias, weight, bias = inputs
    middle = layer.filtered(data, filters, filter_bias, axis=0)
    return layer.kernel.clamp(middle @ layer.matrix(weight) + bias)


def pointwise_depthwise_conv2d(layer: _Layer, shape: tuple[int, ...], *inputs: Array) -> Array:
    """1x1 and depthwise: the weights and bias of the one, then of the other."""
    data, weight, bias, filters, filter_bias = inputs
    between = layer.kernel.clamp(layer.pixels("rows", data) @ layer.matrix(weight) + bias)
    return layer.stored(shape, layer.filtered(between, filters, filter_bias, axis=1))


def stem_conv2d(layer: _Layer, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Convolution of a plain (N, C, H, W) image: weights (C, kh, kw, O)."""
    data, weight, bias = inputs
    image = layer.values("inputs", data).transpose(0, 2, 3, 1)
    _, kernel_h, kernel_w, outputs = weight.shape
    filters = weight.transpose(1, 2, 0, 3).reshape(kernel_h * kernel_w, -1, outputs)
    taps = layer.windows(image, (kernel_h, kernel_w))
    summed = sum(tap @ filters[place] for place, tap in enumerate(taps))
    return layer.stored(shape, layer.kernel.clamp(summed + bias))


def global_avg_pool2d(layer: _Layer, shape: tuple[int, ...], data: Array) -> Array:
    """Mean over the image → (N, C)."""
    return layer.mean("sum", data)[:, : shape[1]]


def dense(layer: _Layer, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Fully connected: weights (O, I), filled up."""
    data, weight, bias = inputs
    return layer.kernel.clamp(data @ weight[:, : data.shape[1]].T + bias)


def pooled_dense(layer: _Layer, shape: tuple[int, ...], *inputs: Array) -> Array:
    """The mean over the image, fully connected."""
    data, weight, bias = inputs
    return layer.kernel.clamp(layer.mean("pool", data) @ weight.T + bias)


def layout(layer: _Layer, shape: tuple[int, ...], data: Array) -> Array:
    """Between (N, C, H, W) and channels last."""
    (block,) = (name for name in ("pack", "unpack") if name in layer.kernel.blocks)
    return layer.values(block, data)


REFERENCES: dict[str, Callable[..., Array]] = {
    "conv2d": conv2d,
    "pointwise_conv2d": conv2d,
    "depthwise_conv2d": depthwise_conv2d,
    "separable_conv2d": separable_conv2d,
    "pointwise_depthwise_conv2d": pointwise_depthwise_conv2d,
    "stem_conv2d": stem_conv2d,
    "global_avg_pool2d": global_avg_pool2d,
    "dense": dense,
    "pooled_dense": pooled_dense,
    "layout": layout,
}


class _Layer:
    """A kernel's indices and conditions, evaluated."""

    def __init__(self, kernel: KernelForm, fragments: Fragments | None) -> None:
        self.kernel, self._fragments = kernel, fragments

    def matrix(self, weight: Array) -> Array:
        """Packed weights as (k, n)."""
        if self._fragments is None:
            return weight
        n_tiles, k_tiles, _, held = weight.shape
        assert held == HELD
        lane, position = self._fragments.b_place(*np.indices((TILE, TILE)))
        tiles = weight[:, :, lane, position]
        return tiles.transpose(1, 2, 0, 3).reshape(k_tiles * TILE, n_tiles * TILE)

    def pixels(self, block: str, image: Array, only: dict[int, int] | None = None) -> Array:
        """What a block takes of an image, channels last as its last loop, zero where nothing is.

        In the shape of the block's loops; ``only`` gives some of them, by place, one value.
        """
        loops = self._loops(block)
        *_, last = loops
        channels = image.shape[1]
        loops[last] = loops[last][..., ::channels]  # a filter's taps lie one after another
        for place, one in (only or {}).items():
            loops[list(loops)[place]] = np.array(one)
        (pixel, channel), inside = self._read(block, loops)
        if np.any(channel):
            raise NoReference(f"{block} takes no whole pixels")
        taken = np.where(np.expand_dims(inside, -1), image[pixel.clip(0, len(image) - 1)], 0.0)
        return taken.reshape(*taken.shape[:-2], -1)

    def values(self, block: str, source: Array) -> Array:
        """What a block takes of a tensor, value by value."""
        indices, inside = self._read(block, self._loops(block))
        places = [i.clip(0, size - 1) for i, size in zip(indices, source.shape, strict=True)]
        return np.where(inside, source[tuple(places)], 0.0)

    def windows(self, image: Array, window: tuple[int, ...]) -> list[Array]:
        """For each tap the pixels (N, oh, ow, C) that it meets in an (N, H, W, C)."""
        _, height, width = self.kernel.extents("conv")[:3]
        rows, columns = (
            (size - taken) // max(results - 1, 1)
            for size, taken, results in zip(image.shape[1:3], window, (height, width), strict=True)
        )
        return [
            image[:, h : h + (height - 1) * rows + 1, w : w + (width - 1) * columns + 1][
                :, :: max(rows, 1), :: max(columns, 1)
            ]
            for h, w in np.ndindex(*window)
        ]

    def filtered(self, image: Array, filters: Array, bias: Array, axis: int) -> Array:
        """The depthwise half of a fused kernel; ``axis`` is that of "taps" over them."""
        summed = sum(
            self.pixels("taps", image, {axis: tap}).squeeze(axis) * one
            for tap, one in enumerate(filters)
        )
        return self.kernel.clamp(summed + bias, "depthwise")

    def stored(self, shape: tuple[int, ...], values: Array) -> Array:
        """(…, C) at the pixels at which "store" writes them."""
        pixel, _ = self.kernel.blocks["store"].body.indices
        places = evaluate(pixel, self._loops("store"))[..., 0]
        result = np.full(shape, np.nan)
        result[places] = values.reshape(*places.shape, -1)
        return result

    def mean(self, block: str, data: Array) -> Array:
        """Over the pixels of an image: (N, stored C)."""
        batch, _, area = self.kernel.extents(block)
        mean: Array = data[: batch * area].reshape(batch, area, -1).mean(1)
        return mean

    def _loops(self, block: str) -> dict[Any, Array]:
        """A block's variables, as the indices of an array of their extents, ready to broadcast."""
        variables = [one.var for one in self.kernel.blocks[block].iter_vars]
        grid = np.ogrid[tuple(slice(size) for size in self.kernel.extents(block))]
        return dict(zip(variables, grid, strict=True))

    def _read(self, block: str, loops: dict[Any, Array]) -> tuple[list[Array], Array]:
        """The indices that a block reads at, and whether it does."""
        value = without_casts(self.kernel.blocks[block].body.value)
        condition = tirx.IntImm("bool", 1)
        if isinstance(value, ir.Call):  # if_then_else
            condition, value, _ = value.args
        shape = np.broadcast_shapes(*(one.shape for one in loops.values()))
        *indices, inside = (
            np.broadcast_to(evaluate(one, loops), shape)
            for one in (*without_casts(value).indices, condition)
        )
        return indices, inside


def without_casts(value: Any) -> Any:
    while isinstance(value, tirx.Cast):
        value = value.value
    return value


def evaluate(expression: Any, values: dict[Any, Array]) -> Any:
    """A whole-number expression or a condition, for all values of its variables at once."""
    if isinstance(expression, tirx.IntImm):
        return np.int64(expression.value)
    if isinstance(expression, ir.Var):
        return values[expression]
    operands = (evaluate(one, values) for one in (expression.a, expression.b))
    return OPERATORS[type(expression)](*operands)
