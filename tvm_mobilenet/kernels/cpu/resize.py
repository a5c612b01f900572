"""Images made larger or smaller, in the blocked layout: from taps in rows and columns of their own,
or of channels that are their pixels."""

from __future__ import annotations

import functools

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from tvm_mobilenet.kernels.cpu.layout import DTYPE, Blocked
from tvm_mobilenet.kernels.cpu.nests import halo_writer
from tvm_mobilenet.kernels.parsing import parsed_once


@parsed_once
def resize2d(x: Blocked, out: Blocked, taps: int) -> tirx.PrimFunc:
    """Each pixel is a weighted sum of ``taps`` by ``taps`` pixels.

    Buffers: x blocked; for each row of the result, those of ``x`` (rows, taps) and their weights,
    and the same for each column; out blocked.
    """
    write_halo = halo_writer(out)
    limits = [1, x.height, 1, x.width, 1, 1]  # of its integers, for who draws random ones

    def pixel(
        data: tirx.Buffer,
        rows: tirx.Buffer,
        row_weights: tirx.Buffer,
        columns: tirx.Buffer,
        column_weights: tirx.Buffer,
        at: tuple[Expr, Expr, Expr, Expr, Expr],
    ) -> Expr:
        n, o, h, w, c = at

        def tap(i: int, j: int) -> Expr:
            place = (n, o, rows[h, i] + x.halo.top, columns[w, j] + x.halo.left, c)
            value: Expr = data[x.at(*place)]
            return value if taps == 1 else value * (row_weights[h, i] * column_weights[w, j])

        return functools.reduce(
            lambda a, b: a + b, [tap(i, j) for i in range(taps) for j in range(taps)]
        )

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, DTYPE),
        rows: T.Buffer((out.height, taps), "int32"),
        row_weights: T.Buffer((out.height, taps), DTYPE),
        columns: T.Buffer((out.width, taps), "int32"),
        column_weights: T.Buffer((out.width, taps), DTYPE),
        result: T.Buffer(out.shape, DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True, "integer_limits": limits})
        write_halo(result)
        for n, o, h, w, c in T.grid(out.batch, out.blocks, out.height, out.width, out.vector):
            with T.sblock("epilogue"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                T.sblock_attr({"schedule_rule": "elementwise"})
                result[out.at(vn, vo, vh + out.halo.top, vw + out.halo.left, vc)] = pixel(
                    data, rows, row_weights, columns, column_weights, (vn, vo, vh, vw, vc)
                )

    return main


@parsed_once
def channels_to_space(x: Blocked, out: Blocked, factor: tuple[int, int]) -> tirx.PrimFunc:
    """Each pixel of ``x`` holds ``factor`` (rows, columns) of pixels, one after the other.

    Buffers: x blocked, of that many times the channel blocks of ``out``; out blocked, of its type.
    """
    write_halo = halo_writer(out)
    tall, wide = factor

    @T.prim_func(s_tir=True)
    def main(data: T.Buffer(x.shape, x.dtype), result: T.Buffer(out.shape, x.dtype)) -> None:
        T.func_attr({"tirx.noalias": True})
        write_halo(result)
        for n, o, h, w, c in T.grid(out.batch, out.blocks, out.height, out.width, out.vector):
            with T.sblock("epilogue"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                T.sblock_attr({"schedule_rule": "elementwise"})
                result[out.at(vn, vo, vh + out.halo.top, vw + out.halo.left, vc)] = data[
                    x.at(
                        vn,
                        (vh % tall * wide + vw % wide) * out.blocks + vo,
                        vh // tall + x.halo.top,
                        vw // wide + x.halo.left,
                        vc,
                    )
                ]

    return main
