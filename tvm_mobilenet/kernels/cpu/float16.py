"""Sums of many products in float16, in parts: of dense convolutions and of the classifier.

A sum of float16 loses up to 2^-11 of itself with every product that is added. So a long one is made
of parts of at most MOST_PRODUCTS products, each summed in float16, which a sum in float32 adds up.
Of N products, whatever their signs, a part is off by at most

    N * 2^-11 / (1 - N * 2^-11) * (the sum of the products' sizes),

1/15 of that for 128 of them, and by about sqrt(N / 6) * 2^-12 of the sum itself, 1/900, where signs
are random. The parts of a sum being off independently, the whole is off by no larger a share.

What has few products is summed as in float32 (nests.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.layout import DTYPE, FP16, Blocked
from tvm_mobilenet.kernels.cpu.nests import (
    Activated,
    biased,
    first_channel,
    image_writer,
    row_rounder,
    row_writer,
    tap_of,
)
from tvm_mobilenet.kernels.parsing import parsed_once

MOST_PRODUCTS = 128  # that are summed in float16
STEP = 8  # products of one vector of inputs
UNEVEN = 2  # times as many parts as are least, for parts of whole steps


@dataclass(frozen=True)
class Parts:
    """Of a sum over a window and ``chunks`` times ``channels`` input channels.

    Part i has ``channels`` channels of one of the window's ``rows``, or of all of its one row.
    """

    rows: int
    chunks: int
    channels: int

    @property
    def count(self) -> int:
        return self.rows * self.chunks


def parts_of(kernel: tuple[int, int], channels: int) -> Parts:
    """The fewest parts that are short enough; one, if the sum is.

    Up to twice as many where they are whole steps.
    """
    rows, columns = kernel
    if rows * columns * channels <= MOST_PRODUCTS:
        return Parts(1, 1, channels)
    short = [
        d for d in range(1, channels + 1) if channels % d == 0 and d * columns <= MOST_PRODUCTS
    ]
    most = max(short, default=1)
    whole = [d for d in short if d % STEP == 0 and d * UNEVEN >= most]
    best = max(whole, default=most)
    return Parts(rows, channels // best, best)


def is_in_parts(x: Blocked, window: Window, groups: int = 1) -> bool:
    """Whether a dense convolution of ``x`` has too many products for sums of its numbers."""
    parts = parts_of(window.kernel, x.channels // groups)
    return x.dtype == FP16 and parts.count > 1


def convolution_in_parts(
    x: Blocked,
    out: Blocked,
    window: Window,
    activation: Activated,
    panel: int,
    rule: str,
    *,
    groups: int = 1,
) -> Callable[..., None]:
    """As ``nests.dense_convolution``: a block sums each part, another the parts."""
    channels_in = x.channels // groups
    parts = parts_of(window.kernel, channels_in)
    chunks, channels = parts.chunks, parts.channels
    tap, first = tap_of(x, window), first_channel(x, out, groups)
    write_image = image_writer(out, activation)

    def source(block: Expr, part: Expr, k: Expr) -> tuple[Expr, Expr]:
        """The k-th input channel of a part of a block's group."""
        return x.channel(first(block) + part % chunks * channels + k)

    @T.inline
    def emit(data, weight, sums, result):
        acc = T.sblock_alloc_buffer((*out.extents, parts.count), sums.dtype)
        total = T.sblock_alloc_buffer(out.extents, DTYPE)
        for n, o, h, w, c, p, kw, k in T.grid(
            *out.extents, parts.count, window.kernel[1], channels
        ):
            with T.sblock("conv"):
                vn, vo, vh, vw, vc, vp, vkw, vk = T.axis.remap(
                    "SSSSSSRR", [n, o, h, w, c, p, kw, k]
                )
                T.sblock_attr({"schedule_rule": rule})
                with T.init():
                    acc[vn, vo, vh, vw, vc, vp] = sums.start(vo, vc)
                acc[vn, vo, vh, vw, vc, vp] = (
                    acc[vn, vo, vh, vw, vc, vp]
                    + data[tap(vn, source(vo, vp, vk), vh, vw, vp // chunks, vkw)]
                    * weight[
                        vo // panel,
                        vp // chunks,
                        vkw,
                        vp % chunks * channels + vk,
                        vo % panel,
                        vc,
                    ]
                )
        for n, o, h, w, c, p in T.grid(*out.extents, parts.count):
            with T.sblock("total"):
                vn, vo, vh, vw, vc, vp = T.axis.remap("SSSSSR", [n, o, h, w, c, p])
                with T.init():
                    total[vn, vo, vh, vw, vc] = T.float32(0)
                total[vn, vo, vh, vw, vc] = total[vn, vo, vh, vw, vc] + T.cast(
                    acc[vn, vo, vh, vw, vc, vp], DTYPE
                )
        write_image(total, sums, result)

    return emit


@parsed_once
def half_dense(
    rows: int,
    features: tuple[int, int],
    blocks: int,
    panel: int,
    v: int,
    activation: Activated,
) -> tirx.PrimFunc:
    """Fully connected layer of (N, C_in) float32, rounded here; ``features`` are (C_in, C_out).

    Buffers: data; weights (blocks / panel, C_in, panel, v) float16; bias (C_out,) and result
    (N, C_out) float32. What the last blocks hold past C_out is not written.
    """
    features_in, features_out = features
    parts = parts_of((1, 1), features_in)
    channels = parts.channels
    round_rows = row_rounder(rows, features_in, FP16)
    write_rows = row_writer(rows, features_out, v, activation)

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer((rows, features_in), DTYPE),
        weight: T.Buffer((blocks // panel, features_in, panel, v), FP16),
        bias: T.Buffer((features_out,), DTYPE),
        result: T.Buffer((rows, features_out), DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        rounded = T.sblock_alloc_buffer((rows, features_in), FP16)
        acc = T.sblock_alloc_buffer((rows, blocks, v, parts.count), FP16)
        total = T.sblock_alloc_buffer((rows, blocks, v), DTYPE)
        round_rows(data, rounded)
        for n, o, c, p, k in T.grid(rows, blocks, v, parts.count, channels):
            with T.sblock("dense"):
                vn, vo, vc, vp, vk = T.axis.remap("SSSSR", [n, o, c, p, k])
                T.sblock_attr({"schedule_rule": "half_dense"})
                with T.init():
                    acc[vn, vo, vc, vp] = T.float16(0)
                acc[vn, vo, vc, vp] = (
                    acc[vn, vo, vc, vp]
                    + rounded[vn, vp * channels + vk]
                    * weight[vo // panel, vp * channels + vk, vo % panel, vc]
                )
        for n, o, c, p in T.grid(rows, blocks, v, parts.count):
            with T.sblock("total"):
                vn, vo, vc, vp = T.axis.remap("SSSR", [n, o, c, p])
                with T.init():
                    total[vn, vo, vc] = T.float32(0)
                total[vn, vo, vc] = total[vn, vo, vc] + T.cast(acc[vn, vo, vc, vp], DTYPE)
        write_rows(total, biased(bias, FP16, DTYPE), result)

    return main
