"""The first convolution, which reads the plain float32 (N, C, H, W) image: no transpose."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.gpu.image import Image
from tvm_mobilenet.kernels.parsing import parsed_once


@parsed_once
def stem_conv2d(
    image: tuple[int, int, int, int], out: Image, window: Window, activation: Activation
) -> tirx.PrimFunc:
    """Buffers: image (N, C, H, W); weights float32 (C, kh, kw, out.stored); bias; out."""
    _, channels_in, height, width = image
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    top, left = window.padding
    tile = (out.batch, out.height, out.width, out.stored)
    reach = ((out.height - 1) * stride_h + kernel_h, (out.width - 1) * stride_w + kernel_w)

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(image, "float32"),
        weight: T.Buffer((channels_in, kernel_h, kernel_w, out.stored), "float32"),
        bias: T.Buffer((out.stored,), "float32"),
        result: T.Buffer(out.shape, out.dtype),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        inputs = T.sblock_alloc_buffer((out.batch, channels_in, *reach), "float32")
        sums = T.sblock_alloc_buffer(tile, "float32")
        values = T.sblock_alloc_buffer(tile, out.dtype)
        for n, k, h, w in T.grid(out.batch, channels_in, *reach):
            with T.sblock("inputs"):
                vn, vk, vh, vw = T.axis.remap("SSSS", [n, k, h, w])
                inputs[vn, vk, vh, vw] = T.if_then_else(
                    tirx.all(vh >= top, vh < height + top, vw >= left, vw < width + left),
                    data[vn, vk, vh - top, vw - left],
                    T.float32(0),
                )
        for n, h, w, c, k, kh, kw in T.grid(*tile, channels_in, kernel_h, kernel_w):
            with T.sblock("conv"):
                vn, vh, vw, vc, vk, vkh, vkw = T.axis.remap("SSSSRRR", [n, h, w, c, k, kh, kw])
                T.sblock_attr({"schedule_rule": "stem_conv2d"})
                with T.init():
                    sums[vn, vh, vw, vc] = T.float32(0)
                sums[vn, vh, vw, vc] = (
                    sums[vn, vh, vw, vc]
                    + inputs[vn, vk, vh * stride_h + vkh, vw * stride_w + vkw]
                    * weight[vk, vkh, vkw, vc]
                )
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
