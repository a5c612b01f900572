"""The loop nests that kernels over blocked activations are made of, whatever their numbers are.

A convolution sums products into ``acc``, in a block called ``conv``; an ``epilogue`` makes numbers
of the sums and writes them into the image of its padded result, of which up to four more blocks
write the halo. A classifier has ``dense`` for ``conv``, and no halo. Each function here gives a
piece of that, which a kernel emits by calling it in its TVMScript.

What the sums are of, start at and stand for is the kernel's: its ``Sums``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.layout import DTYPE, Blocked

# what becomes of a number before it is stored
Activated: TypeAlias = Callable[[Expr], Expr]


@dataclass(frozen=True)
class Sums:
    """Of products: their type, what they start at, and the number that one stands for.

    Both are asked with the place of a channel: its block and lane, or itself.
    """

    dtype: str
    start: Callable[..., Expr]
    real: Callable[..., Expr]


def biased(bias: tirx.Buffer, dtype: str, result: str) -> Sums:
    """Sums of ``dtype``, from zero on, to which a bias is added in the type of the ``result``.

    Or in float32, where the sum is that.
    """

    def real(total: Expr, *channel: Expr) -> Expr:
        wider = DTYPE if str(total.ty.dtype) == DTYPE else result
        return T.cast(total, wider) + T.cast(bias[channel], wider)

    return Sums(dtype, lambda *channel: tirx.const(0, dtype), real)


def from_bias(bias: tirx.Buffer) -> Sums:
    """Sums of the bias' type, from that on: nothing is left to add to them."""
    return Sums(str(bias.dtype), lambda *channel: bias[channel], lambda total, *channel: total)


def started(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """``func``, whose sums do not say that they read their bias, at which they start.

    What makes an intrinsic of a step takes the block of the whole sum for it, which reads more. The
    bias is the parameter before the result.
    """
    *_, bias, _ = func.params
    return without_reads_of(func, bias)


def without_reads_of(func: tirx.PrimFunc, constant: tirx.Buffer) -> tirx.PrimFunc:
    """``func``, whose sums do not say that they read that parameter."""

    def stripped(block: s_tir.SBlock) -> s_tir.SBlock:
        kept = [one for one in block.reads if not one.source.same_as(constant)]
        if block.init is None or len(kept) == len(block.reads):
            return block
        return s_tir.SBlock(
            block.iter_vars,
            kept,
            block.writes,
            block.name_hint,
            block.body,
            block.init,
            annotations=block.annotations,
        )

    return func.with_body(tvm_ffi.structural_map(func.body, (s_tir.SBlock, stripped)))


def origin(x: Blocked, window: Window) -> tuple[int, int]:
    """Where in the padded rows and columns of ``x`` the first output's first tap lies."""
    return (x.halo.top - window.padding[0], x.halo.left - window.padding[1])


def tap_of(x: Blocked, window: Window) -> Callable[..., tuple[Any, ...]]:
    """What says where ``x`` has the tap of an output: of image, channel, row, column and tap.

    The channel is its block and lane, the tap its row and column in the filter.
    """
    (stride_h, stride_w), (apart_h, apart_w) = window.stride, window.dilation
    origin_h, origin_w = origin(x, window)

    def place(
        n: Expr, channel: tuple[Expr, Expr], h: Expr, w: Expr, kh: Expr, kw: Expr
    ) -> tuple[Any, ...]:
        block, lane = channel
        row = h * stride_h + kh * apart_h + origin_h
        return x.at(n, block, row, w * stride_w + kw * apart_w + origin_w, lane)

    return place


def first_channel(x: Blocked, out: Blocked, groups: int) -> Callable[[Expr], Expr | int]:
    """What says which input channel is the first that a block of output channels reads."""
    channels_in, group_blocks = x.channels // groups, out.blocks // groups
    return lambda block: 0 if groups == 1 else block // group_blocks * channels_in


# Dense convolutions


def dense_shape(
    x: Blocked, out: Blocked, window: Window, panel: int, groups: int = 1
) -> tuple[int, ...]:
    """Of a dense convolution's packed weights."""
    return (out.blocks // panel, *window.kernel, x.channels // groups, panel, out.vector)


def dense_convolution(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activated,
    panel: int,
    rule: str,
    *,
    groups: int = 1,
) -> Callable[..., None]:
    """Emits the blocks that write a dense convolution's image, a product at a time."""
    tap, first = tap_of(x, window), first_channel(x, out, groups)
    write_image = image_writer(out, activation)

    def source(block: Expr, k: Expr) -> tuple[Expr, Expr]:
        return x.channel(first(block) + k)

    @T.inline
    def emit(data, weight, sums, result):
        acc = T.sblock_alloc_buffer(out.extents, sums.dtype)
        for n, o, h, w, c, kh, kw, k in T.grid(*out.extents, *window.kernel, x.channels // groups):
            with T.sblock("conv"):
                vn, vo, vh, vw, vc, vkh, vkw, vk = T.axis.remap(
                    "SSSSSRRR", [n, o, h, w, c, kh, kw, k]
                )
                T.sblock_attr({"schedule_rule": rule})
                with T.init():
                    acc[vn, vo, vh, vw, vc] = sums.start(vo, vc)
                acc[vn, vo, vh, vw, vc] = (
                    acc[vn, vo, vh, vw, vc]
                    + data[tap(vn, source(vo, vk), vh, vw, vkh, vkw)]
                    * weight[vo // panel, vkh, vkw, vk, vo % panel, vc]
                )
        write_image(acc, sums, result)

    return emit


# Depthwise convolutions


def depthwise_shape(out: Blocked, window: Window) -> tuple[int, ...]:
    """Of a depthwise convolution's packed weights."""
    return (out.blocks, *window.kernel, out.vector)


def depthwise_convolution(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activated,
    rule: str | None,
    name: str = "conv",
) -> Callable[..., None]:
    """Emits the blocks that write a depthwise convolution's image, a tap at a time.

    ``rule`` is that of the kernel where this is what it is scheduled by.
    """
    tap = tap_of(x, window)
    annotations = {} if rule is None else {"schedule_rule": rule}
    epilogue = "epilogue" if name == "conv" else f"{name}_epilogue"
    write_image = image_writer(out, activation, epilogue)

    @T.inline
    def emit(data, weight, sums, result):
        acc = T.sblock_alloc_buffer(out.extents, sums.dtype)
        for n, o, h, w, c, kh, kw in T.grid(*out.extents, *window.kernel):
            with T.sblock(name):
                vn, vo, vh, vw, vc, vkh, vkw = T.axis.remap("SSSSSRR", [n, o, h, w, c, kh, kw])
                T.sblock_attr(annotations)
                with T.init():
                    acc[vn, vo, vh, vw, vc] = sums.start(vo, vc)
                acc[vn, vo, vh, vw, vc] = acc[vn, vo, vh, vw, vc] + T.cast(
                    data[tap(vn, (vo, vc), vh, vw, vkh, vkw)], sums.dtype
                ) * T.cast(weight[vo, vkh, vkw, vc], sums.dtype)
        write_image(acc, sums, result)

    return emit


# Classifiers, of rows of numbers


def row_rounder(rows: int, features: int, dtype: str) -> Callable[..., None]:
    """Emits the block that rounds rows of float32 to ``dtype``."""

    @T.inline
    def emit(data, rounded):
        for n, k in T.grid(rows, features):
            with T.sblock("round"):
                vn, vk = T.axis.remap("SS", [n, k])
                rounded[vn, vk] = T.cast(data[vn, vk], dtype)

    return emit


def row_writer(rows: int, features: int, v: int, activation: Activated) -> Callable[..., None]:
    """Emits the block that writes what sums in vectors stand for; none past the ``features``."""

    @T.inline
    def write(acc, sums, result):
        for n, o in T.grid(rows, features):
            with T.sblock("epilogue"):
                vn, vo = T.axis.remap("SS", [n, o])
                result[vn, vo] = activation(sums.real(acc[vn, vo // v, vo % v], vo))

    return write


# What becomes of the sums


def image_writer(
    out: Blocked, activation: Activated, name: str = "epilogue"
) -> Callable[..., None]:
    """Emits the block that writes what sums stand for into the image of ``out``."""
    top, left = out.halo.top, out.halo.left

    @T.inline
    def write(acc, sums, result):
        for n, o, h, w, c in T.grid(*out.extents):
            with T.sblock(name):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                result[out.at(vn, vo, vh + top, vw + left, vc)] = T.cast(
                    activation(sums.real(acc[vn, vo, vh, vw, vc], vo, vc)), result.dtype
                )

    return write


def halo_writer(out: Blocked) -> Callable[[T.Buffer], None]:
    """Emits the blocks that write what stands for zero into the halo of ``out``, if it has one."""
    top, bottom, left, right = out.halo.top, out.halo.bottom, out.halo.left, out.halo.right
    batch, blocks, rows = out.batch, out.blocks, out.padded_height
    columns, v = out.padded_width, out.vector
    zero = out.zero

    @T.inline
    def write(result):
        if top > 0:
            for n, o, h, w, c in T.grid(batch, blocks, top, columns, v):
                with T.sblock("halo_top"):
                    vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                    result[out.at(vn, vo, vh, vw, vc)] = zero
        if bottom > 0:
            for n, o, h, w, c in T.grid(batch, blocks, bottom, columns, v):
                with T.sblock("halo_bottom"):
                    vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                    result[out.at(vn, vo, vh + (rows - bottom), vw, vc)] = zero
        if left > 0:
            for n, o, h, w, c in T.grid(batch, blocks, out.height, left, v):
                with T.sblock("halo_left"):
                    vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                    result[out.at(vn, vo, vh + top, vw, vc)] = zero
        if right > 0:
            for n, o, h, w, c in T.grid(batch, blocks, out.height, right, v):
                with T.sblock("halo_right"):
                    vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                    result[out.at(vn, vo, vh + top, vw + (columns - right), vc)] = zero

    return write
