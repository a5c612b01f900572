"""Elementwise arithmetic over blocked tensors: in a kernel's epilogue, or as a kernel by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Expr, Range, TensorLoad, TensorRegion
from tvm.script import tirx as T

from tvm_mobilenet.kernels.cpu.expressions import (
    Expression,
    QuantizationParameters,
    dtype_of,
    is_quantized,
    lower,
)
from tvm_mobilenet.kernels.cpu.layout import DTYPE, Blocked
from tvm_mobilenet.kernels.cpu.nests import halo_writer
from tvm_mobilenet.kernels.cpu.tables import Table
from tvm_mobilenet.kernels.parsing import parsed_once

HALO = "halo_"  # how the blocks that write it are called
EPILOGUE = "epilogue"  # the block of a kernel that writes its result

Place = Callable[[Sequence[Expr]], tuple[Expr, ...]]


@dataclass(frozen=True)
class Operand:
    """A tensor that an epilogue reads: its buffer's shape, and ``at``, which says where.

    ``at`` gets the indices at which the kernel writes its result. A ``constant`` is the same in
    every inference. Of a ``table`` any element may be read, wherever the result is.
    """

    shape: tuple[int, ...]
    at: Place
    constant: bool = False
    dtype: str = DTYPE
    table: bool = False

    def region(self, load: TensorLoad) -> TensorRegion:
        """What is read for one result."""
        whole = [Range(0, extent) for extent in self.shape]
        one = [Range.from_min_extent(index, 1) for index in load.indices]
        return tirx.BufferRegion(load.source, whole if self.table else one)


def blocked_operand(tensor: Blocked, out: Blocked, *, constant: bool = False) -> Operand:
    """``tensor`` beside a result ``out``: of its size, or one pixel or one image for all of it."""
    if (tensor.channels, tensor.vector) != (out.channels, out.vector):
        raise ValueError(f"expected {out.channels} channels in vectors of {out.vector}")
    halo = tensor.halo

    def at(indices: Sequence[Expr]) -> tuple[Expr, ...]:
        n, o, h, w, c = out.at(*indices)  # its own inverse
        one_image, one_pixel = tensor.batch == 1, tensor.height == tensor.width == 1
        return tensor.at(
            0 if one_image else n,
            o,
            halo.top if one_pixel else h + (halo.top - out.halo.top),
            halo.left if one_pixel else w + (halo.left - out.halo.left),
            c,
        )

    return Operand(tensor.shape, at, constant, tensor.dtype)


def feature_operand(features: int) -> Operand:
    """A constant for each feature of a (N, F) result."""
    return Operand((features,), lambda indices: (indices[-1],), constant=True)


def table_operand(table: Table) -> Operand:
    """A table of all bytes, whatever the layout of the result."""
    return Operand(table.shape, lambda _: (0,), constant=True, dtype=str(table.dtype), table=True)


def with_epilogue(
    func: tirx.PrimFunc,
    expression: Expression,
    operands: Sequence[Operand] = (),
    fill: int = 0,
    dtype: str = DTYPE,
) -> tirx.PrimFunc:
    """``func``, a kernel that writes its result in blocks called ``epilogue``, with more in them.

    What it writes is the expression's first input; the ``operands`` are the others, and become
    parameters before the result, of ``dtype``. Where the expression is quantized, so is the result,
    and ``fill`` what its halo gets.
    """
    *params, old = func.params
    dtype = dtype_of(expression) if is_quantized(expression) else dtype
    result = old if dtype == DTYPE else tirx.decl_buffer(old.shape, dtype, old.name)
    buffers = [
        tirx.decl_buffer(operand.shape, operand.dtype, f"operand{index}")
        for index, operand in enumerate(operands)
    ]
    reads = list(zip(buffers, operands, strict=True))

    def extended(block: s_tir.SBlock) -> s_tir.SBlock:
        if block.name_hint.startswith(HALO):
            return halo_of(block, old, result, fill)
        if block.name_hint != EPILOGUE:
            return block
        store = block.body
        assert isinstance(store, tirx.BufferStore)
        indices = list(store.indices)
        others = [tirx.BufferLoad(buffer, operand.at(indices)) for buffer, operand in reads]
        value = T.cast(lower(expression, [store.value, *others]), dtype)
        body = tirx.BufferStore(result, value, indices)
        pairs = zip(operands, others, strict=True)
        regions = [operand.region(load) for operand, load in pairs]
        return s_tir.SBlock(
            block.iter_vars,
            [*block.reads, *regions],
            moved(block.writes, old, result),
            block.name_hint,
            body,
            annotations=block.annotations,
        )

    body = tvm_ffi.structural_map(func.body, (s_tir.SBlock, extended))
    attrs = {**dict(func.attrs), "constant_params": constant_places(len(params), operands)}
    return tirx.PrimFunc([*params, *buffers, result], body, func.ret_type).with_attr(attrs)


def halo_of(block: s_tir.SBlock, old: tirx.Buffer, result: tirx.Buffer, fill: int) -> s_tir.SBlock:
    """The block, which writes zeros into the halo of ``old``, for a ``result`` of integers."""
    if result is old:
        return block
    store = block.body
    assert isinstance(store, tirx.BufferStore)
    body = tirx.BufferStore(result, tirx.const(fill, str(result.dtype)), list(store.indices))
    return s_tir.SBlock(
        block.iter_vars,
        block.reads,
        moved(block.writes, old, result),
        block.name_hint,
        body,
        annotations=block.annotations,
    )


def read_integers(
    func: tirx.PrimFunc, quantization: QuantizationParameters | str, place: int = 0
) -> tirx.PrimFunc:
    """``func`` with a tensor of bytes as its parameter at ``place``, of which it takes real values.

    A type alone is for numbers that are as they are, whatever real values they have.
    """
    old = func.params[place]
    dtype = quantization if isinstance(quantization, str) else quantization.dtype
    new = tirx.decl_buffer(old.shape, dtype, old.name)

    def value(load: TensorLoad) -> Expr:
        if not load.source.same_as(old):
            return load
        number = tirx.Cast(DTYPE, tirx.BufferLoad(new, list(load.indices)))
        if isinstance(quantization, str):
            return number
        zero_point, scale = T.float32(quantization.zero_point), T.float32(quantization.scale)
        return (number - zero_point) * scale

    def rewritten(block: s_tir.SBlock) -> s_tir.SBlock:
        return s_tir.SBlock(
            block.iter_vars,
            moved(block.reads, old, new),
            block.writes,
            block.name_hint,
            block.body,
            block.init,
            block.alloc_buffers,
            block.match_buffers,
            block.annotations,
        )

    body = tvm_ffi.structural_map(func.body, [(TensorLoad, value), (s_tir.SBlock, rewritten)])
    params = [new if index == place else one for index, one in enumerate(func.params)]
    return tirx.PrimFunc(params, body, func.ret_type).with_attr(dict(func.attrs))


def moved(
    regions: Sequence[TensorRegion], old: tirx.Buffer, new: tirx.Buffer
) -> list[TensorRegion]:
    """The same elements of ``new`` where they are of ``old``."""
    return [
        tirx.BufferRegion(new, one.region) if one.source.same_as(old) else one for one in regions
    ]


def constant_places(params: int, operands: Sequence[Operand]) -> list[int]:
    """The places of weights and other constants among a kernel's parameters, for measuring it."""
    more = [place for place, one in enumerate(operands, params) if one.constant]
    return [*range(1, params), *more]


@parsed_once
def copy(x: Blocked, out: Blocked) -> tirx.PrimFunc:
    """``x`` with the halo of ``out``; an epilogue makes any elementwise kernel of it."""
    write_halo = halo_writer(out)

    @T.prim_func(s_tir=True)
    def main(data: T.Buffer(x.shape, DTYPE), result: T.Buffer(out.shape, DTYPE)) -> None:
        T.func_attr({"tirx.noalias": True})
        write_halo(result)
        for n, o, h, w, c in T.grid(out.batch, out.blocks, out.height, out.width, out.vector):
            with T.sblock("epilogue"):
                vn, vo, vh, vw, vc = T.axis.remap("SSSSS", [n, o, h, w, c])
                T.sblock_attr({"schedule_rule": "elementwise"})
                result[out.at(vn, vo, vh + out.halo.top, vw + out.halo.left, vc)] = data[
                    x.at(vn, vo, vh + x.halo.top, vw + x.halo.left, vc)
                ]

    return main
