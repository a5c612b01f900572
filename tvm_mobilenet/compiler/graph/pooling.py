"""Pooling over windows as layers of our own."""

from __future__ import annotations

from collections.abc import Sequence

from tvm.ir import Var

from tvm_mobilenet.compiler.graph.layers import Layer, Other, WindowPooling, is_call

MOST_TAPS = 49  # a larger window is left to TVM: its taps would not fit straight code


def pool_windows(layers: Sequence[Layer]) -> list[Layer]:
    """``layers`` with the poolings that we have a kernel for."""
    return [pooling(layer) or layer if isinstance(layer, Other) else layer for layer in layers]


def pooling(layer: Other) -> WindowPooling | None:
    value = layer.value
    is_max, is_mean = is_call(value, "relax.nn.max_pool2d"), is_call(value, "relax.nn.avg_pool2d")
    if not (is_max or is_mean) or not isinstance(value.args[0], Var):
        return None
    attrs = value.attrs
    kernel_h, kernel_w = (int(size) for size in attrs.pool_size)
    stride_h, stride_w = (int(step) for step in attrs.strides)
    top, left, bottom, right = (int(pad) for pad in attrs.padding)
    if (
        str(attrs.layout) != "NCHW"
        or str(layer.result.ty.dtype) != "float32"
        or any(int(step) != 1 for step in attrs.dilation)
        or kernel_h * kernel_w > MOST_TAPS
        # what a mean over a window that ends outside of the padding divides by is a riddle
        or (is_mean and bool(attrs.ceil_mode) and any((top, left, bottom, right)))
    ):
        return None
    counts_padding = bool(attrs.count_include_pad) and any((top, left, bottom, right))
    return WindowPooling(
        source=value.args[0],
        result=layer.result,
        kind="max" if is_max else "mean" if counts_padding else "mean_of_image",
        kernel=(kernel_h, kernel_w),
        stride=(stride_h, stride_w),
        padding=(top, left, bottom, right),
    )
