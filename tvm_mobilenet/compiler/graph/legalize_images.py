"""Arithmetic, pooling, resizing and moved channels over blocked tensors → calls of our kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.ir import Expr, Var

from schedules.filter_window import Window
from tvm_mobilenet.compiler.graph.blocked_tensors import (
    BlockedTensor,
    as_operand,
    dtype_of,
    read_stored,
    real,
    stored,
    with_feature_epilogue,
)
from tvm_mobilenet.compiler.graph.elementwise import as_relax, dequantization
from tvm_mobilenet.compiler.graph.layers import (
    Channels,
    ChannelsToSpace,
    Elementwise,
    Operand,
    Pooling,
    Resize,
    WindowPooling,
    shape_of,
    sources,
    tensors,
)
from tvm_mobilenet.kernels.cpu.byte_arithmetic import Bounds, by_channel, saturating
from tvm_mobilenet.kernels.cpu.channels import move_channels
from tvm_mobilenet.kernels.cpu.elementwise import (
    copy,
    read_integers,
    table_operand,
    with_epilogue,
)
from tvm_mobilenet.kernels.cpu.expressions import (
    LIMITS,
    SELF,
    Expression,
    Input,
    dequantize,
    inputs,
    substitute,
)
from tvm_mobilenet.kernels.cpu.head import blocked_avg_pool2d, global_avg_pool2d
from tvm_mobilenet.kernels.cpu.layout import Blocked
from tvm_mobilenet.kernels.cpu.pooling import pool2d
from tvm_mobilenet.kernels.cpu.resize import channels_to_space as pixels_of_channels
from tvm_mobilenet.kernels.cpu.resize import resize2d

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.graph.legalize_cpu import Legalizer


def elementwise(to: Legalizer, layer: Elementwise) -> None:
    vars_read = tensors(layer.operands)
    if all(var in to.plain and var not in to.blocked for var in vars_read):
        values = [plain_operand(to, one, layer.result) for one in layer.operands]
        to.plain[layer.result] = to.builder.emit(as_relax(layer.expression, values))
        return
    out = to.layout(layer)
    whole = next(i for i, one in enumerate(layer.operands) if is_whole(one, layer.result))
    order = [whole, *(i for i in range(len(layer.operands)) if i != whole)]
    beside = [to.beside(layer.operands[i], out) for i in order]
    (_, first), *others = beside
    inputs = [Input(order.index(i)) for i in range(len(order))]
    copied = copy(real(first), real(out))
    expression = substitute(layer.expression, inputs)
    expression = over_bytes(to, expression, [layer.operands[i] for i in order], out)
    operands = [as_operand(value, layout, out) for value, layout in others]
    args: list[Expr | NDArray[np.generic]] = [value for value, _ in beside]
    of_bytes = first.dtype in LIMITS
    read_bytes = {0: first.dtype} if of_bytes else {}
    expression, table = to.looked_up(expression, len(args), out, read_bytes)
    if table is not None:
        operands.append(table_operand(table))
        args.append(table)
    copied = read_integers(copied, first.dtype) if of_bytes else read_stored(copied, first)
    func = with_epilogue(copied, expression, operands, out.fill, out.dtype)
    name = f"elementwise_{out.width}x{out.height}x{out.channels}"
    value = to.call(func, name, args, out.shape, out.dtype)
    to.blocked[layer.result] = BlockedTensor(value, out)


def over_bytes(
    to: Legalizer, expression: Expression, operands: Sequence[Operand], out: Blocked
) -> Expression:
    """The same for fewer instructions a pixel, where it makes a byte of bytes."""
    if out.dtype not in LIMITS:
        return expression
    known = {
        place: limits
        for place, one in enumerate(operands)
        if isinstance(one, Var) and (limits := limits_of(to, one)) is not None
    }
    pixels = [
        place
        for place, one in enumerate(operands)
        if isinstance(one, Var) and shape_of(one)[2:] == (1, 1) != (out.height, out.width)
    ]
    return saturating(by_channel(expression, pixels), known)


def limits_of(to: Legalizer, var: Var) -> Bounds | None:
    """Between what a tensor of bytes, or of what bytes stand for, lies; None for any other."""
    dtype = str(var.ty.dtype)
    if dtype in LIMITS:
        return LIMITS[dtype]
    made = next((one for one in to.layers if one.result.same_as(var)), None)
    found = None if made is None else dequantization(made)
    if found is None:
        return None
    _, quantization = found
    low, high = (one - quantization.zero_point for one in LIMITS[quantization.dtype])
    return low * quantization.scale, high * quantization.scale


def window_pooling(to: Legalizer, layer: WindowPooling) -> None:
    out = to.layout(layer)
    x = to.in_lanes(to.integers_read(layer.source), out.vector)
    top, left, *_ = layer.padding
    window = Window(layer.kernel, layer.stride, (top, left))
    name = f"{layer.kind.partition('_')[0]}_pool2d_{out.width}x{out.height}x{out.channels}"
    func = pool2d(real(x.layout), real(out), window, layer.kind)
    func = read_stored(to.reading(layer.source, func), x.layout)
    to.emit_extended(layer, func, name, [x.value], out)


def channels(to: Legalizer, layer: Channels) -> None:
    out = to.layout(layer)
    read = sources(layer)
    xs = [to.as_blocked(var) for var in read]
    places = tuple((read.index(var), channel) for var, channel in layer.channels)
    func = move_channels(tuple(x.layout for x in xs), out, places)
    name = f"move_channels_{out.width}x{out.height}x{out.channels}"
    value = to.call(func, name, [x.value for x in xs], out.shape, out.dtype)
    to.blocked[layer.result] = BlockedTensor(value, out)


def resize(to: Legalizer, layer: Resize) -> None:
    out = to.layout(layer)
    x = to.in_lanes(to.integers_read(layer.source), out.vector)
    func = resize2d(real(x.layout), real(out), layer.rows[0].shape[1])
    func = stored(read_stored(to.reading(layer.source, func), x.layout), out)
    name = f"resize2d_{out.width}x{out.height}x{out.channels}"
    args = [x.value, *layer.rows, *layer.columns]
    value = to.call(func, name, args, out.shape, out.dtype)
    to.blocked[layer.result] = BlockedTensor(value, out)


def channels_to_space(to: Legalizer, layer: ChannelsToSpace) -> None:
    x, out = to.as_blocked(layer.source), to.layout(layer)
    if x.layout.dtype in LIMITS:
        func = pixels_of_channels(x.layout, out, layer.factor)
    else:
        func = pixels_of_channels(real(x.layout), real(out), layer.factor)
        func = read_stored(func, x.layout)
    name = f"channels_to_space_{out.width}x{out.height}x{out.channels}"
    to.emit_extended(layer, func, name, [x.value], out)


def plain_operand(to: Legalizer, operand: Operand, result: Var) -> Expr:
    """An operand of Relax's own operators."""
    if isinstance(operand, Var):
        return to.as_plain(operand)
    rank = len(shape_of(result))
    return relax.const(operand.reshape(-1, *(1,) * (rank - 2)).astype(np.float32))


def pooling(to: Legalizer, layer: Pooling) -> None:
    dtype = None
    if layer.source in to.integers:  # the mean of bytes is dequantized once, and not each byte
        _, quantization = to.integers[layer.source]
        dtype, after = quantization.dtype, layer.epilogue
        expression = of_self(after.expression, dequantize(SELF, quantization))
        layer = replace(layer, epilogue=replace(after, expression=expression))

    def reading(func: tirx.PrimFunc, x: Blocked) -> tirx.PrimFunc:
        return read_stored(func, x) if dtype is None else read_integers(func, dtype)

    if layer.result in to.read_blocked:
        out = to.layout(layer)
        x = to.in_lanes(to.integers_read(layer.source), out.vector)
        name = f"blocked_avg_pool2d_{x.layout.width}x{x.layout.height}x{x.layout.channels}"
        func = reading(blocked_avg_pool2d(real(x.layout), real(out)), x.layout)
        to.emit_extended(layer, func, name, [x.value], out)
        return
    x = to.as_blocked(to.integers_read(layer.source))
    name = f"global_avg_pool2d_{x.layout.width}x{x.layout.height}x{x.layout.channels}"
    shape = (x.layout.batch, x.layout.channels)
    func = reading(global_avg_pool2d(real(x.layout)), x.layout)
    func, name, args = with_feature_epilogue(layer, func, name, [x.value], shape[1])
    mean: Expr = to.call(func, name, args, shape, dtype_of(layer))
    if shape_of(layer.result) != shape:
        mean = to.builder.emit(relax.op.reshape(mean, shape_of(layer.result)))
    to.plain[layer.result] = mean


def of_self(expression: Expression, value: Expression) -> Expression:
    """The expression of ``value`` instead of a kernel's own result."""
    read = inputs(expression) | {SELF.index}
    others: list[Expression] = [Input(place) for place in range(max(read) + 1)]
    return substitute(expression, [value, *others[1:]])


def is_whole(operand: Operand, result: Var) -> bool:
    """Whether it is a tensor of the result's size."""
    return isinstance(operand, Var) and shape_of(operand) == shape_of(result)
