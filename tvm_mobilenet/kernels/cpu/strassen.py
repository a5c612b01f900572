"""1x1 convolution with an eighth of its multiplications saved: Strassen's algorithm.

A 1x1 convolution is one matrix product: pixels x input channels by input x output channels. Each
dimension is halved (the pixels into even and odd rows), and seven products of halves do the work
of eight:

    V. Strassen, "Gaussian elimination is not optimal", Numer. Math. 13 (1969), in
    S. Winograd's form (1971): 7 multiplications and 15 additions of half-size matrices.

With A the activations and B the weights,

    q   left operand L[q]            right operand R[q]
    0   A11                          B11
    1   A12                          B21
    2   A12 - A21 - A22 + A11        B22
    3   A22                          B21 + B12 - B11 - B22
    4   A21 + A22                    B12 - B11
    5   A21 + A22 - A11              B22 - B12 + B11
    6   A11 - A21                    B22 - B12

    C11 = P0 + P1                    C12 = P0 + P5 + P4 + P2
    C21 = P0 + P5 + P6 + P3          C22 = P0 + P5 + P6 + P4

where P[q] = L[q] R[q]. The right operands are made when the weights are packed, the left ones by
the depthwise convolution before, in place of its plain output; the sums of products never leave
the L1 cache. The result differs from the direct product's by rounding: at one level the error
bound grows by a small constant (N. Higham, "Exploiting fast matrix multiplication within the
level 3 BLAS", ACM TOMS 16, 1990).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.ir import Expr
from tvm.script import tirx as T

from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.cpu.layout import DTYPE, Blocked
from tvm_mobilenet.kernels.cpu.nests import halo_writer, origin
from tvm_mobilenet.kernels.cpu.weights import in_panels, pack_channels
from tvm_mobilenet.kernels.parsing import parsed_once

PRODUCTS = 7
# measured on Zen 5, in the network: where a product of fewer channels, fewer pixels (the weights,
# 7/4 as many, then take the time) or operands beyond the L2 cache gains nothing
MIN_CHANNELS = 128
MIN_PIXELS = 64
MAX_OPERAND_BYTES = 3 << 19
FLOAT_BYTES = 4

Array = NDArray[np.float32]


def pays(x: Blocked, out: Blocked) -> bool:
    """Whether the matrix halves in every dimension and is large enough to gain by it."""
    divisible = x.channels % (2 * x.vector) == 0 and out.channels % (2 * out.vector) == 0
    return (
        divisible
        and out.height % 2 == 0
        and x.channels >= MIN_CHANNELS
        and out.height * out.width >= MIN_PIXELS
        and math.prod(operand_shape(x)) * FLOAT_BYTES <= MAX_OPERAND_BYTES
    )


def operand_shape(x: Blocked) -> tuple[int, ...]:
    """The left operands of a product of activations ``x``: (N, H / 2, 7, blocks / 2, W, v)."""
    return (x.batch, x.height // 2, PRODUCTS, x.blocks // 2, x.width, x.vector)


@parsed_once
def depthwise_operands(
    x: Blocked, out: Blocked, window: Window, activation: Activation
) -> tirx.PrimFunc:
    """Depthwise convolution whose output ``out`` is left as the operands of a 1x1 convolution.

    Buffers: x blocked; weights (blocks, kh, kw, v); bias (blocks, v); operands of out.
    """
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    origin_h, origin_w = origin(x, window)
    half = out.blocks // 2
    # channel half, channel block in it, row, odd or even, column
    quarters = (out.batch, 2, half, out.height // 2, 2, out.width, out.vector)

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(x.shape, DTYPE),
        weight: T.Buffer((out.blocks, kernel_h, kernel_w, out.vector), DTYPE),
        bias: T.Buffer((out.blocks, out.vector), DTYPE),
        operands: T.Buffer(operand_shape(out), DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        acc = T.sblock_alloc_buffer(quarters, DTYPE)
        active = T.sblock_alloc_buffer(quarters, DTYPE)
        for n, j, o, h, i, w, c, kh, kw in T.grid(*quarters, kernel_h, kernel_w):
            with T.sblock("conv"):
                vn, vj, vo, vh, vi, vw, vc, vkh, vkw = T.axis.remap(
                    "SSSSSSSRR", [n, j, o, h, i, w, c, kh, kw]
                )
                T.sblock_attr({"schedule_rule": "depthwise_operands"})
                with T.init():
                    acc[vn, vj, vo, vh, vi, vw, vc] = T.float32(0)
                acc[vn, vj, vo, vh, vi, vw, vc] = (
                    acc[vn, vj, vo, vh, vi, vw, vc]
                    + data[
                        x.at(
                            vn,
                            vj * half + vo,
                            (vh * 2 + vi) * stride_h + vkh + origin_h,
                            vw * stride_w + vkw + origin_w,
                            vc,
                        )
                    ]
                    * weight[vj * half + vo, vkh, vkw, vc]
                )
        for n, j, o, h, i, w, c in T.grid(*quarters):
            with T.sblock("epilogue"):
                vn, vj, vo, vh, vi, vw, vc = T.axis.remap("SSSSSSS", [n, j, o, h, i, w, c])
                active[vn, vj, vo, vh, vi, vw, vc] = activation(
                    acc[vn, vj, vo, vh, vi, vw, vc] + bias[vj * half + vo, vc]
                )
        for n, o, h, w, q, c in T.grid(
            out.batch, half, out.height // 2, out.width, PRODUCTS, out.vector
        ):
            with T.sblock("operands"):
                vn, vo, vh, vw, vq, vc = T.axis.remap("SSSSSS", [n, o, h, w, q, c])
                operands[vn, vh, vq, vo, vw, vc] = left_operand(
                    vq,
                    active[vn, 0, vo, vh, 0, vw, vc],
                    active[vn, 1, vo, vh, 0, vw, vc],
                    active[vn, 0, vo, vh, 1, vw, vc],
                    active[vn, 1, vo, vh, 1, vw, vc],
                )

    return main


def left_operand(q: Expr, a11: Expr, a12: Expr, a21: Expr, a22: Expr) -> Expr:
    lower = a21 + a22
    return select(q, [a11, a12, a12 - (lower - a11), a22, lower, lower - a11, a11 - a21])


@parsed_once
def strassen_conv2d(
    x: Blocked, out: Blocked, activation: Activation, panel: int = 1
) -> tirx.PrimFunc:
    """1x1 convolution of ``x``, which comes as operands, with the consumer's halo.

    Its operations are counted as the direct product's, so that speeds compare: achieved GFLOP/s
    may pass the core's peak.
    Buffers: operands of x; weights (out.blocks / 2 / panel, 7, C_in / 2, panel, v);
    bias (out.blocks, v); out blocked.
    """
    half_k, half = x.channels // 2, out.blocks // 2
    lanes_in, v = x.vector, out.vector
    top, left = out.halo.top, out.halo.left
    write_halo = halo_writer(out)
    tile = (out.batch, half, out.height // 2, out.width, v)
    direct_flops = 2 * out.batch * out.channels * out.height * out.width * x.channels

    @T.prim_func(s_tir=True)
    def main(
        operands: T.Buffer(operand_shape(x), DTYPE),
        weight: T.Buffer((half // panel, PRODUCTS, half_k, panel, v), DTYPE),
        bias: T.Buffer((out.blocks, v), DTYPE),
        result: T.Buffer(out.shape, DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True, "estimated_flops": direct_flops})
        products = T.sblock_alloc_buffer((PRODUCTS, *tile), DTYPE)
        write_halo(result)
        for q, n, o, h, w, c, k in T.grid(PRODUCTS, *tile, half_k):
            with T.sblock("products"):
                vq, vn, vo, vh, vw, vc, vk = T.axis.remap("SSSSSSR", [q, n, o, h, w, c, k])
                T.sblock_attr({"schedule_rule": "strassen_conv2d"})
                with T.init():
                    products[vq, vn, vo, vh, vw, vc] = T.float32(0)
                products[vq, vn, vo, vh, vw, vc] = (
                    products[vq, vn, vo, vh, vw, vc]
                    + operands[vn, vh, vq, vk // lanes_in, vw, vk % lanes_in]
                    * weight[vo // panel, vq, vk, vo % panel, vc]
                )
        for i, j, n, o, h, w, c in T.grid(2, 2, *tile):
            with T.sblock("epilogue"):
                vi, vj, vn, vo, vh, vw, vc = T.axis.remap("SSSSSSS", [i, j, n, o, h, w, c])
                result[out.at(vn, vj * half + vo, vh * 2 + vi + top, vw + left, vc)] = activation(
                    quarter(
                        vi,
                        vj,
                        products[0, vn, vo, vh, vw, vc],
                        products[1, vn, vo, vh, vw, vc],
                        products[2, vn, vo, vh, vw, vc],
                        products[3, vn, vo, vh, vw, vc],
                        products[4, vn, vo, vh, vw, vc],
                        products[5, vn, vo, vh, vw, vc],
                        products[6, vn, vo, vh, vw, vc],
                    )
                    + bias[vj * half + vo, vc]
                )

    return main


def quarter(i: Expr, j: Expr, *p: Expr) -> Expr:
    """C[i + 1][j + 1] from the seven products."""
    u2 = p[0] + p[5]
    u3 = u2 + p[6]
    return select(i * 2 + j, [p[0] + p[1], u2 + p[4] + p[2], u3 + p[3], u3 + p[4]])


def select(q: Expr, choices: list[Expr]) -> Expr:
    """The q-th of ``choices``; where q is a constant the compiler keeps only that one."""
    value = choices[-1]
    for index in reversed(range(len(choices) - 1)):
        value = T.Select(tirx.EQ(q, index), choices[index], value)
    return value


def pack_strassen(weight: Array, v: int, panel: int = 1) -> Array:
    """The right operands: (O, I, 1, 1) → (O/2/v/panel, 7, I/2, panel, v)."""
    b = weight[:, :, 0, 0].T.astype(np.float64)
    half_k, half_o = b.shape[0] // 2, b.shape[1] // 2
    b11, b12 = b[:half_k, :half_o], b[:half_k, half_o:]
    b21, b22 = b[half_k:, :half_o], b[half_k:, half_o:]
    right = [b11, b21, b22, b21 + b12 - b11 - b22, b12 - b11, b22 - b12 + b11, b22 - b12]
    by_output = np.stack(right).transpose(2, 0, 1).astype(np.float32)
    return in_panels(pack_channels(by_output, v), panel)
