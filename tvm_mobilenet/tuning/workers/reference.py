"""What a kernel must compute, by NumPy, from the meaning of the layer it is.

Nothing of TVM computes here: neither the schedule nor the lowering nor LLVM that made a candidate
has a part in what it is held against. A layer's stride, origin and clamp are read off the
unscheduled function's index expressions; its sums are NumPy's own, in float64. The layouts are
those of ``computes``: activations as ``computes.layout`` has them, weights packed as
``computes.weights`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm_ffi
from numpy.typing import NDArray
from tvm import ir, s_tir, sym, tirx

from tvm_mobilenet.kernels.cpu.layout import WIDE_VECTOR

Array = NDArray[Any]

IMAGE_AXES = (2, 3)  # the row and column among a convolution's loops
ODD_ROW, COLUMN = 4, 5  # … of one that makes operands
# what reading a function of another form ends in
FORM_ERRORS = (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError)


class NoReference(Exception):
    """The kernel is no layer that is known here."""


def output(func: tirx.PrimFunc, inputs: Sequence[Array], result: Array) -> Array:
    """What ``func`` must write, like ``result``, given its inputs in their order.

    Raises NoReference for a kernel of another kind or another form.
    """
    kernel = KernelForm(func)
    reference = REFERENCES.get(kernel.rule)
    if reference is None:
        raise NoReference(f"no reference for {kernel.rule or 'a kernel without a rule'}")
    doubles = [one.astype(np.float64) for one in inputs]
    try:
        value = reference(kernel, result.shape, *doubles)
    except FORM_ERRORS as error:
        raise NoReference(f"{kernel.rule} in a form the reference does not know") from error
    if value.shape != result.shape:
        raise NoReference(f"{kernel.rule} in a form the reference does not know")
    return value.astype(result.dtype)


# ---- the layers


def conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Dense convolution, 1x1 included: weights (O/v/panel, kh, kw, I, panel, v)."""
    data, weight, bias = inputs
    _, kernel_h, kernel_w, channels, _, _ = weight.shape
    image = channels_last(data)[..., :channels]
    filters = weight.transpose(1, 2, 3, 0, 4, 5).reshape(kernel_h, kernel_w, channels, -1)
    taps = kernel.taps(image, kernel.size(), (kernel_h, kernel_w))
    summed = sum(tap @ filters[kh, kw] for kh, kw, tap in taps)
    return kernel.finish(summed + bias.reshape(-1), shape)


def depthwise_conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Depthwise convolution: weights (C/v, kh, kw, v)."""
    return kernel.finish(filtered(kernel, "conv", inputs, kernel.size()), shape)


def depthwise_operands(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Depthwise convolution whose result is left as Strassen's left operands."""
    batch, _, half, rows, _, columns, v = kernel.extents("conv")[:7]
    size, axes = (2 * rows, columns), (ODD_ROW, COLUMN)
    active = kernel.clamp(filtered(kernel, "conv", inputs, size, axes))
    # pixels by odd and even row, channels by half: (i, j, N, H / 2, W, C / 2)
    parts = active.reshape(batch, rows, 2, columns, 2, half * v).transpose(2, 4, 0, 1, 3, 5)
    (a11, a12), (a21, a22) = parts
    s1, s2 = a21 + a22, a21 + a22 - a11
    operands = np.stack([a11, a12, a12 - s2, a22, s1, s2, a11 - a21])
    vectors = operands.reshape(len(operands), batch, rows, columns, half, v)
    return vectors.transpose(1, 2, 0, 4, 3, 5)


def strassen_conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """The seven products of a 1x1 convolution and their sums: weights (O/2/v/panel, 7, I/2, …)."""
    operands, weight, bias = inputs
    batch, rows, products, blocks, columns, v = operands.shape
    left = operands.transpose(2, 0, 1, 4, 3, 5).reshape(products, -1, blocks * v)
    right = weight.transpose(1, 2, 0, 3, 4).reshape(products, blocks * v, -1)
    p = left @ right
    u2 = p[0] + p[5]
    u3 = u2 + p[6]
    quarters = np.array([[p[0] + p[1], u2 + p[4] + p[2]], [u3 + p[3], u3 + p[4]]])
    # (i, j, N, H / 2, W, O / 2) → (N, H, W, O)
    parts = quarters.reshape(2, 2, batch, rows, columns, -1).transpose(2, 3, 0, 4, 1, 5)
    summed = parts.reshape(batch, 2 * rows, columns, -1)
    return kernel.finish(summed + bias.reshape(-1), shape)


def separable_conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """A depthwise and a 1x1 convolution: the weights and bias of the one, then of the other."""
    *first, weight, bias = inputs
    summed = filtered(kernel, "filter", first, kernel.size("filter"))
    middle = kernel.clamp(summed, "filter_epilogue")
    _, _, _, channels, _, _ = weight.shape
    matrix = weight.transpose(1, 2, 3, 0, 4, 5).reshape(channels, -1)
    return kernel.finish(middle[..., :channels] @ matrix + bias.reshape(-1), shape)


def filtered(
    kernel: KernelForm,
    block: str,
    inputs: Sequence[Array],
    size: tuple[int, int],
    axes: tuple[int, int] = IMAGE_AXES,
) -> Array:
    """A depthwise convolution before its activation, (N, H, W, C); ``block`` is its sum."""
    data, weight, bias = inputs
    _, kernel_h, kernel_w, _ = weight.shape
    filters = weight.transpose(1, 2, 0, 3).reshape(kernel_h, kernel_w, -1)
    taps = kernel.taps(channels_last(data), size, (kernel_h, kernel_w), axes, block)
    summed: Array = sum(tap * filters[kh, kw] for kh, kw, tap in taps) + bias.reshape(-1)
    return summed


def stem_conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Convolution of a plain (N, C, H, W) image, padded here: weights (O/v, C, kh, kw, v)."""
    data, weight, bias = inputs
    _, channels, kernel_h, kernel_w, _ = weight.shape
    _, _, rows, columns = kernel.padded_shape()
    (top, left), (height, width) = kernel.padding(), data.shape[2:]
    image = np.zeros((len(data), rows, columns, channels))
    image[:, top : top + height, left : left + width] = data.transpose(0, 2, 3, 1)
    filters = weight.transpose(2, 3, 1, 0, 4).reshape(kernel_h, kernel_w, channels, -1)
    taps = kernel.taps(image, kernel.size(), (kernel_h, kernel_w))
    summed = sum(tap @ filters[kh, kw] for kh, kw, tap in taps)
    return kernel.finish(summed + bias.reshape(-1), shape)


def global_avg_pool2d(kernel: KernelForm, shape: tuple[int, ...], data: Array) -> Array:
    """Mean over the image: blocked → (N, C)."""
    image = channels_last(data)
    rows, columns = kernel.extents("sum")[3:]
    top, left = kernel.origin("sum", (3, 4))
    inside = image[:, top : top + rows, left : left + columns, : shape[1]]
    mean: Array = inside.mean((1, 2))
    return mean


def dense(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Fully connected: weights (O/v/panel, I, panel, v), the last filled up past the outputs."""
    data, weight, bias = inputs
    matrix = weight.transpose(1, 0, 2, 3).reshape(weight.shape[1], -1)
    return kernel.clamp(data @ matrix[:, : shape[1]] + bias)


def layout(kernel: KernelForm, shape: tuple[int, ...], data: Array) -> Array:
    """Between (N, C, H, W) and blocked: pack with a halo of zeros, or unpack."""
    if data.ndim == 5:
        top, left = kernel.origin("unpack", (2, 3))
        image = channels_last(data)[:, top : top + shape[2], left : left + shape[3], : shape[1]]
        return image.transpose(0, 3, 1, 2)
    result = np.zeros(shape)
    _, channels, height, width = data.shape
    top, left = (-one for one in kernel.origin("pack", IMAGE_AXES))
    pixels = channels_last(result)
    pixels[:, top : top + height, left : left + width, :channels] = data.transpose(0, 2, 3, 1)
    return blocked(pixels, shape)


REFERENCES: dict[str, Callable[..., Array]] = {
    "pointwise_conv2d": conv2d,
    "conv2d": conv2d,
    "depthwise_conv2d": depthwise_conv2d,
    "depthwise_operands": depthwise_operands,
    "strassen_conv2d": strassen_conv2d,
    "separable_conv2d": separable_conv2d,
    "stem_conv2d": stem_conv2d,
    "global_avg_pool2d": global_avg_pool2d,
    "dense": dense,
    "layout": layout,
}


def rows_outermost(shape: tuple[int, ...]) -> bool:
    """Of the two orders of a blocked tensor, which is told by its lanes."""
    return shape[-1] >= WIDE_VECTOR


def blocked(image: Array, shape: tuple[int, ...]) -> Array:
    """(N, H, W, C) → blocked, of this shape."""
    batch, rows, columns, _ = image.shape
    v = shape[-1]
    lanes = image.reshape(batch, rows, columns, -1, v)
    order = (0, 1, 3, 2, 4) if rows_outermost(shape) else (0, 3, 1, 2, 4)
    return lanes.transpose(order)


def channels_last(blocked: Array) -> Array:
    """Blocked → (N, H, W, C)."""
    planes = blocked.transpose(0, 2, 1, 3, 4) if rows_outermost(blocked.shape) else blocked
    batch, blocks, rows, columns, v = planes.shape
    return planes.transpose(0, 2, 3, 1, 4).reshape(batch, rows, columns, blocks * v)


class KernelForm:
    """The numbers of a layer, read off its unscheduled function."""

    def __init__(self, func: tirx.PrimFunc) -> None:
        self._params = list(func.params)
        self.blocks: dict[str, s_tir.SBlock] = {}
        self.rule = ""

        def collect(block: s_tir.SBlock) -> None:
            self.blocks[block.name_hint] = block
            self.rule = str(block.annotations.get("schedule_rule", self.rule))

        tvm_ffi.structural_walk(func.body, (s_tir.SBlock, collect))

    def extents(self, block: str) -> list[int]:
        return [int(one.dom.extent) for one in self.blocks[block].iter_vars]

    def size(self, block: str = "conv") -> tuple[int, int]:
        """The rows and columns of the result of the plain convolution that a block sums."""
        rows, columns = (self.extents(block)[axis] for axis in IMAGE_AXES)
        return rows, columns

    def taps(
        self,
        image: Array,
        size: tuple[int, int],
        window: tuple[int, int],
        axes: tuple[int, int] = IMAGE_AXES,
        block: str = "conv",
    ) -> list[Any]:
        """For each place in the window: the pixels (N, oh, ow, C) it sees of an (N, H, W, C).

        ``size`` is that of the result; ``axes`` are the loops of ``block``, the sum, over its rows
        and columns.
        """
        height, width = size
        indices = self._image_indices(axes, block)
        variables = [one.var for one in self.blocks[block].iter_vars]
        taps = []
        (stride_h, origin_h), (stride_w, origin_w) = (
            (_coefficient(index, variables[axis]), _constant(index))
            for index, axis in zip(indices, axes, strict=True)
        )
        for kh in range(window[0]):
            for kw in range(window[1]):
                top, left = origin_h + kh, origin_w + kw
                pixels = image[
                    :,
                    top : top + (height - 1) * stride_h + 1 : stride_h,
                    left : left + (width - 1) * stride_w + 1 : stride_w,
                ]
                taps.append((kh, kw, pixels))
        return taps

    def finish(self, summed: Array, shape: tuple[int, ...]) -> Array:
        """Clamp, and put (N, oh, ow, O) into the interior of a blocked result, its halo zero."""
        indices = self.blocks["epilogue"].body.indices
        row = 1 if rows_outermost(shape) else 2
        top, left = (_constant(indices[place]) for place in (row, 3))
        _, height, width, _ = summed.shape
        result = channels_last(np.zeros(shape))
        result[:, top : top + height, left : left + width] = self.clamp(summed)
        return blocked(result, shape)

    def clamp(self, value: Array, epilogue: str = "epilogue") -> Array:
        """The activation: what the epilogue's value is limited to."""
        node = self.blocks[epilogue].body.value
        while isinstance(node, tirx.Cast):
            node = node.value
        low, high = -np.inf, np.inf
        while isinstance(node, tirx.Max | tirx.Min):
            bound = float(node.b.value)
            if isinstance(node, tirx.Max):
                low = max(low, bound)
            else:
                high = min(high, bound)
            node = node.a
        limited: Array = np.clip(value, low, high)
        return limited

    def origin(self, block: str, places: tuple[int, int]) -> tuple[int, int]:
        """The row and column at which a block begins to read the image, its first parameter.

        ``places`` are those of the loops over rows and columns.
        """
        variables = [self.blocks[block].iter_vars[place].var for place in places]
        indices = next(i for source, i in self._loads(block) if source.same_as(self._params[0]))
        first, second = (
            _constant(index)
            for index in indices
            if any(_coefficient(index, variable) for variable in variables)
        )
        return first, second

    def padding(self) -> tuple[int, int]:
        """The rows above and the columns left of the stem's image."""
        top, left = self.origin("pad", (2, 3))
        return -top, -left

    def padded_shape(self) -> list[int]:
        return self.extents("pad")

    def _image_indices(self, axes: tuple[int, int], name: str) -> list[Any]:
        """The row and the column that a sum reads, of the data or of its padded copy."""
        block = self.blocks[name]
        variables = [block.iter_vars[axis].var for axis in axes]
        others = [*self._params[1:], block.body.buffer]
        for source, indices in self._loads(name):
            if not any(source.same_as(one) for one in others):
                return [i for i in indices if any(_coefficient(i, one) for one in variables)]
        raise NoReference("the sum reads no image")

    def _loads(self, block: str) -> list[tuple[Any, list[Any]]]:
        """What a block reads, each buffer with the indices."""
        found: list[tuple[Any, list[Any]]] = []

        def visit(load: ir.TensorLoad) -> None:
            found.append((load.source, list(load.indices)))

        tvm_ffi.structural_walk(self.blocks[block].body, (ir.TensorLoad, visit))
        return found


def _coefficient(index: Any, variable: Any) -> int:
    """By how much an index moves with a variable; 0 where it does not, or not linearly."""
    found = sym.detect_linear_equation(index, [variable])
    return int(found[0]) if len(found) == 2 and isinstance(found[0], tirx.IntImm) else 0


def _constant(index: Any) -> int:
    """What an index is where every variable is 0."""
    at_zero = tvm_ffi.structural_map(index, (tirx.Var, lambda one: tirx.IntImm(one.ty.dtype, 0)))
    return int(sym.Analyzer().simplify(at_zero))
