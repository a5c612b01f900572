"""Kernels over blocked tensors: how each tensor lies in memory, and calls that write them so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.ir import Expr, Var

from schedules.cpu.dot_products import Integers
from schedules.cpu.image_tiles import ImageOutput, OverlappingTile, PixelRun, Tile
from tvm_mobilenet.compiler.graph.layer_rewriter import Array, LayerRewriter
from tvm_mobilenet.compiler.graph.layers import (
    NO_EPILOGUE,
    ChannelsToSpace,
    Convolution,
    Dense,
    Layer,
    Operand,
    Pooling,
    QuantizedConvolution,
    QuantizedDense,
    WithEpilogue,
    shape_of,
)
from tvm_mobilenet.kernels.cpu.channels import move_channels
from tvm_mobilenet.kernels.cpu.elementwise import Operand as EpilogueOperand
from tvm_mobilenet.kernels.cpu.elementwise import (
    blocked_operand,
    feature_operand,
    read_integers,
    table_operand,
    with_epilogue,
)
from tvm_mobilenet.kernels.cpu.expressions import LIMITS, SELF, Expression, QuantizationParameters
from tvm_mobilenet.kernels.cpu.layout import (
    BF16,
    DTYPE,
    HALVES,
    MIN_VECTOR,
    NO_HALO,
    Blocked,
    Halo,
    pack,
    plain_dtype,
    unpack,
)
from tvm_mobilenet.kernels.cpu.overlap import overlap
from tvm_mobilenet.kernels.cpu.tables import Table, tabulated
from tvm_mobilenet.kernels.cpu.weights import pack_channels

CONVOLUTIONS = Convolution | QuantizedConvolution
REAL = Convolution | ChannelsToSpace  # layers that compute vectors of real numbers in any case
TABLE_LANES = 16  # bytes at a place that are looked up at once (compiler/cpu/packed_stores.py)
AnyArray: TypeAlias = NDArray[np.generic]


@dataclass(frozen=True)
class BlockedTensor:
    value: Var
    layout: Blocked


class BlockedTensors(LayerRewriter):
    """``blocked`` are the tensors in that layout; what decides on it, a subclass sets."""

    vector_width: int  # floats
    byte_lanes: int  # integers
    integers_of_target: Integers
    tile: OverlappingTile | None
    looks_up: bool  # whether functions of a byte are tables
    blocked: dict[Var, BlockedTensor]
    halos: dict[Var, Halo]
    fills: dict[Var, int]  # what stands in the halo of integers
    in_bf16: frozenset[Var]
    # how many channels those have that are the pixels of another tensor
    windows: dict[Var, int]
    # integers that are read instead of their real values
    integers: dict[Var, tuple[Var, QuantizationParameters]]

    # --- calls --------------------------------------------------------------------------------

    def in_tiles(
        self, layer: Convolution, func: tirx.PrimFunc, out: Blocked, *, stem: bool = False
    ) -> tirx.PrimFunc:
        """The kernel, over tiles that overlap where no good one divides the result."""
        tile = self.tile_of(layer, out, stem=stem)
        return func if tile is None else overlap(func, (out.height, out.width), tile)

    def in_runs(
        self, func: tirx.PrimFunc, image: tuple[int, int], depth: int, blocks: int
    ) -> tirx.PrimFunc:
        """The kernel of several products, over runs of their rows where those are the best tiles.

        ``image`` are a product's rows and columns.
        """
        lanes = self.vector_width
        tile = self.tile and self.tile(
            ImageOutput(*image, lanes, (1, 1), (1, 1), depthwise=False, blocks=blocks, depth=depth)
        )
        return overlap(func, image, tile) if isinstance(tile, PixelRun) else func

    def tile_of(self, layer: Convolution, out: Blocked, *, stem: bool = False) -> Tile | None:
        """The tile of those that overlap, None where none do."""
        if self.tile is None:
            return None
        _, depth, *kernel = layer.weight.shape
        return self.tile(
            ImageOutput(
                out.height,
                out.width,
                out.vector,
                (kernel[0], kernel[1]),
                layer.stride,
                layer.depthwise,
                out.blocks // layer.groups if not layer.depthwise else out.blocks,
                depth,
                stem,
            )
        )

    def emit_blocked(
        self,
        layer: Convolution,
        func: tirx.PrimFunc,
        name: str,
        args: list[Expr | Array],
        out: Blocked,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        """Emit the layer's kernel with its bias and its epilogue.

        ``shape`` is the result's where it is not the layout's own.
        """
        args = [*args, pack_channels(layer.bias, out.vector)]
        self.emit_extended(layer, func, name, args, out, shape)

    def emit_extended(
        self,
        layer: WithEpilogue,
        func: tirx.PrimFunc,
        name: str,
        args: Sequence[Expr | AnyArray],
        out: Blocked,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        """Emit the kernel with the layer's epilogue."""
        if layer.epilogue != NO_EPILOGUE:
            beside = [self.beside(one, out) for one in layer.epilogue.operands]
            operands = [as_operand(value, layout, out) for value, layout in beside]
            args = [*args, *(value for value, _ in beside)]
            if layer.epilogue.table is not None:
                operands.append(table_operand(layer.epilogue.table))
                args.append(layer.epilogue.table)
            func = with_epilogue(func, layer.epilogue.expression, operands, out.fill, out.dtype)
            name += "_fused"
        else:
            func = stored(func, out)
        value = self.call(func, name, args, shape or out.shape, out.dtype)
        self.blocked[layer.result] = BlockedTensor(value, out)

    def looked_up(
        self, expression: Expression, place: int, out: Blocked, read_bytes: Mapping[int, str]
    ) -> tuple[Expression, Table | None]:
        """What a kernel that writes ``out`` computes, and the table, its input at ``place``.

        As ``tables.tabulated``, where there are instructions for it; else ``expression`` itself.
        """
        if not self.looks_up or out.vector != TABLE_LANES:
            return expression, None
        return tabulated(expression, place, read_bytes) or (expression, None)

    def beside(self, operand: Operand, out: Blocked) -> tuple[Expr | Array, Blocked]:
        """An operand of arithmetic over blocked tensors like ``out``, and how it lies."""
        if isinstance(operand, Var):
            tensor = self.in_lanes(operand, out.vector)
            return tensor.value, tensor.layout
        layout = Blocked(1, out.channels, 1, 1, out.vector)
        return pack_channels(operand, out.vector).reshape(layout.shape), layout

    def emit_rows(
        self,
        layer: Dense | QuantizedDense,
        func: tirx.PrimFunc,
        name: str,
        args: list[Expr | AnyArray],
        shape: tuple[int, int],
    ) -> None:
        """Emit a kernel over rows of features, with the layer's epilogue."""
        func, name, args = with_feature_epilogue(layer, func, name, args, shape[1])
        self.give_rows(layer, self.call(func, name, args, shape, dtype_of(layer)))

    # --- layouts ------------------------------------------------------------------------------

    def layout(self, layer: Layer) -> Blocked:
        """How the layer's result lies in memory."""
        batch, channels, height, width = shape_of(layer.result)
        halo = self.halos.get(layer.result, NO_HALO)
        lanes, fill = self.lanes_of(layer, channels), self.fills.get(layer.result, 0)
        return Blocked(
            batch, channels, height, width, lanes, halo, self.stored_dtype(layer.result), fill
        )

    def stored_dtype(self, var: Var) -> str:
        """Of a tensor in the blocked layout."""
        return BF16 if var in self.in_bf16 else str(var.ty.dtype)

    def lanes_of(self, layer: Layer, channels: int) -> int:
        """Channels a vector of what ``layer`` computes."""
        if layer.result in self.windows:
            return self.lanes(self.windows[layer.result])
        integers = isinstance(layer, QuantizedConvolution) or (
            dtype_of(layer) in LIMITS and not isinstance(layer, REAL)
        )
        if isinstance(layer, CONVOLUTIONS) and layer.groups > 1:
            most = self.byte_lanes if integers else self.vector_width
            return math.gcd(most, channels // layer.groups)
        return self.lanes(channels, integers=integers)

    def lanes(self, channels: int, *, integers: bool = False) -> int:
        """Channels a vector: the target's, or fewer where a tensor has fewer channels."""
        enough = 1 << (channels - 1).bit_length()
        most = self.byte_lanes if integers else self.vector_width
        return min(most, max(MIN_VECTOR, enough))

    def as_blocked(self, var: Var) -> BlockedTensor:
        if var not in self.blocked:
            batch, channels, height, width = shape_of(var)
            halo, fill = self.halos.get(var, NO_HALO), self.fills.get(var, 0)
            dtype = self.stored_dtype(var)
            lanes = self.lanes(channels, integers=dtype in LIMITS)
            layout = Blocked(batch, channels, height, width, lanes, halo, dtype, fill)
            name = f"pack_{width}x{height}x{channels}"
            value = self.call(pack(layout), name, [self.plain[var]], layout.shape, dtype)
            self.blocked[var] = BlockedTensor(value, layout)
        return self.blocked[var]

    def in_lanes(self, var: Var, lanes: int) -> BlockedTensor:
        """The tensor in vectors of so many channels: what keeps each in its lane reads it so.

        A grouped convolution leaves narrower vectors than its channels would fill.
        """
        tensor = self.as_blocked(var)
        x = tensor.layout
        if x.vector == lanes:
            return tensor
        out = replace(x, vector=lanes)
        places = tuple((0, channel) for channel in range(x.channels))
        name = f"move_channels_{x.width}x{x.height}x{x.channels}"
        func = move_channels((x,), out, places)
        value = self.call(func, name, [tensor.value], out.shape, out.dtype)
        return BlockedTensor(value, out)

    def integers_read(self, var: Var) -> Var:
        """The integers that a kernel reads instead of ``var``, their real values, where it does."""
        return self.integers[var][0] if var in self.integers else var

    def reading(self, var: Var, func: tirx.PrimFunc) -> tirx.PrimFunc:
        """The kernel, which reads ``var``, over the integers that are read instead."""
        return read_integers(func, self.integers[var][1]) if var in self.integers else func

    def unpack_var(self, var: Var) -> Expr:
        tensor = self.blocked[var]
        layout = tensor.layout
        name = f"unpack_{layout.width}x{layout.height}x{layout.channels}"
        dtype = plain_dtype(layout)
        return self.call(unpack(layout), name, [tensor.value], shape_of(var), dtype)


def real(out: Blocked) -> Blocked:
    """The layout, as kernels write it before an epilogue makes integers of it."""
    return replace(out, dtype=DTYPE, fill=0)


def read_stored(func: tirx.PrimFunc, x: Blocked) -> tirx.PrimFunc:
    """The kernel, made for float32, whose first tensor is stored as ``x`` is."""
    return read_integers(func, x.dtype) if x.dtype in HALVES else func


def stored(func: tirx.PrimFunc, out: Blocked) -> tirx.PrimFunc:
    """The kernel, made for float32 or for ``out``, whose result is stored as ``out`` is."""
    if out.dtype not in HALVES or str(func.params[-1].dtype) == out.dtype:
        return func
    return with_epilogue(func, SELF, dtype=out.dtype)


def as_operand(value: Expr | Array, layout: Blocked, out: Blocked) -> EpilogueOperand:
    return blocked_operand(layout, out, constant=isinstance(value, np.ndarray))


def with_feature_epilogue(
    layer: Dense | QuantizedDense | Pooling,
    func: tirx.PrimFunc,
    name: str,
    args: Sequence[Expr | AnyArray],
    features: int,
) -> tuple[tirx.PrimFunc, str, list[Expr | AnyArray]]:
    """A kernel over rows of features, its name and what it reads, with the layer's epilogue."""
    if layer.epilogue == NO_EPILOGUE:
        return func, name, list(args)
    constants = [one for one in layer.epilogue.operands if not isinstance(one, Var)]
    operands = [feature_operand(features) for _ in constants]
    func = with_epilogue(func, layer.epilogue.expression, operands)
    return func, name + "_fused", [*args, *constants]


def dtype_of(layer: Layer) -> str:
    return str(layer.result.ty.dtype)
