"""Global average pooling and the classifier, each by itself or as one kernel."""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.gpu.image import Image, round_up
from tvm_mobilenet.kernels.parsing import parsed_once


@parsed_once
def global_avg_pool2d(x: Image) -> tirx.PrimFunc:
    """Mean over the image: channels last → float32 (N, C)."""
    area = x.height * x.width

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, x.dtype),
        result: T.Buffer((x.batch, x.channels), "float32"),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        acc = T.sblock_alloc_buffer((x.batch, x.channels), "float32")
        for n, c, p in T.grid(x.batch, x.channels, area):
            with T.sblock("sum"):
                vn, vc, vp = T.axis.remap("SSR", [n, c, p])
                T.sblock_attr({"schedule_rule": "global_avg_pool2d"})
                with T.init():
                    acc[vn, vc] = T.float32(0)
                acc[vn, vc] = acc[vn, vc] + T.cast(data[vn * area + vp, vc], "float32")
        for n, c in T.grid(x.batch, x.channels):
            with T.sblock("epilogue"):
                vn, vc = T.axis.remap("SS", [n, c])
                result[vn, vc] = acc[vn, vc] * T.float32(1 / area)

    return main


@parsed_once
def dense(
    batch: int, features_in: int, features_out: int, dtype: str, activation: Activation
) -> tirx.PrimFunc:
    """Fully connected layer.

    Buffers: data float32 (N, C_in); weights ``dtype`` (C_out, C_in in whole tiles); bias float32
    (C_out,); result float32 (N, C_out). A weight row is read by consecutive lanes, 16 bytes each.
    """

    stored_in = round_up(features_in)

    def given(data: Any, n: Any, k: Any) -> Any:
        """The input, zero past its end."""
        if stored_in == features_in:
            return data[n, k]
        return T.if_then_else(k < features_in, data[n, k], T.float32(0))

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer((batch, features_in), "float32"),
        weight: T.Buffer((features_out, stored_in), dtype),
        bias: T.Buffer((features_out,), "float32"),
        result: T.Buffer((batch, features_out), "float32"),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        acc = T.sblock_alloc_buffer((batch, features_out), "float32")
        for n, o, k in T.grid(batch, features_out, stored_in):
            with T.sblock("dense"):
                vn, vo, vk = T.axis.remap("SSR", [n, o, k])
                T.sblock_attr({"schedule_rule": "dense"})
                with T.init():
                    acc[vn, vo] = T.float32(0)
                acc[vn, vo] = acc[vn, vo] + given(data, vn, vk) * T.cast(weight[vo, vk], "float32")
        for n, o in T.grid(batch, features_out):
            with T.sblock("epilogue"):
                vn, vo = T.axis.remap("SS", [n, o])
                result[vn, vo] = activation(acc[vn, vo] + bias[vo])

    return main


@parsed_once
def pooled_dense(x: Image, features_out: int, activation: Activation) -> tirx.PrimFunc:
    """Fully connected layer of the mean over the image.

    Buffers: data channels last; weights of its dtype (C_out, stored channels); bias float32
    (C_out,); result float32 (N, C_out).
    """
    area, batch, channels = x.height * x.width, x.batch, x.stored

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, x.dtype),
        weight: T.Buffer((features_out, channels), x.dtype),
        bias: T.Buffer((features_out,), "float32"),
        result: T.Buffer((batch, features_out), "float32"),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        sums = T.sblock_alloc_buffer((batch, channels), "float32")
        mean = T.sblock_alloc_buffer((batch, channels), "float32")
        acc = T.sblock_alloc_buffer((batch, features_out), "float32")
        for n, c, p in T.grid(batch, channels, area):
            with T.sblock("pool"):
                vn, vc, vp = T.axis.remap("SSR", [n, c, p])
                with T.init():
                    sums[vn, vc] = T.float32(0)
                sums[vn, vc] = sums[vn, vc] + T.cast(data[vn * area + vp, vc], "float32")
        for n, c in T.grid(batch, channels):
            with T.sblock("mean"):
                vn, vc = T.axis.remap("SS", [n, c])
                mean[vn, vc] = sums[vn, vc] * T.float32(1 / area)
        for n, o, k in T.grid(batch, features_out, channels):
            with T.sblock("dense"):
                vn, vo, vk = T.axis.remap("SSR", [n, o, k])
                T.sblock_attr({"schedule_rule": "pooled_dense"})
                with T.init():
                    acc[vn, vo] = T.float32(0)
                acc[vn, vo] = acc[vn, vo] + mean[vn, vk] * T.cast(weight[vo, vk], "float32")
        for n, o in T.grid(batch, features_out):
            with T.sblock("epilogue"):
                vn, vo = T.axis.remap("SS", [n, o])
                result[vn, vo] = activation(acc[vn, vo] + bias[vo])

    return main
