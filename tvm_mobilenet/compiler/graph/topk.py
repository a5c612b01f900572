"""TopK as a kernel: TVM's own calls a sorting library, which a bundle does not have."""

from __future__ import annotations

import math
from collections.abc import Callable

import tvm
from tvm import relax, tirx
from tvm.ir import Call, Expr

from tvm_mobilenet.kernels.topk import TopK

TOPK = "relax.topk"


def legalize_topk(kernel_of: Callable[[TopK], tirx.PrimFunc]) -> tvm.transform.Pass:
    """The pass that makes of every TopK, which gives values and indices, a kernel's call."""

    @tvm.transform.module_pass(opt_level=0, name="LegalizeTopK")
    def run(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        builder = _Builder(mod, kernel_of)
        for gvar, func in mod.functions.items():
            if isinstance(func, relax.Function):
                builder.builder_.update_func(gvar, builder.visit_expr(func))
        return builder.builder_.get()

    return run


@relax.expr_functor.mutator
class _Builder(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: tvm.IRModule, kernel_of: Callable[[TopK], tirx.PrimFunc]) -> None:
        super().__init__(mod)
        self.kernel_of = kernel_of

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
        kernel = self.kernel_of(TopK(rows, size, count, *dtypes, bool(call.attrs.largest)))
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
