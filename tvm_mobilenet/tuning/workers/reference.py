"""What a kernel must compute, by NumPy, from the meaning of the layer it is.

Nothing of TVM computes here: neither the schedule nor the lowering nor LLVM that made a candidate
has a part in what it is held against. A layer's stride, origin and epilogue are read off the
unscheduled function's expressions; its sums are NumPy's own, in float64. The layouts are those of
``kernels.cpu``: activations as its ``layout`` has them, weights packed as its ``weights`` says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import tvm_ffi
from numpy.typing import NDArray
from tvm import ir, s_tir, sym, tirx

from tvm_mobilenet.kernels.cpu.layout import WIDE_VECTOR
from tvm_mobilenet.tuning.workers.case import is_float
from tvm_mobilenet.tuning.workers.interpreter import each_element, index_values, write_block

Array = NDArray[Any]
# Places of the loops over rows, and of those over columns: one each, or over tiles and inside one.
ImageAxes: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]

REDUCTION = tirx.IterVar.CommReduce
IMAGE_AXES = (2, 3)  # the row and column among a kernel's loops
DOUBLE_ROWS = ((3, 4), (5,))  # the loops over rows, and over columns, of one that makes operands
# what reading a function of another form ends in
FORM_ERRORS = (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError)


class NoReference(Exception):
    """The kernel is no layer that is known here."""


def output(func: tirx.PrimFunc, inputs: Sequence[Array], result: Array) -> Array:
    """What ``func`` must write, like ``result``, given its inputs in their order.

    For bytes it is float64: the values that those are to be the next integers of.
    Raises NoReference for a kernel of another kind or another form.
    """
    kernel = KernelForm(func, inputs)
    reference = REFERENCES.get(kernel.rule)
    if reference is None:
        raise NoReference(f"no reference for {kernel.rule or 'a kernel without a rule'}")
    try:
        value = reference(kernel, result.shape, *kernel.inputs)
    except FORM_ERRORS as error:
        raise NoReference(f"{kernel.rule} in a form the reference does not know") from error
    if value.shape != result.shape:
        raise NoReference(f"{kernel.rule} in a form the reference does not know")
    return value if result.dtype.itemsize == 1 else value.astype(result.dtype)


# ---- the layers


def conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Dense convolution, 1x1 included: weights (O/v/panel, kh, kw, I / groups, panel, v)."""
    data, weight, *_ = inputs
    _, kernel_h, kernel_w, channels, _, v = weight.shape
    # a group is the output vectors that begin to read at the same channel
    firsts = kernel.first_channels()
    vectors = weight.transpose(1, 2, 3, 0, 4, 5).reshape(kernel_h, kernel_w, channels, -1, v)
    sums = []
    for first in dict.fromkeys(firsts):
        mine = [place for place, one in enumerate(firsts) if one == first]
        filters = vectors[:, :, :, mine].reshape(kernel_h, kernel_w, channels, -1)
        image = channels_last(data)[..., first : first + channels]
        taps = kernel.taps(image, (kernel_h, kernel_w))
        sums.append(sum(tap @ filters[kh, kw] for kh, kw, tap in taps))
    return kernel.finish(np.concatenate(sums, axis=-1), shape)


def depthwise_conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Depthwise convolution: weights (C/v, kh, kw, v)."""
    return kernel.finish(filtered(kernel, "conv", inputs), shape)


def depthwise_operands(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Depthwise convolution whose result is left as Strassen's left operands."""
    batch, _, half, rows, _, columns, v = kernel.extents("conv")[:7]
    summed = filtered(kernel, "conv", inputs, DOUBLE_ROWS) + inputs[2].reshape(-1)
    active = kernel.clamp(summed)
    # pixels by odd and even row, channels by half: (i, j, N, H / 2, W, C / 2)
    parts = active.reshape(batch, rows, 2, columns, 2, half * v).transpose(2, 4, 0, 1, 3, 5)
    (a11, a12), (a21, a22) = parts
    s1, s2 = a21 + a22, a21 + a22 - a11
    operands = np.stack([a11, a12, a12 - s2, a22, s1, s2, a11 - a21])
    vectors = operands.reshape(len(operands), batch, rows, columns, half, v)
    return vectors.transpose(1, 2, 0, 4, 3, 5)


def strassen_conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """The seven products of a 1x1 convolution and their sums: weights (O/2/v/panel, 7, I/2, …)."""
    operands, weight, *_ = inputs
    batch, rows, products, blocks, columns, v = operands.shape
    left = operands.transpose(2, 0, 1, 4, 3, 5).reshape(products, -1, blocks * v)
    right = weight.transpose(1, 2, 0, 3, 4).reshape(products, blocks * v, -1)
    # (7, N H / 2 W, O / 2) → (7, N, O / 2 / v, H / 2, W, v)
    products_of = (left @ right).reshape(products, batch, rows, columns, -1, shape[-1])
    return kernel.write("products", products_of.transpose(0, 1, 4, 2, 3, 5), shape)


def winograd_operands(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """The transform of 4x4 windows: B' d B."""
    (data,) = inputs
    to_window = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    rows, columns = (
        starts[:, :1] + np.arange(len(to_window)) for starts in kernel.starts("operands", (2, 3))
    )
    windows = channels_last(data)[:, rows[:, :, None, None], columns[None, None]]
    transformed = np.einsum("ai,bj,nhiwjc->nhabwc", to_window, to_window, windows)
    batch, tile_rows, _, blocks, tile_columns, v = shape
    lanes: Array = transformed.reshape(batch, tile_rows, -1, tile_columns, blocks, v)
    return lanes.transpose(0, 1, 2, 4, 3, 5)


def winograd_conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """The sixteen products of a 3x3 convolution and their sums: weights (O/v/panel, 16, I, …)."""
    operands, weight, *_ = inputs
    _, products, channels, *_ = weight.shape
    batch, rows, _, blocks, columns, v = operands.shape
    left = operands.transpose(2, 0, 1, 4, 3, 5).reshape(products, -1, blocks * v)[..., :channels]
    right = weight.transpose(1, 2, 0, 3, 4).reshape(products, channels, -1)
    # (16, N H W, O) → (16, N, O / v, H, W, v), of rows and columns of tiles
    products_of = (left @ right).reshape(products, batch, rows, columns, -1, shape[-1])
    return kernel.write("products", products_of.transpose(0, 1, 4, 2, 3, 5), shape)


def separable_conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """A depthwise and a 1x1 convolution: the weights and bias of the one, then of the other."""
    *first, weight = inputs[:4]
    summed = filtered(kernel, "filter", first) + first[2].reshape(-1)
    middle = kernel.clamp(summed, "filter_epilogue")
    _, _, _, channels, _, _ = weight.shape
    matrix = weight.transpose(1, 2, 3, 0, 4, 5).reshape(channels, -1)
    return kernel.finish(middle[..., :channels] @ matrix, shape)


def filtered(
    kernel: KernelForm,
    block: str,
    inputs: Sequence[Array],
    axes: ImageAxes | None = None,
) -> Array:
    """A depthwise convolution before its bias, (N, H, W, C); ``block`` is its sum."""
    data, weight, *_ = inputs
    _, kernel_h, kernel_w, _ = weight.shape
    filters = weight.transpose(1, 2, 0, 3).reshape(kernel_h, kernel_w, -1)
    taps = kernel.taps(channels_last(data), (kernel_h, kernel_w), axes, block)
    summed: Array = np.sum([tap * filters[kh, kw] for kh, kw, tap in taps], axis=0)
    return summed


def stem_conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Convolution of a plain (N, C, H, W) image, padded here: weights (O/v, C, kh, kw, v)."""
    data, weight, *_ = inputs
    _, channels, kernel_h, kernel_w, _ = weight.shape
    _, _, rows, columns = kernel.padded_shape()
    (top, left), (height, width) = kernel.padding(), data.shape[2:]
    image = np.zeros((len(data), rows, columns, channels))
    image[:, top : top + height, left : left + width] = data.transpose(0, 2, 3, 1)
    filters = weight.transpose(2, 3, 1, 0, 4).reshape(kernel_h, kernel_w, channels, -1)
    taps = kernel.taps(image, (kernel_h, kernel_w))
    return kernel.finish(sum(tap @ filters[kh, kw] for kh, kw, tap in taps), shape)


def bf16_stem_conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """As stem_conv2d: weights (O/v, kh, kw, pairs, v, 2), by pairs of input channels."""
    data, weight, *_ = inputs
    blocks, kernel_h, kernel_w, pairs, v, pair = weight.shape
    by_channel = weight.transpose(0, 3, 5, 1, 2, 4)
    plain = by_channel.reshape(blocks, pairs * pair, kernel_h, kernel_w, v)[:, : data.shape[1]]
    return stem_conv2d(kernel, shape, in_bf16(data), plain)


def bf16_dense(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """As quantized_dense, by pairs of features, which it rounds itself."""
    data, *others = inputs
    return quantized_dense(kernel, shape, in_bf16(data), *others)


def in_bf16(array: Array) -> Array:
    """Rounded to bfloat16, as float64."""
    return array.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)


def global_avg_pool2d(kernel: KernelForm, shape: tuple[int, ...], data: Array) -> Array:
    """Mean over the image: blocked → (N, C), or blocked of one pixel; of integers' real values."""
    image = channels_last(kernel.summand("sum", data))
    batch, blocks, v, rows, columns = kernel.extents("sum")
    top, left = kernel.origin("sum", (3, 4))
    inside = image[:, top : top + rows, left : left + columns]
    return kernel.write("sum", inside.sum((1, 2)).reshape(batch, blocks, v), shape)


def dense(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Fully connected: weights (O/v/panel, I, panel, v), the last filled up past the outputs."""
    data, weight, *_ = inputs
    matrix = weight.transpose(1, 0, 2, 3).reshape(weight.shape[1], -1)
    return kernel.write("dense", (data @ matrix).reshape(len(data), -1, weight.shape[-1]), shape)


def quantized_conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """As conv2d: weights (O/v/panel, kh, kw, steps, panel, v, 4), by fours of input channels.

    In bfloat16 it is pairs, here and in those below.
    """
    data, weight, *_ = inputs
    panels, kernel_h, kernel_w, steps, panel, v, dot = weight.shape
    by_channel = weight.transpose(0, 1, 2, 3, 6, 4, 5)
    plain = by_channel.reshape(panels, kernel_h, kernel_w, steps * dot, panel, v)
    return conv2d(kernel, shape, data, plain)


def quantized_depthwise_conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Depthwise: weights (C/v, kh, outputs, dwords, v, 4), by fours of pixels.

    So many neighbouring outputs read the same pixels, each with weights of its own.
    """
    data, weight, *_ = inputs
    _, kernel_h, outputs, dwords, _, dot = weight.shape
    width = dwords * dot
    filters = weight.transpose(1, 3, 5, 2, 0, 4).reshape(kernel_h, width, outputs, -1)
    summed = 0
    for kh, kw, tap in kernel.taps(channels_last(data), (kernel_h, width)):
        batch, rows, columns, channels = tap.shape
        groups = tap.reshape(batch, rows, columns // outputs, outputs, channels)
        summed = summed + groups * filters[kh, kw]
    return kernel.finish(np.asarray(summed).reshape(batch, rows, columns, channels), shape)


def quantized_stem_conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Convolution of a plain image, whose pixels become four bytes: weights (O/v, kh, kw, v, 4)."""
    _, weight, *_ = inputs
    _, kernel_h, kernel_w, _, dot = weight.shape
    pixels = kernel.pixels().astype(np.int64)
    image = np.stack([pixels >> 8 * byte & 255 for byte in range(dot)], axis=-1).astype(np.float64)
    if kernel.sums_signed():
        image -= 256.0 * (image > 127)
    filters = weight.transpose(1, 2, 4, 0, 3).reshape(kernel_h, kernel_w, dot, -1)
    taps = kernel.taps(image, (kernel_h, kernel_w))
    return kernel.finish(sum(tap @ filters[kh, kw] for kh, kw, tap in taps), shape)


def quantized_dense(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Fully connected: weights (O/v/panel, steps, panel, v, 4), by fours of features."""
    data, weight, *_ = inputs
    panels, steps, panel, v, dot = weight.shape
    plain = weight.transpose(0, 1, 4, 2, 3).reshape(panels, steps * dot, panel, v)
    return dense(kernel, shape, data, plain)


def element_by_element(kernel: KernelForm, shape: tuple[int, ...], *_: Array) -> Array:
    """No sums: arithmetic, pooling over windows, resizing, channels that change their place."""
    result = np.zeros(shape)
    for block in kernel.blocks.values():
        if block.iter_vars:
            write_block(block, kernel.buffers, result)
    return result


def layout(kernel: KernelForm, shape: tuple[int, ...], data: Array) -> Array:
    """Between (N, C, H, W) and blocked: pack with a halo of what is zero, or unpack."""
    if data.ndim == 5:
        top, left = kernel.origin("unpack", (2, 3))
        image = channels_last(data)[:, top : top + shape[2], left : left + shape[3], : shape[1]]
        return image.transpose(0, 3, 1, 2)
    value = kernel.blocks["pack"].body.value
    *_, zero = (value.value if isinstance(value, tirx.Cast) else value).args
    result = np.full(shape, float(zero.value))
    _, channels, height, width = data.shape
    top, left = (-one for one in kernel.origin("pack", IMAGE_AXES))
    pixels = channels_last(result)
    pixels[:, top : top + height, left : left + width, :channels] = data.transpose(0, 2, 3, 1)
    return blocked(pixels, shape)


TOTAL = "total"  # the block that adds up the parts of each sum, of kernels that have such

REFERENCES: dict[str, Callable[..., Array]] = {
    "pointwise_conv2d": conv2d,
    "conv2d": conv2d,
    "depthwise_conv2d": depthwise_conv2d,
    "depthwise_operands": depthwise_operands,
    "elementwise": element_by_element,
    "move_channels": element_by_element,
    "blocked_avg_pool2d": global_avg_pool2d,
    "bf16_conv2d": quantized_conv2d,
    "bf16_dense": bf16_dense,
    "bf16_depthwise_conv2d": quantized_depthwise_conv2d,
    "bf16_stem_conv2d": bf16_stem_conv2d,
    "strassen_conv2d": strassen_conv2d,
    "separable_conv2d": separable_conv2d,
    "winograd_conv2d": winograd_conv2d,
    "winograd_operands": winograd_operands,
    "stem_conv2d": stem_conv2d,
    "global_avg_pool2d": global_avg_pool2d,
    "dense": dense,
    "quantized_conv2d": quantized_conv2d,
    "quantized_dense": quantized_dense,
    "quantized_depthwise_conv2d": quantized_depthwise_conv2d,
    "quantized_stem_conv2d": quantized_stem_conv2d,
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

    def __init__(self, func: tirx.PrimFunc, inputs: Sequence[Array] = ()) -> None:
        self._params = list(func.params)
        self.inputs = [one.astype(np.float64) if is_value(one) else one for one in inputs]
        self.buffers = list(zip(self._params, self.inputs, strict=False))
        self.blocks: dict[str, s_tir.SBlock] = {}
        self.rule = ""

        def collect(block: s_tir.SBlock) -> None:
            self.blocks[block.name_hint] = block
            self.rule = str(block.annotations.get("schedule_rule", self.rule))

        tvm_ffi.structural_walk(func.body, (s_tir.SBlock, collect))

    def extents(self, block: str) -> list[int]:
        return [int(one.dom.extent) for one in self.blocks[block].iter_vars]

    def image_axes(self, block: str) -> ImageAxes:
        """Of a convolution's sum, whose loops are image, channel block, rows, columns, lane."""
        plain = [place for place, one in enumerate(self._variables(block)) if not is_sum(one)]
        if TOTAL in self.blocks:  # which has no loop over the parts of a sum
            plain = plain[: len(self.extents(TOTAL))]
        image = plain[2:-1]
        rows = 2 if len(image) == 4 else 1  # the columns alone may be in tiles
        return tuple(image[:rows]), tuple(image[rows:])

    def taps(
        self,
        image: Array,
        window: tuple[int, int],
        axes: ImageAxes | None = None,
        block: str = "conv",
    ) -> list[Any]:
        """For each place in the window: the pixels (N, oh, ow, C) it sees of an (N, H, W, C).

        The result's rows and columns are those of ``block``, the sum, as its loops have them; where
        tiles overlap some are there twice.
        """
        rows, columns = self.starts(block, axes or self.image_axes(block))
        return [
            (kh, kw, image[:, rows[:, kh, None], columns[None, :, kw]])
            for kh in range(window[0])
            for kw in range(window[1])
        ]

    def starts(self, block: str, axes: ImageAxes | tuple[int, int]) -> list[Array]:
        """The rows, and the columns, that a block reads: (one of the result, one of the window)."""
        found = []
        groups = [one if isinstance(one, tuple) else (one,) for one in axes]
        variables = self._variables(block)
        for index, group in zip(self._image_indices(groups, block), groups, strict=True):
            window = [
                place
                for place, one in enumerate(variables)
                if is_sum(one) and _depends(index, one.var)
            ]
            values = index_values(self.blocks[block], index)
            kept = (*group, *window)
            others = tuple(0 if place not in kept else slice(None) for place in range(values.ndim))
            length = math.prod(values.shape[place] for place in group)
            found.append(values[others].reshape(length, -1))
        return found

    def first_channels(self) -> list[int]:
        """The first input channel that each output vector of a dense convolution reads."""
        block = self.blocks["conv"]
        source = self._params[0]
        indices = next(i for one, i in self._loads("conv") if one.same_as(source))
        vector = source.shape[-1]
        place = 2 if rows_outermost(tuple(map(int, source.shape))) else 1
        channel = indices[place] * vector + indices[-1]
        values: Array = index_values(block, channel)
        firsts: list[int] = values.transpose()[(0,) * (values.ndim - 2)][:, 0].tolist()
        return firsts

    def finish(self, summed: Array, shape: tuple[int, ...]) -> Array:
        """What the epilogue makes of a convolution's sums (N, oh, ow, O), blocked, halo zero."""
        batch, height, width, _ = summed.shape
        lanes = summed.reshape(batch, height, width, -1, shape[-1]).transpose(0, 3, 1, 2, 4)
        rows, columns = self.image_axes("conv")
        extents = self.extents("conv")
        image = [extents[place] for place in (*rows, *columns)]
        last = TOTAL if TOTAL in self.blocks else "conv"
        return self.write(last, lanes.reshape(*lanes.shape[:2], *image, shape[-1]), shape)

    def write(self, block: str, sums: Array, shape: tuple[int, ...]) -> Array:
        """What the epilogue makes of the sums of ``block``, as that block has them."""
        buffers = [*self.buffers, (self.blocks[block].body.buffer, sums)]
        halo = [name for name in self.blocks if name.startswith("halo")]
        return self.written(["epilogue", *halo], buffers, shape)

    def pixels(self) -> Array:
        """What a stem makes of its image before it is summed, padded."""
        return self.written(["pad"], self.buffers, tuple(self.extents("pad")))

    def sums_signed(self) -> bool:
        """Whether the bytes of a stem's pixels have a sign, for which they are shifted."""
        return "<<" in str(self.blocks["conv"].body.value)

    def written(
        self, blocks: Sequence[str], buffers: list[tuple[Any, Array]], shape: tuple[int, ...]
    ) -> Array:
        """What blocks write into a tensor of this shape."""
        result = np.zeros(shape)
        for name in blocks:
            write_block(self.blocks[name], buffers, result)
        return result

    def summand(self, block: str, data: Array) -> Array:
        """What a block sums of each element of ``data``."""
        return each_element(self.blocks[block].body.value.b, data)

    def clamp(self, value: Array, epilogue: str = "epilogue") -> Array:
        """The activation of a layer that another reads: what its value is limited to.

        Raises ValueError where the epilogue is anything else.
        """
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
        if not isinstance(node, tirx.Add):
            raise ValueError("expected a sum and its bias")
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

    def _variables(self, block: str) -> list[tirx.IterVar]:
        return list(self.blocks[block].iter_vars)

    def _image_indices(self, axes: Sequence[tuple[int, ...]], name: str) -> list[Any]:
        """The row and the column that a block reads, of the data or of its padded copy."""
        block = self.blocks[name]
        variables = [block.iter_vars[place].var for group in axes for place in group]
        others = [*self._params[1:], block.body.buffer]
        for source, indices in self._loads(name):
            if not any(source.same_as(one) for one in others):
                return [i for i in indices if any(_depends(i, one) for one in variables)]
        raise NoReference("the sum reads no image")

    def _loads(self, block: str) -> list[tuple[Any, list[Any]]]:
        """What a block reads, each buffer with the indices."""
        found: list[tuple[Any, list[Any]]] = []

        def visit(load: ir.TensorLoad) -> None:
            found.append((load.source, list(load.indices)))

        tvm_ffi.structural_walk(self.blocks[block].body, (ir.TensorLoad, visit))
        return found


def is_sum(axis: tirx.IterVar) -> bool:
    """Whether a block sums over it."""
    return bool(axis.iter_type == REDUCTION)


def is_value(array: Array) -> bool:
    """Whether it holds values that are computed with, not places of such."""
    return is_float(array.dtype) or array.dtype.itemsize == 1


def _depends(index: Any, variable: Any) -> bool:
    """Whether an index moves with a variable."""
    found: list[Any] = []
    tvm_ffi.structural_walk(index, (tirx.Var, found.append))
    return any(one.same_as(variable) for one in found)


def _coefficient(index: Any, variable: Any) -> int:
    """By how much an index moves with a variable; 0 where it does not, or not linearly."""
    found = sym.detect_linear_equation(index, [variable])
    return int(found[0]) if len(found) == 2 and isinstance(found[0], tirx.IntImm) else 0


def _constant(index: Any) -> int:
    """What an index is where every variable is 0."""
    at_zero = tvm_ffi.structural_map(index, (tirx.Var, lambda one: tirx.IntImm(one.ty.dtype, 0)))
    return int(sym.Analyzer().simplify(at_zero))
