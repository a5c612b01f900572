"""What a kernel must compute, by NumPy, from the meaning of the layer it is.

Nothing of TVM computes here: neither the schedule nor the lowering nor LLVM that made a candidate
has a part in what it is held against. A layer's stride, origin and epilogue are read off the
unscheduled function's expressions; its sums are NumPy's own, in float64. The layouts are those of
``kernels.cpu``: activations as its ``layout`` has them, weights packed as its ``weights`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ml_dtypes
import numpy as np
from tvm import tirx

from tvm_mobilenet.tuning.workers.blocked_arrays import Array, blocked, channels_last
from tvm_mobilenet.tuning.workers.interpreter import write_block
from tvm_mobilenet.tuning.workers.kernel_form import (
    FORM_ERRORS,
    TOTAL,
    ImageAxes,
    KernelForm,
    NoReference,
)

IMAGE_AXES = (2, 3)  # the row and column among a kernel's loops
DOUBLE_ROWS = ((3, 4), (5,))  # the loops over rows, and over columns, of one that makes operands


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
    return kernel.finish(filter_channels(kernel, "conv", inputs), shape)


def depthwise_operands(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Depthwise convolution whose result is left as Strassen's left operands."""
    batch, _, half, rows, _, columns, v = kernel.extents("conv")[:7]
    summed = filter_channels(kernel, "conv", inputs, DOUBLE_ROWS) + inputs[2].reshape(-1)
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
    batch, rows, count, blocks, columns, v = operands.shape
    left = operands.transpose(2, 0, 1, 4, 3, 5).reshape(count, -1, blocks * v)
    right = weight.transpose(1, 2, 0, 3, 4).reshape(count, blocks * v, -1)
    # (7, N H / 2 W, O / 2) → (7, N, O / 2 / v, H / 2, W, v)
    by_pixel = (left @ right).reshape(count, batch, rows, columns, -1, shape[-1])
    products = kernel.products(by_pixel.transpose(0, 1, 4, 2, 3, 5))
    return kernel.write("products", products, shape)


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
    _, count, channels, *_ = weight.shape
    batch, rows, _, blocks, columns, v = operands.shape
    left = operands.transpose(2, 0, 1, 4, 3, 5).reshape(count, -1, blocks * v)[..., :channels]
    right = weight.transpose(1, 2, 0, 3, 4).reshape(count, channels, -1)
    # (16, N H W, O) → (16, N, O / v, H, W, v), of rows and columns of tiles
    by_pixel = (left @ right).reshape(count, batch, rows, columns, -1, shape[-1])
    products = kernel.products(by_pixel.transpose(0, 1, 4, 2, 3, 5))
    return kernel.write("products", products, shape)


def separable_conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """A depthwise and a 1x1 convolution: the weights and bias of the one, then of the other."""
    *first, weight = inputs[:4]
    summed = filter_channels(kernel, "filter", first) + first[2].reshape(-1)
    middle = kernel.clamp(summed, "filter_epilogue")
    _, _, _, channels, _, _ = weight.shape
    matrix = weight.transpose(1, 2, 3, 0, 4, 5).reshape(channels, -1)
    return kernel.finish(middle[..., :channels] @ matrix, shape)


def filter_channels(
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


def half_dense(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """As dense, of features that it rounds to float16 itself, with sums in parts."""
    data, weight, *_ = inputs
    matrix = weight.transpose(1, 0, 2, 3).reshape(weight.shape[1], -1)
    read = data.astype(np.float16).astype(np.float64)
    return kernel.write(TOTAL, (read @ matrix).reshape(len(data), -1, weight.shape[-1]), shape)


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


def tiles_conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Dense convolution by tiles: weights (O/v/panel, steps, rows, panel, v, 4 or 2).

    A tile's pixels are copied first: of every step its channels, zero past the last.
    """
    _, weight, *_ = inputs
    panels, steps, rows, panel, v, together = weight.shape
    by_channel = weight.transpose(1, 2, 5, 0, 3, 4)
    filters = by_channel.reshape(steps, rows * together, panels * panel * v)
    pixels = kernel.written(["copy"], kernel.buffers, tuple(kernel.extents("copy")))
    sums = np.einsum("nhwspk,sko->nhwpo", pixels, filters)
    lanes = sums.reshape(*sums.shape[:-1], panels * panel, v)
    return kernel.write("conv", lanes.transpose(0, 1, 2, 4, 3, 5), shape)


def quantized_depthwise_conv2d(kernel: KernelForm, shape: tuple[int, ...], *inputs: Array) -> Array:
    """Depthwise: weights (C/v, kh, outputs, dwords, v, 4), by fours of pixels.

    So many neighbouring outputs read the same pixels, each with weights of its own.
    """
    data, weight, *_ = inputs
    if weight.ndim == 4:  # a tap at a time, of CPUs without dot products
        return depthwise_conv2d(kernel, shape, *inputs)
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
    if weight.dtype == np.int16:  # planes apart, of CPUs without dot products
        return planar_stem_conv2d(kernel, shape, weight.astype(np.float64))
    _, kernel_h, kernel_w, _, dot = weight.shape
    pixels = kernel.pixels().astype(np.int64)
    image = np.stack([pixels >> 8 * byte & 255 for byte in range(dot)], axis=-1).astype(np.float64)
    if kernel.sums_signed():
        image -= 256.0 * (image > 127)
    filters = weight.transpose(1, 2, 4, 0, 3).reshape(kernel_h, kernel_w, dot, -1)
    taps = kernel.taps(image, (kernel_h, kernel_w))
    return kernel.finish(sum(tap @ filters[kh, kw] for kh, kw, tap in taps), shape)


def planar_stem_conv2d(kernel: KernelForm, shape: tuple[int, ...], weight: Array) -> Array:
    """The same, where a pixel's bytes are not one dword: weights (O/v, C, kh, kw, v)."""
    _, channels, kernel_h, kernel_w, _ = weight.shape
    image = kernel.pixels().transpose(0, 2, 3, 1)
    filters = weight.transpose(2, 3, 1, 0, 4).reshape(kernel_h, kernel_w, channels, -1)
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


REFERENCES: dict[str, Callable[..., Array]] = {
    "pointwise_conv2d": conv2d,
    "conv2d": conv2d,
    "depthwise_conv2d": depthwise_conv2d,
    "depthwise_operands": depthwise_operands,
    "elementwise": element_by_element,
    "move_channels": element_by_element,
    "blocked_avg_pool2d": global_avg_pool2d,
    "half_dense": half_dense,
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
    "tiles_conv2d_bfloat16": tiles_conv2d,
    "tiles_conv2d_uint8": tiles_conv2d,
    "layout": layout,
}
