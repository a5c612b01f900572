"""TopK as a kernel: TVM's own calls a sorting library, which a bundle does not have.

A classifier that gives out its best classes asks for few of them, and each is found by one pass
over the scores.
"""

from __future__ import annotations

import math

import tvm
from tvm import relax, tirx
from tvm.ir import Call, Expr
from tvm.script import tirx as T

TOPK = "relax.topk"


@tvm.transform.module_pass(opt_level=0, name="LegalizeTopK")
def legalize_topk(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Make a kernel's call of every TopK, which gives values and indices."""
    builder = _Builder(mod)
    for gvar, func in mod.functions.items():
        if isinstance(func, relax.Function):
            builder.builder_.update_func(gvar, builder.visit_expr(func))
    return builder.builder_.get()


@relax.expr_functor.mutator
class _Builder(relax.PyExprMutator):  # type: ignore[misc]
    def visit_call_(self, call: Call) -> Expr:
        call = self.visit_expr_post_order(call)
        if getattr(call.op, "name", "") != TOPK or call.attrs.ret_type != "both":
            return call
        data, emit = call.args[0], self.builder_.emit
        shape = [int(dim) for dim in data.ty.shape]
        axis = int(call.attrs.axis) % len(shape)
        # the dimension that is sorted, last
        order = [*(one for one in range(len(shape)) if one != axis), axis]
        moved = emit(relax.op.permute_dims(data, order)) if order != sorted(order) else data
        rows, size = math.prod(shape) // shape[axis], shape[axis]
        count = int(call.ty.fields[0].shape[axis])
        dtypes = (str(data.ty.dtype), str(call.attrs.dtype))
        kernel = topk_kernel(rows, size, count, dtypes, largest=bool(call.attrs.largest))
        gvar = self.builder_.add_func(kernel, f"topk{count}_of_{size}")
        types = [relax.TensorType((rows, count), dtype) for dtype in dtypes]
        flat = emit(relax.op.reshape(moved, (rows, size)))
        both = emit(relax.call_tir(gvar, [flat], types))
        picked = [*(shape[one] for one in order[:-1]), count]
        results = [emit(relax.op.reshape(emit(both[i]), picked)) for i in range(len(types))]
        if moved is not data:
            back = [order.index(one) for one in range(len(shape))]
            results = [emit(relax.op.permute_dims(one, back)) for one in results]
        return relax.Tuple(results)


def topk_kernel(
    rows: int, size: int, count: int, dtypes: tuple[str, str], *, largest: bool
) -> tirx.PrimFunc:
    """The ``count`` largest (or smallest) of each row of (rows, size), in order, and their indices.

    ``dtypes`` are of the values and of the indices. Of equal values the one with the lower index
    comes first, as ONNX Runtime has it.
    """
    kind, of_indices = dtypes

    def better(one: Expr, other: Expr) -> Expr:
        return one > other if largest else one < other

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
