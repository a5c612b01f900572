"""TopK on a CPU: few are asked for, and each is found by one pass over its row."""

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
        for row in T.parallel(rows):
            with T.sblock("row"):
                r = T.axis.spatial(rows, row)
                T.reads(data[r, 0:size])
                T.writes(values[r, 0:count], indices[r, 0:count])
                for rank in range(count):
                    indices[r, rank] = T.Cast(of_indices, -1)
                    for i in range(size):
                        before = T.max(rank - 1, 0)
                        # after what was picked before it, and better than the best so far
                        if (
                            rank == 0
                            or better(values[r, before], data[r, i])
                            or (
                                data[r, i] == values[r, before]
                                and T.Cast(of_indices, i) > indices[r, before]
                            )
                        ) and (
                            indices[r, rank] < T.Cast(of_indices, 0)
                            or better(data[r, i], values[r, rank])
                        ):
                            values[r, rank] = data[r, i]
                            indices[r, rank] = T.Cast(of_indices, i)

    return kernel.without_attr("global_symbol")  # it is a part of a network
