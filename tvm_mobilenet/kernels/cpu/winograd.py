"""3x3 convolution with 16 multiplications for 36: Winograd's minimal filtering F(2x2, 3x3).

    A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.

A tile of 2x2 outputs reads a window d of 4x4 inputs, under filters g:

    Y = A' [(G g G') * (B' d B)] A

with * element by element, so that each of the 16 elements is a matrix product of its own: tiles x
input channels by input x output channels. The filters are transformed when the weights are packed,
the windows by a kernel that leaves them as the products' left operands; the products never leave
the L1 cache. Where a size is odd the last tile overlaps the one before it, and computes the same
outputs again. The result differs from the direct sum by rounding: A and B hold 0 and 1 alone, and
an output is a sum of 9 products of sums of 4 inputs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.cpu.layout import DTYPE, Blocked
from tvm_mobilenet.kernels.cpu.nests import halo_writer, origin
from tvm_mobilenet.kernels.cpu.strassen import select
from tvm_mobilenet.kernels.cpu.weights import in_panels, pack_channels
from tvm_mobilenet.kernels.parsing import parsed_once

Array = NDArray[np.float32]

KERNEL = (3, 3)
OUTPUTS, INPUTS = 2, 4  # rows of a tile, and of its window
PRODUCTS = INPUTS * INPUTS
TO_FILTERS = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])  # G
TO_WINDOWS = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))  # B'
TO_OUTPUTS = ((1, 1, 1, 0), (0, 1, -1, -1))  # A'
# measured on Zen 4 with 8 to 512 channels: 3x3 outputs took 1.4 times the direct sum's time, 4x4
# and 5x5 outputs 0.6 and 0.7 times
MIN_TILES = 4
MOST_COMPUTED = 1.5


def pays(out: Blocked) -> bool:
    """Whether an output has enough tiles for the weights, 16/9 as many, and few overlap."""
    rows, columns = tiles(out)
    computed = rows * columns * OUTPUTS**2
    return (
        min(out.height, out.width) >= OUTPUTS
        and rows * columns >= MIN_TILES
        and computed <= MOST_COMPUTED * out.height * out.width
    )


def tiles(out: Blocked) -> tuple[int, int]:
    """Rows and columns of tiles."""
    return -(-out.height // OUTPUTS), -(-out.width // OUTPUTS)


def operand_shape(x: Blocked, out: Blocked) -> tuple[int, ...]:
    """The left operands for an output: (N, rows of tiles, 16, blocks, columns of tiles, v)."""
    rows, columns = tiles(out)
    return (x.batch, rows, PRODUCTS, x.blocks, columns, x.vector)


@parsed_once
def winograd_operands(x: Blocked, out: Blocked, window: Window) -> tirx.PrimFunc:
    """The windows of ``x`` that the tiles of ``out`` read, transformed.

    Buffers: x blocked; operands of out.
    """
    rows, columns = tiles(out)
    origin_h, origin_w = origin(x, window)

    def transformed(
        data: tirx.Buffer, n: Expr, o: Expr, h: Expr, w: Expr, q: Expr, c: Expr
    ) -> Expr:
        top, left = first(h, out.height) + origin_h, first(w, out.width) + origin_w
        inputs = [
            [data[x.at(n, o, top + i, left + j, c)] for j in range(INPUTS)] for i in range(INPUTS)
        ]
        return select(q, combine(TO_WINDOWS, inputs))

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, DTYPE), operands: T.Buffer(operand_shape(x, out), DTYPE)
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        for n, o, h, w, q, c in T.grid(x.batch, x.blocks, rows, columns, PRODUCTS, x.vector):
            with T.sblock("operands"):
                vn, vo, vh, vw, vq, vc = T.axis.remap("SSSSSS", [n, o, h, w, q, c])
                T.sblock_attr({"schedule_rule": "winograd_operands"})
                operands[vn, vh, vq, vo, vw, vc] = transformed(data, vn, vo, vh, vw, vq, vc)

    return main


@parsed_once
def winograd_conv2d(
    x: Blocked, out: Blocked, activation: Activation, panel: int = 1
) -> tirx.PrimFunc:
    """3x3 convolution of ``x``, which comes as operands, with the consumer's halo.

    Its operations are counted as the direct sum's, so that speeds compare: achieved GFLOP/s may
    pass the core's peak.
    Buffers: operands of x for out; weights (out.blocks / panel, 16, C_in, panel, v);
    bias (out.blocks, v); out blocked.
    """
    rows, columns = tiles(out)
    channels_in, lanes_in, v = x.channels, x.vector, out.vector
    top, left = out.halo.top, out.halo.left
    write_halo = halo_writer(out)
    tile = (out.batch, out.blocks, rows, columns, v)
    direct_flops = 2 * 9 * out.batch * out.channels * out.height * out.width * channels_in

    def output(products: tirx.Buffer, place: tuple[Expr, ...], which: Expr) -> Expr:
        by_window = [
            [products[(row * INPUTS + column, *place)] for column in range(INPUTS)]
            for row in range(INPUTS)
        ]
        return select(which, combine(TO_OUTPUTS, by_window))

    @T.prim_func(s_tir=True)
    def main(
        operands: T.Buffer(operand_shape(x, out), DTYPE),
        weight: T.Buffer((out.blocks // panel, PRODUCTS, channels_in, panel, v), DTYPE),
        bias: T.Buffer((out.blocks, v), DTYPE),
        result: T.Buffer(out.shape, DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True, "estimated_flops": direct_flops})
        products = T.sblock_alloc_buffer((PRODUCTS, *tile), DTYPE)
        write_halo(result)
        for q, n, o, h, w, c, k in T.grid(PRODUCTS, *tile, channels_in):
            with T.sblock("products"):
                vq, vn, vo, vh, vw, vc, vk = T.axis.remap("SSSSSSR", [q, n, o, h, w, c, k])
                T.sblock_attr({"schedule_rule": "winograd_conv2d"})
                with T.init():
                    products[vq, vn, vo, vh, vw, vc] = T.float32(0)
                products[vq, vn, vo, vh, vw, vc] = (
                    products[vq, vn, vo, vh, vw, vc]
                    + operands[vn, vh, vq, vk // lanes_in, vw, vk % lanes_in]
                    * weight[vo // panel, vq, vk, vo % panel, vc]
                )
        for i, j, n, o, h, w, c in T.grid(OUTPUTS, OUTPUTS, *tile):
            with T.sblock("epilogue"):
                vi, vj, vn, vo, vh, vw, vc = T.axis.remap("SSSSSSS", [i, j, n, o, h, w, c])
                result[
                    out.at(
                        vn,
                        vo,
                        first(vh, out.height) + vi + top,
                        first(vw, out.width) + vj + left,
                        vc,
                    )
                ] = activation(
                    output(products, (vn, vo, vh, vw, vc), vi * OUTPUTS + vj) + bias[vo, vc]
                )

    return main


def first(tile: Expr, length: int) -> Expr:
    """The first of a tile's outputs in a row or column of so many."""
    if length % OUTPUTS == 0:
        return tile * OUTPUTS
    return T.min(tile * OUTPUTS, length - OUTPUTS)


def combine(factors: tuple[tuple[int, ...], ...], matrix: list[list[Expr]]) -> list[Expr]:
    """F M F' for factors F of 0, 1 and -1, row by row."""
    half = [[weighted(row, [line[j] for line in matrix]) for j in range(INPUTS)] for row in factors]
    return [weighted(row, line) for line in half for row in factors]


def weighted(factors: tuple[int, ...], values: list[Expr]) -> Expr:
    """The sum of ``values``, each taken once, subtracted or left out; the first taken leads."""
    taken = [(factor, value) for factor, value in zip(factors, values, strict=True) if factor]
    taken.sort(key=lambda one: one[0] < 0)
    (_, total), *others = taken
    for factor, value in others:
        total = total + value if factor > 0 else total - value
    return total


def pack_winograd(weight: Array, v: int, panel: int = 1) -> Array:
    """The right operands: (O, I, 3, 3) → (O/v/panel, 16, I, panel, v)."""
    filters = TO_FILTERS @ weight.astype(np.float64) @ TO_FILTERS.T
    by_output = filters.transpose(0, 2, 3, 1).reshape(len(weight), PRODUCTS, -1)
    return in_panels(pack_channels(by_output.astype(np.float32), v), panel)
