"""Dense convolutions over integers or in bfloat16 → kernels by tile registers, where there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.ir import Expr

from schedules.x86.pixel_tiles import LEAST_PIXELS
from schedules.x86.tile_products import BYTES, LANES, PAIRS
from tvm_mobilenet.compiler.graph.blocked_tensors import real
from tvm_mobilenet.compiler.graph.layer_rewriter import stride_suffix, window_of
from tvm_mobilenet.compiler.graph.layers import Convolution, QuantizedConvolution
from tvm_mobilenet.kernels.cpu.layout import BF16, Blocked
from tvm_mobilenet.kernels.cpu.tiles import bf16_tiles_conv2d, byte_tiles_conv2d, pack_tiles

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.graph.legalize_cpu import Legalizer

MOST_VECTORS = 2  # of channels whose weights lie together: of what a kernel sums at once


def suits_tiles(to: Legalizer, layer: Convolution | QuantizedConvolution) -> bool:
    """Whether tiles compute it: of whole vectors, and of enough pixels for what weights cost.

    A product takes as long for one row of pixels as for eight.
    """
    out = to.layout(layer)
    x = to.as_blocked(layer.source).layout
    whole = layer.groups == 1 and x.vector == out.vector == LANES
    return to.tiles and whole and out.height * out.width >= LEAST_PIXELS


def byte_tiles(
    to: Legalizer, layer: QuantizedConvolution
) -> tuple[tirx.PrimFunc, str, list[Expr | NDArray[np.generic]], Blocked]:
    """A kernel, its name, what it reads but for scale and bias, and how its result lies."""
    x, out = to.as_blocked(layer.source), to.layout(layer)
    panel = panel_for_tiles(out)
    func = byte_tiles_conv2d(x.layout, real(out), window_of(layer), layer.activation, panel)
    weight = pack_tiles(layer.weight, panel, BYTES)
    return func, f"quantized_{name_of(layer, x.layout, out)}", [x.value, weight], out


def bf16_tiles(to: Legalizer, layer: Convolution) -> None:
    x, out = to.as_blocked(layer.source), to.layout(layer)
    assert x.layout.dtype == BF16
    panel = panel_for_tiles(out)
    func = bf16_tiles_conv2d(x.layout, real(out), window_of(layer), layer.activation, panel)
    weight = pack_tiles(layer.weight, panel, PAIRS).astype(ml_dtypes.bfloat16)
    name = f"bf16_{name_of(layer, x.layout, out)}{stride_suffix(layer)}"
    to.emit_blocked(layer, func, name, [x.value, weight], out)


def panel_for_tiles(out: Blocked) -> int:
    """Output vectors whose weights lie together."""
    return MOST_VECTORS if out.blocks % MOST_VECTORS == 0 else 1


def name_of(layer: Convolution | QuantizedConvolution, x: Blocked, out: Blocked) -> str:
    kernel = "x".join(map(str, layer.weight.shape[2:]))
    kind = "tiles_conv2d" if kernel != "1x1" else "tiles_pointwise_conv2d"
    return f"{kind}_{out.width}x{out.height}x{x.channels}_{out.channels}"
