"""Channels of several blocked tensors beside one another, in any order."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Expr, Range
from tvm.script import tirx as T

from tvm_mobilenet.kernels.cpu.layout import Blocked
from tvm_mobilenet.kernels.cpu.nests import halo_writer
from tvm_mobilenet.kernels.parsing import parsed_once

BLOCK = "move"


@functools.cache
def move_channels(
    xs: tuple[Blocked, ...], out: Blocked, channels: tuple[tuple[int, int], ...]
) -> tirx.PrimFunc:
    """For each channel of ``out``, which of ``xs`` it is a channel of, and which one.

    Buffers: ``xs``; out blocked. All of a pixel's channels are copied one by one, in straight code.
    """
    empty = no_channels(out)
    (result,) = empty.params
    buffers = [tirx.decl_buffer(x.shape, x.dtype, f"data{index}") for index, x in enumerate(xs)]

    def filled(block: s_tir.SBlock) -> s_tir.SBlock:
        if block.name_hint != BLOCK:
            return block
        n, h, w = (axis.var for axis in block.iter_vars)

        def store(place: int) -> tirx.Stmt:
            value = out.zero
            if place < len(channels):
                which, channel = channels[place]
                value = tirx.BufferLoad(buffers[which], element(xs[which], n, h, w, channel))
            return tirx.BufferStore(result, value, element(out, n, h, w, place))

        stores = [store(place) for place in range(out.blocks * out.vector)]
        reads = [pixel(buffer, x, n, h, w) for buffer, x in zip(buffers, xs, strict=True)]
        return s_tir.SBlock(
            block.iter_vars,
            reads,
            [pixel(result, out, n, h, w)],
            BLOCK,
            tirx.SeqStmt(stores),
            annotations=block.annotations,
        )

    body = tvm_ffi.structural_map(empty.body, (s_tir.SBlock, filled))
    nothing_constant: list[int] = []
    attrs = {**dict(empty.attrs), "constant_params": nothing_constant}
    return tirx.PrimFunc([*buffers, result], body).with_attr(attrs)


@parsed_once
def no_channels(out: Blocked) -> tirx.PrimFunc:
    """The halo of ``out``, and a block over its pixels that is yet to be filled."""
    write_halo, zero = halo_writer(out), out.zero

    @T.prim_func(s_tir=True)
    def main(result: T.Buffer(out.shape, out.dtype)) -> None:
        T.func_attr({"tirx.noalias": True})
        write_halo(result)
        for n, h, w in T.grid(out.batch, out.height, out.width):
            with T.sblock("move"):
                vn, vh, vw = T.axis.remap("SSS", [n, h, w])
                T.sblock_attr({"schedule_rule": "move_channels"})
                result[out.at(vn, 0, vh, vw, 0)] = zero

    return main


def element(x: Blocked, n: Expr, h: Expr, w: Expr, channel: int) -> tuple[Expr, ...]:
    """Where a channel of a pixel lies."""
    block, lane = divmod(channel, x.vector)
    return x.at(n, block, h + x.halo.top, w + x.halo.left, lane)


def pixel(buffer: tirx.Buffer, x: Blocked, n: Expr, h: Expr, w: Expr) -> Expr:
    """All channels of a pixel."""
    one = functools.partial(Range.from_min_extent, extent=1)
    ranges: Sequence[Range] = x.at(
        one(n), Range(0, x.blocks), one(h + x.halo.top), one(w + x.halo.left), Range(0, x.vector)
    )
    return tirx.BufferRegion(buffer, list(ranges))
