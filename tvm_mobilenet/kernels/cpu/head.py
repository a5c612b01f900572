"""Global average pooling and the classifier."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.cpu.layout import DTYPE, Blocked
from tvm_mobilenet.kernels.parsing import parsed_once


@parsed_once
def global_avg_pool2d(x: Blocked) -> tirx.PrimFunc:
    """Mean over the image: blocked → (N, C)."""
    v = x.vector
    top, left = x.halo.top, x.halo.left

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, DTYPE),
        result: T.Buffer((x.batch, x.channels), DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        acc = T.sblock_alloc_buffer((x.batch, x.blocks, v), DTYPE)
        for n, o, c, h, w in T.grid(x.batch, x.blocks, v, x.height, x.width):
            with T.sblock("sum"):
                vn, vo, vc, vh, vw = T.axis.remap("SSSRR", [n, o, c, h, w])
                T.sblock_attr({"schedule_rule": "global_avg_pool2d"})
                with T.init():
                    acc[vn, vo, vc] = T.float32(0)
                acc[vn, vo, vc] = acc[vn, vo, vc] + data[x.at(vn, vo, vh + top, vw + left, vc)]
        for n, c in T.grid(x.batch, x.channels):
            with T.sblock("epilogue"):
                vn, vc = T.axis.remap("SS", [n, c])
                result[vn, vc] = acc[vn, vc // v, vc % v] * T.float32(1 / (x.height * x.width))

    return main


@parsed_once
def blocked_avg_pool2d(x: Blocked, out: Blocked) -> tirx.PrimFunc:
    """Mean over the image: blocked → blocked, of one pixel and without a halo."""
    v = x.vector
    top, left = x.halo.top, x.halo.left

    @T.prim_func(s_tir=True)
    def main(data: T.Buffer(x.shape, DTYPE), result: T.Buffer(out.shape, DTYPE)) -> None:
        T.func_attr({"tirx.noalias": True})
        acc = T.sblock_alloc_buffer((x.batch, x.blocks, v), DTYPE)
        for n, o, c, h, w in T.grid(x.batch, x.blocks, v, x.height, x.width):
            with T.sblock("sum"):
                vn, vo, vc, vh, vw = T.axis.remap("SSSRR", [n, o, c, h, w])
                T.sblock_attr({"schedule_rule": "blocked_avg_pool2d"})
                with T.init():
                    acc[vn, vo, vc] = T.float32(0)
                acc[vn, vo, vc] = acc[vn, vo, vc] + data[x.at(vn, vo, vh + top, vw + left, vc)]
        for n, o, c in T.grid(x.batch, x.blocks, v):
            with T.sblock("epilogue"):
                vn, vo, vc = T.axis.remap("SSS", [n, o, c])
                result[out.at(vn, vo, 0, 0, vc)] = acc[vn, vo, vc] * T.float32(
                    1 / (x.height * x.width)
                )

    return main


@parsed_once
def dense(
    batch: int,
    features_in: int,
    features_out: int,
    blocks: int,
    panel: int,
    v: int,
    activation: Activation,
) -> tirx.PrimFunc:
    """Fully connected layer.

    Buffers: data (N, C_in); weights (blocks / panel, C_in, panel, v); bias (C_out,); result
    (N, C_out). What the last blocks hold past C_out is not written.
    """

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer((batch, features_in), DTYPE),
        weight: T.Buffer((blocks // panel, features_in, panel, v), DTYPE),
        bias: T.Buffer((features_out,), DTYPE),
        result: T.Buffer((batch, features_out), DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        acc = T.sblock_alloc_buffer((batch, blocks, v), DTYPE)
        for n, o, c, k in T.grid(batch, blocks, v, features_in):
            with T.sblock("dense"):
                vn, vo, vc, vk = T.axis.remap("SSSR", [n, o, c, k])
                T.sblock_attr({"schedule_rule": "dense"})
                with T.init():
                    acc[vn, vo, vc] = T.float32(0)
                acc[vn, vo, vc] = (
                    acc[vn, vo, vc] + data[vn, vk] * weight[vo // panel, vk, vo % panel, vc]
                )
        for n, o in T.grid(batch, features_out):
            with T.sblock("epilogue"):
                vn, vo = T.axis.remap("SS", [n, o])
                result[vn, vo] = activation(acc[vn, vo // v, vo % v] + bias[vo])

    return main
