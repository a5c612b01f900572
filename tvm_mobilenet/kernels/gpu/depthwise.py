"""Depthwise convolution by itself, where fusing it with what comes after does not pay."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.gpu.image import Image
from tvm_mobilenet.kernels.parsing import parsed_once


@parsed_once
def depthwise_conv2d(x: Image, out: Image, window: Window, activation: Activation) -> tirx.PrimFunc:
    """Channel multiplier 1. ``inputs`` is the part of the image that a thread's window meets.

    Buffers: x; weights (taps, stored channels); bias float32 (stored channels,); out.
    """
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    top, left = window.padding
    channels, dtype = x.stored, x.dtype
    tile = (out.batch, out.height, out.width, channels)
    # as far as the filter reaches, which may be past the image or short of its end
    reach = (
        (out.height - 1) * stride_h + kernel_h,
        (out.width - 1) * stride_w + kernel_w,
    )

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, dtype),
        weight: T.Buffer((window.taps, channels), dtype),
        bias: T.Buffer((channels,), "float32"),
        result: T.Buffer(out.shape, out.dtype),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        inputs = T.sblock_alloc_buffer((out.batch, *reach, channels), dtype)
        sums = T.sblock_alloc_buffer(tile, "float32")
        values = T.sblock_alloc_buffer(tile, out.dtype)
        for n, h, w, c in T.grid(out.batch, *reach, channels):
            with T.sblock("inputs"):
                vn, vh, vw, vc = T.axis.remap("SSSS", [n, h, w, c])
                inputs[vn, vh, vw, vc] = T.if_then_else(
                    tirx.all(vh >= top, vh < x.height + top, vw >= left, vw < x.width + left),
                    data[(vn * x.height + (vh - top)) * x.width + (vw - left), vc],
                    T.cast(0, dtype),
                )
        for n, h, w, c, kh, kw in T.grid(*tile, kernel_h, kernel_w):
            with T.sblock("conv"):
                vn, vh, vw, vc, vkh, vkw = T.axis.remap("SSSSRR", [n, h, w, c, kh, kw])
                T.sblock_attr({"schedule_rule": "depthwise_conv2d"})
                with T.init():
                    sums[vn, vh, vw, vc] = T.float32(0)
                sums[vn, vh, vw, vc] = sums[vn, vh, vw, vc] + T.cast(
                    inputs[vn, vh * stride_h + vkh, vw * stride_w + vkw, vc], "float32"
                ) * T.cast(weight[vkh * kernel_w + vkw, vc], "float32")
        for n, h, w, c in T.grid(*tile):
            with T.sblock("epilogue"):
                vn, vh, vw, vc = T.axis.remap("SSSS", [n, h, w, c])
                values[vn, vh, vw, vc] = T.cast(
                    activation(sums[vn, vh, vw, vc] + bias[vc]), out.dtype
                )
        for n, h, w, c in T.grid(*tile):
            with T.sblock("store"):
                vn, vh, vw, vc = T.axis.remap("SSSS", [n, h, w, c])
                result[(vn * out.height + vh) * out.width + vw, vc] = values[vn, vh, vw, vc]

    return main
