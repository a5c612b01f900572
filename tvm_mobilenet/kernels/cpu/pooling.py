"""Pooling over windows of blocked tensors: one block, each element straight from its window."""

from __future__ import annotations

import functools

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.functions import number
from tvm_mobilenet.kernels.cpu.layout import DTYPE, Blocked
from tvm_mobilenet.kernels.cpu.nests import halo_writer
from tvm_mobilenet.kernels.parsing import parsed_once

LOWEST = float(-(2 - 2**-23) * 2**127)  # the lowest float32


@parsed_once
def pool2d(x: Blocked, out: Blocked, window: Window, kind: str) -> tirx.PrimFunc:
    """The largest (max) or mean element of each window: blocked → blocked.

    A mean counts the padding as zeros, one of kind mean_of_image does not count it.
    """
    write_halo = halo_writer(out)
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    top, left = window.padding
    outside = number(LOWEST if kind == "max" else 0.0)

    def pooled(data: tirx.Buffer, n: Expr, o: Expr, h: Expr, w: Expr, c: Expr) -> Expr:
        first_h, first_w = h * stride_h - top, w * stride_w - left
        taps = [
            tap(data, n, o, first_h + i, first_w + j, c)
            for i in range(kernel_h)
            for j in range(kernel_w)
        ]
        if kind == "max":
            return functools.reduce(T.max, taps)
        total = functools.reduce(lambda a, b: a + b, taps)
        if kind == "mean":
            return total * number(1 / (kernel_h * kernel_w))
        rows, columns = inside(first_h, kernel_h, x.height), inside(first_w, kernel_w, x.width)
        return total / T.Cast(DTYPE, rows * columns)

    def tap(data: tirx.Buffer, n: Expr, o: Expr, h: Expr, w: Expr, c: Expr) -> Expr:
        within = tirx.all(h >= 0, h < x.height, w >= 0, w < x.width)
        return T.if_then_else(within, data[x.at(n, o, h + x.halo.top, w + x.halo.left, c)], outside)

    @T.prim_func(s_tir=True)
    def main(data: T.Buffer(x.shape, DTYPE), result: T.Buffer(out.shape, DTYPE)) -> None:
        T.func_attr({"tirx.noalias": True})
        write_halo(result)
        for n, o, h, w, c in T.grid(out.batch, out.blocks, out.height, out.width, out.vector):
            with T.sblock("epilogue"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                T.sblock_attr({"schedule_rule": "elementwise"})
                result[out.at(vn, vo, vh + out.halo.top, vw + out.halo.left, vc)] = pooled(
                    data, vn, vo, vh, vw, vc
                )

    return main


def inside(first: Expr, size: int, end: int) -> Expr:
    """How many of ``size`` places from ``first`` on lie from 0 to before ``end``."""
    return T.min(first + size, end) - T.max(first, 0)
