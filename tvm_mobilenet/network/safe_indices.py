"""Indices that come in from outside never lead out of the tensor that they are of.

TVM's importer reads wherever an index says. One that is a constant was checked with the file; of
the others, one that is too large becomes the last, one that is too small the first.
"""

from __future__ import annotations

import tvm
from tvm import relax
from tvm.ir import Call, Constant, Expr

TAKE = "relax.take"


def bound_indices(mod: tvm.IRModule) -> tvm.IRModule:
    """The module with every Gather of indices that are computed or given keeping to its tensor."""
    bound = _Bound(mod)
    for gvar, func in mod.functions.items():
        if isinstance(func, relax.Function):
            bound.builder_.update_func(gvar, bound.visit_expr(func))
    return bound.builder_.get()


@relax.expr_functor.mutator
class _Bound(relax.PyExprMutator):  # type: ignore[misc]
    def visit_call_(self, call: Call) -> Expr:
        call = self.visit_expr_post_order(call)
        if getattr(call.op, "name", "") != TAKE or isinstance(call.args[1], Constant):
            return call
        axis = call.attrs.axis
        return relax.op.take(*call.args, axis=None if axis is None else int(axis), mode="clip")
