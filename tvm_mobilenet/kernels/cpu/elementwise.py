"""Elementwise arithmetic over blocked tensors: in a kernel's epilogue, or as a kernel by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Expr, Range, TensorRegion
from tvm.script import tirx as T

from tvm_mobilenet.kernels.cpu.conv2d import halo_writer
from tvm_mobilenet.kernels.cpu.expressions import Expression, lower
from tvm_mobilenet.kernels.cpu.layout import DTYPE, Blocked
from tvm_mobilenet.kernels.parsing import parsed_once

EPILOGUE = "epilogue"  # the block of a kernel that writes its result

Place = Callable[[Sequence[Expr]], tuple[Expr, ...]]


@dataclass(frozen=True)
class Operand:
    """A tensor that an epilogue reads: its buffer's shape, and ``at``, which says where.

    ``at`` gets the indices at which the kernel writes its result. A ``constant`` is the same in
    every inference.
    """

    shape: tuple[int, ...]
    at: Place
    constant: bool = False


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

    return Operand(tensor.shape, at, constant)


def feature_operand(features: int) -> Operand:
    """A constant for each feature of a (N, F) result."""
    return Operand((features,), lambda indices: (indices[-1],), constant=True)


def with_epilogue(
    func: tirx.PrimFunc, expression: Expression, operands: Sequence[Operand] = ()
) -> tirx.PrimFunc:
    """``func``, a kernel that writes its result in blocks called ``epilogue``, with more in them.

    What it writes is the expression's first input; the ``operands`` are the others, and become
    parameters before the result.
    """
    *params, result = func.params
    buffers = [
        tirx.decl_buffer(operand.shape, DTYPE, f"operand{index}")
        for index, operand in enumerate(operands)
    ]
    reads = list(zip(buffers, operands, strict=True))

    def extended(block: s_tir.SBlock) -> s_tir.SBlock:
        if block.name_hint != EPILOGUE:
            return block
        store = block.body
        assert isinstance(store, tirx.BufferStore)
        indices = list(store.indices)
        others = [tirx.BufferLoad(buffer, operand.at(indices)) for buffer, operand in reads]
        body = tirx.BufferStore(store.buffer, lower(expression, [store.value, *others]), indices)
        regions = [region(load) for load in others]
        return s_tir.SBlock(
            block.iter_vars,
            [*block.reads, *regions],
            block.writes,
            block.name_hint,
            body,
            annotations=block.annotations,
        )

    body = tvm_ffi.structural_map(func.body, (s_tir.SBlock, extended))
    attrs = {**dict(func.attrs), "constant_params": constant_places(len(params), operands)}
    return tirx.PrimFunc([*params, *buffers, result], body, func.ret_type).with_attr(attrs)


def constant_places(params: int, operands: Sequence[Operand]) -> list[int]:
    """The places of weights and other constants among a kernel's parameters, for measuring it."""
    more = [place for place, one in enumerate(operands, params) if one.constant]
    return [*range(1, params), *more]


def region(load: tirx.BufferLoad) -> TensorRegion:
    """The one element that is loaded."""
    return tirx.BufferRegion(
        load.source, [Range.from_min_extent(index, 1) for index in load.indices]
    )


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
