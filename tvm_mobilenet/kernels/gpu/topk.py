"""TopK on a GPU: every value counts those that come before it, and so knows its place."""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

from tvm_mobilenet.kernels.topk import TopK


def topk(of: TopK) -> tirx.PrimFunc:
    """(rows, size) → values and indices, each (rows, count)."""
    rows, size, count = of.rows, of.size, of.count
    kind, of_indices, better = of.dtype, of.dtype_of_indices, of.better

    @T.prim_func(s_tir=True)
    def kernel(
        data: T.Buffer((rows, size), kind),
        values: T.Buffer((rows, count), kind),
        indices: T.Buffer((rows, count), of_indices),
    ) -> None:
        T.func_attr({"tirx.noalias": True})
        for row, column in T.grid(rows, size):
            with T.sblock("pick"):
                r, i = T.axis.remap("SS", [row, column])
                T.reads(data[r, 0:size])
                T.writes(values[r, 0:count], indices[r, 0:count])
                place = T.sblock_alloc_buffer((1,), "int32", scope="local")
                place[0] = 0
                for j in range(size):
                    place[0] += T.Cast(
                        "int32",
                        better(data[r, j], data[r, i]) or (data[r, j] == data[r, i] and j < i),
                    )
                if place[0] < count:
                    values[r, place[0]] = data[r, i]
                    indices[r, place[0]] = T.Cast(of_indices, i)

    return kernel.without_attr("global_symbol")  # it is a part of a network
