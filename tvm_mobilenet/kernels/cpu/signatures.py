"""What convolutions are called with, and what each of them does: write the halo, then convolve.

Buffers: data; weights packed (weights.py); of each channel its bias, and its scale where sums are
integers; the blocked result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.script import tirx as T

from tvm_mobilenet.kernels.cpu.layout import DTYPE, Blocked
from tvm_mobilenet.kernels.cpu.nests import Sums, biased, from_bias, halo_writer, started
from tvm_mobilenet.kernels.cpu.requantization import Requantization


@dataclass(frozen=True)
class Tensor:
    """One that is not blocked."""

    shape: tuple[int, ...]
    dtype: str


def with_bias(
    read: Blocked | Tensor,
    weights: Tensor,
    out: Blocked,
    convolve: Callable[..., None],
    *,
    sums: str,
    start: bool = False,
    operations: int | None = None,
) -> tirx.PrimFunc:
    """A kernel whose ``sums`` are of that type, to which the bias is added.

    Those in float32 may also ``start`` at it. Its ``operations`` are stated where products fill up
    steps, and count for none.
    """
    write_halo = halo_writer(out)
    attributes: dict[str, object] = {"tirx.noalias": True}
    if operations is not None:
        attributes["estimated_flops"] = operations

    def summed(bias: tirx.Buffer) -> Sums:
        return from_bias(bias) if start else biased(bias, sums, out.dtype)

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(read.shape, read.dtype),
        weight: T.Buffer(weights.shape, weights.dtype),
        bias: T.Buffer((out.blocks, out.vector), DTYPE),
        result: T.Buffer(out.shape, out.dtype),
    ) -> None:
        T.func_attr(attributes)
        write_halo(result)
        convolve(data, weight, summed(bias), result)

    return started(main) if start else main


def with_scale(
    read: Blocked | Tensor,
    weights: Tensor,
    out: Blocked,
    convolve: Callable[..., None],
    operations: int,
    requantization: Requantization,
    *,
    table: Tensor | None = None,
) -> tirx.PrimFunc:
    """A kernel whose sums are integers. Its result is float32, until an epilogue changes that.

    The ``table`` of the order that it sums in, where there is one, comes after the weights.
    """
    write_halo = halo_writer(out)
    v = out.vector

    if table is not None:
        steps = table  # a name of its own, for the parameter has that of the argument

        @T.prim_func(s_tir=True)
        def ordered(
            data: T.Buffer(read.shape, read.dtype),
            weight: T.Buffer(weights.shape, weights.dtype),
            table: T.Buffer(steps.shape, steps.dtype),
            scale: T.Buffer((out.blocks, v), DTYPE),
            bias: T.Buffer(requantization.shape(out.blocks, v), requantization.dtype),
            result: T.Buffer(out.shape, DTYPE),
        ) -> None:
            T.func_attr({"tirx.noalias": True, "estimated_flops": operations})
            write_halo(result)
            convolve(data, weight, requantization.sums(scale, bias), result, table)

        return ordered

    @T.prim_func(s_tir=True)
    def main(
        data: T.Buffer(read.shape, read.dtype),
        weight: T.Buffer(weights.shape, weights.dtype),
        scale: T.Buffer((out.blocks, v), DTYPE),
        bias: T.Buffer(requantization.shape(out.blocks, v), requantization.dtype),
        result: T.Buffer(out.shape, DTYPE),
    ) -> None:
        T.func_attr({"tirx.noalias": True, "estimated_flops": operations})
        write_halo(result)
        convolve(data, weight, requantization.sums(scale, bias), result)

    return main
