"""Convolutions as a matrix product: rows of pixels times packed weights, bias and activation after.

Every kernel has the same two halves. The first makes ``rows``, the (pixels, taps · channels) matrix
that the product reads: a copy for a 1x1 convolution, a gather for a larger filter, a whole
depthwise convolution for a fused depthwise-separable block. The second multiplies: on FMA units in
float32, or on tensor cores in float16 or tf32 with float32 sums. The schedule decides how much of
``rows`` exists at a time; it never leaves shared memory. What tf32 rounds away is the schedule's
too: the computation as it stands here is float32 throughout.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, Protocol

from tvm import tirx
from tvm.script import tirx as T

from schedules.cuda.fragments import (
    HALVES,
    HELD,
    LANES,
    TF32,
    Fragments,
    c_element,
    c_place,
)
from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.gpu.image import TILE, Image
from tvm_mobilenet.kernels.parsing import parsed_once


def reduction(x: Image, window: Window) -> int:
    """Length of the product's inner dimension: whole tiles."""
    return window.taps * x.stored


def fragments_of(x: Image, *, tf32: bool) -> Fragments | None:
    """How a product of ``x`` is laid out for tensor cores; None where it runs on FMA units."""
    if x.dtype == "float16":
        return HALVES
    return TF32 if tf32 else None


def weight_shape(x: Image, out: Image, window: Window, *, tf32: bool = False) -> tuple[int, ...]:
    """Of the packed weights: (k, n), or for tensor cores fragments (n tiles, k tiles, lane, 8)."""
    inner = reduction(x, window)
    if fragments_of(x, tf32=tf32) is not None:
        return (out.stored // TILE, inner // TILE, LANES, HELD)
    return (inner, out.stored)


@parsed_once
def conv2d(
    x: Image, out: Image, window: Window, activation: Activation, *, tf32: bool = False
) -> tirx.PrimFunc:
    """Dense convolution, 1x1 included; with ``tf32`` float32 is multiplied on tensor cores.

    Buffers: x; weights as ``weight_shape`` says; bias float32 (out.stored,); out.
    """
    pointwise = (window.kernel, window.stride, window.padding) == ((1, 1), (1, 1), (0, 0))
    meet = functools.partial(meeting, x, out, window)
    rule = "pointwise_conv2d" if pointwise else "conv2d"
    fill = copied_rows(x) if pointwise else gathered_rows(x, out.rows, window.taps, meet)
    multiply = product(x, out, window, activation, rule, tf32=tf32)
    rows_shape = (out.rows, reduction(x, window))
    packed = weight_shape(x, out, window, tf32=tf32)

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, x.dtype),
        weight: T.Buffer(packed, x.dtype),
        bias: T.Buffer((out.stored,), "float32"),
        result: T.Buffer(out.shape, out.dtype),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        rows = T.sblock_alloc_buffer(rows_shape, x.dtype)
        fill(data, rows)
        multiply(rows, weight, bias, result)

    return main


@parsed_once
def separable_conv2d(
    x: Image,
    middle: Image,
    out: Image,
    window: Window,
    activation: Activation,
    pointwise_activation: Activation,
    *,
    tf32: bool = False,
) -> tirx.PrimFunc:
    """A depthwise convolution and the 1x1 convolution after it, in one kernel.

    Buffers: x; depthwise weights (taps, K) and bias float32 (K,); 1x1 weights as ``weight_shape``
    says; bias float32 (out.stored,); out. K is the ``reduction`` of ``middle``,
    the image between the two.
    """
    one = Window()
    dtype = x.dtype
    filter_shape = (window.taps, reduction(middle, one))
    filled = filtered_rows(x, middle, window, activation)
    multiply = product(middle, out, one, pointwise_activation, "separable_conv2d", tf32=tf32)
    rows_shape = (out.rows, reduction(middle, one))
    packed = weight_shape(middle, out, one, tf32=tf32)

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, dtype),
        filter: T.Buffer(filter_shape, dtype),
        filter_bias: T.Buffer(filter_shape[1:], "float32"),
        weight: T.Buffer(packed, dtype),
        bias: T.Buffer((out.stored,), "float32"),
        result: T.Buffer(out.shape, out.dtype),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        rows = T.sblock_alloc_buffer(rows_shape, dtype)
        filled(data, filter, filter_bias, rows)
        multiply(rows, weight, bias, result)

    return main


# What the product reads


def meeting(x: Image, out: Image, window: Window, m: Any, tap: Any) -> tuple[Any, Any]:
    """Whether output pixel m meets an input pixel at that tap, and which one."""
    (_, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    top, left = window.padding
    row = m // out.width % out.height * stride_h + tap // kernel_w - top
    column = m % out.width * stride_w + tap % kernel_w - left
    inside = tirx.all(
        m < out.pixels, row >= 0, row < x.height, column >= 0, column < x.width, tap < window.taps
    )
    return inside, (m // (out.height * out.width) * x.height + row) * x.width + column


def copied_rows(x: Image) -> Callable[..., None]:
    """Emits rows = x."""

    @T.inline
    def fill(data, rows):
        for m, k in T.grid(*x.shape):
            with T.sblock("rows"):
                vm, vk = T.axis.remap("SS", [m, k])
                rows[vm, vk] = data[vm, vk]

    return fill


def gathered_rows(
    x: Image, height: int, taps: int, meet: Callable[[Any, Any], tuple[Any, Any]]
) -> Callable[..., None]:
    """Emits rows[m, tap · C + c] = channel c of the input pixel that row m meets at that tap.

    ``meet(m, tap)`` says whether there is one, and which; where there is none stand zeros.
    """
    channels, dtype = x.stored, x.dtype
    grid = (height, taps * channels)

    @T.inline
    def fill(data, rows):
        for m, k in T.grid(*grid):
            with T.sblock("rows"):
                vm, vk = T.axis.remap("SS", [m, k])
                rows[vm, vk] = T.if_then_else(
                    meet(vm, vk // channels)[0],
                    data[meet(vm, vk // channels)[1], vk % channels],
                    T.cast(0, dtype),
                )

    return fill


def filtered_rows(
    x: Image, middle: Image, window: Window, activation: Activation
) -> Callable[..., None]:
    """Emits rows = the depthwise convolution of x, bias and activation in it."""
    dtype, grid = x.dtype, (middle.rows, x.stored)

    @T.inline
    def fill(data, filter, filter_bias, rows):
        taps = T.sblock_alloc_buffer((window.taps, *grid), dtype)
        filtered = T.sblock_alloc_buffer(grid, dtype)
        for t, m, c in T.grid(window.taps, *grid):
            with T.sblock("taps"):
                vt, vm, vc = T.axis.remap("SSS", [t, m, c])
                taps[vt, vm, vc] = T.if_then_else(
                    meeting(x, middle, window, vm, vt)[0],
                    data[meeting(x, middle, window, vm, vt)[1], vc],
                    T.cast(0, dtype),
                )
        for m, c in T.grid(*grid):
            with T.sblock("depthwise"):
                vm, vc = T.axis.remap("SS", [m, c])
                filtered[vm, vc] = T.cast(
                    activation(weighted_sum(window, taps, filter, 0, vm, vc) + filter_bias[vc]),
                    dtype,
                )
        for m, c in T.grid(*grid):
            with T.sblock("rows"):
                vm, vc = T.axis.remap("SS", [m, c])
                rows[vm, vc] = filtered[vm, vc]

    return fill


def weighted_sum(window: Window, taps: Any, filter: Any, first: Any, pixel: Any, c: Any) -> Any:
    """Of a pixel's taps, in float32; written out, so that no reduction has to be initialised.

    ``first`` is where in ``taps`` they begin.
    """
    terms = [
        T.cast(taps[first + tap, pixel, c], "float32") * T.cast(filter[tap, c], "float32")
        for tap in range(window.taps)
    ]
    return functools.reduce(operator.add, terms)


# The product


class Results(Protocol):
    """A product's matrix of results: an image, or something else of whole tiles."""

    @property
    def rows(self) -> int: ...
    @property
    def stored(self) -> int: ...
    @property
    def dtype(self) -> str: ...


def product(
    x: Image, out: Results, window: Window, activation: Activation, rule: str, *, tf32: bool
) -> Callable[..., None]:
    """Emits result = activation(rows · weight + bias) by the instructions that the dtype has."""
    shape = (out.rows, reduction(x, window))
    fragments = fragments_of(x, tf32=tf32)
    if fragments is not None:
        return product_on_tensor_cores(shape, x.dtype, out, activation, rule, fragments)
    return product_on_fma_units(shape, out, activation, rule)


def product_on_fma_units(
    shape: tuple[int, int], out: Results, activation: Activation, rule: str
) -> Callable[..., None]:
    height, inner = shape

    @T.inline
    def multiply(rows, weight, bias, result):
        acc = T.sblock_alloc_buffer((height, out.stored), "float32")
        for m, n, k in T.grid(height, out.stored, inner):
            with T.sblock("conv"):
                vm, vn, vk = T.axis.remap("SSR", [m, n, k])
                T.sblock_attr({"schedule_rule": rule})
                with T.init():
                    acc[vm, vn] = T.float32(0)
                acc[vm, vn] = acc[vm, vn] + rows[vm, vk] * weight[vk, vn]
        for m, n in T.grid(height, out.stored):
            with T.sblock("epilogue"):
                vm, vn = T.axis.remap("SS", [m, n])
                result[vm, vn] = T.cast(activation(acc[vm, vn] + bias[vn]), out.dtype)

    return multiply


def product_on_tensor_cores(
    shape: tuple[int, int],
    dtype: str,
    out: Results,
    activation: Activation,
    rule: str,
    fragments: Fragments,
) -> Callable[..., None]:
    """16 x 16 tiles spread over a warp's lanes as ``fragments`` says; weights come so packed."""
    m_tiles, k_tiles = shape[0] // TILE, shape[1] // TILE
    n_tiles = out.stored // TILE
    a_place, b_place = fragments.a_place, fragments.b_place
    full_rule = f"{rule}_{fragments.suffix}"

    @T.inline
    def multiply(rows, weight, bias, result):
        a = T.sblock_alloc_buffer((m_tiles, k_tiles, LANES, HELD), dtype)
        acc = T.sblock_alloc_buffer((m_tiles, n_tiles, LANES, HELD), "float32")
        for mt, kt, m, k in T.grid(m_tiles, k_tiles, TILE, TILE):
            with T.sblock("load_a"):
                vmt, vkt, vm, vk = T.axis.remap("SSSS", [mt, kt, m, k])
                a[vmt, vkt, a_place(vm, vk)[0], a_place(vm, vk)[1]] = rows[
                    vmt * TILE + vm, vkt * TILE + vk
                ]
        for mt, nt, kt, m, n, k in T.grid(m_tiles, n_tiles, k_tiles, TILE, TILE, TILE):
            with T.sblock("conv"):
                vmt, vnt, vkt, vm, vn, vk = T.axis.remap("SSRSSR", [mt, nt, kt, m, n, k])
                T.sblock_attr({"schedule_rule": full_rule})
                with T.init():
                    acc[vmt, vnt, c_place(vm, vn)[0], c_place(vm, vn)[1]] = T.float32(0)
                acc[vmt, vnt, c_place(vm, vn)[0], c_place(vm, vn)[1]] = acc[
                    vmt, vnt, c_place(vm, vn)[0], c_place(vm, vn)[1]
                ] + T.cast(a[vmt, vkt, a_place(vm, vk)[0], a_place(vm, vk)[1]], "float32") * T.cast(
                    weight[vnt, vkt, b_place(vk, vn)[0], b_place(vk, vn)[1]], "float32"
                )
        for mt, nt, lane, held in T.grid(m_tiles, n_tiles, LANES, HELD):
            with T.sblock("epilogue"):
                vmt, vnt, vlane, vheld = T.axis.remap("SSSS", [mt, nt, lane, held])
                result[
                    vmt * TILE + c_element(vlane, vheld)[0], vnt * TILE + c_element(vlane, vheld)[1]
                ] = T.cast(
                    activation(
                        acc[vmt, vnt, vlane, vheld] + bias[vnt * TILE + c_element(vlane, vheld)[1]]
                    ),
                    out.dtype,
                )

    return multiply
