"""Weights too small for a normal float32, as zeros.

A CPU takes a slow path for every multiplication by one, which a network full of them is slow by.
They are below 1.2e-38, so what they add to a result is nothing that float32 shows.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm.ir import Constant, Expr

SMALLEST = np.finfo(np.float32).tiny  # that is normal


@tvm.transform.module_pass(opt_level=0, name="FlushDenormals")
def flush_denormals(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Set every denormal float32 among the constants of ``main`` to zero."""
    main = mod.get_global_var("main")
    functions = {**dict(mod.functions.items()), main: _Flusher(mod).visit_expr(mod[main])}
    return tvm.IRModule(functions, attrs=mod.attrs)


@relax.expr_functor.mutator
class _Flusher(relax.PyExprMutator):  # type: ignore[misc]
    def visit_generic_const_(self, constant: Constant) -> Expr:
        array = constant.value.numpy()
        if array.dtype != np.float32:
            return constant
        denormal = (np.abs(array) < SMALLEST) & (array != 0)
        if not denormal.any():
            return constant
        return relax.const(np.where(denormal, np.float32(0), array), "float32")
