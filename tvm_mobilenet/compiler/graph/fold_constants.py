"""Everything constant of a network, computed now.

Exporters leave their constants to be reshaped and transposed: a bias for each convolution, the
classifier's weights; a norm that is taken apart is arithmetic on constants. TVM's FoldConstant
compiles a kernel for each of them, and writes one for every other operator before it sees that its
input is not constant, which takes a second, and many where a network has many norms. NumPy does
those operators here, rounding as TVM's kernels do; TVM does the rest, where there is any.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import Call, Constant, Expr

from tvm_mobilenet.compiler.graph.layers import variables

Array = NDArray[np.generic]


def reshape(array: Array, call: Call) -> Array:
    return array.reshape([int(dim) for dim in call.ty.shape])


def transpose(array: Array, call: Call) -> Array:
    axes = call.attrs.axes
    return array.transpose(None if axes is None else [int(axis) for axis in axes])


MOVES: dict[str, Callable[[Array, Call], Array]] = {
    "relax.permute_dims": transpose,
    "relax.reshape": reshape,
}


# each of them rounds once, as IEEE 754 says
ARITHMETIC: dict[str, Callable[..., Array]] = {
    "relax.add": np.add,
    "relax.subtract": np.subtract,
    "relax.multiply": np.multiply,
    "relax.divide": np.divide,
    "relax.sqrt": np.sqrt,
}


def compute(call: Call) -> Array | None:
    """The value of a call of which every argument is constant; None where TVM has to say it."""
    name = getattr(call.op, "name", "")
    if name in MOVES and isinstance(call.args[0], Constant):
        return MOVES[name](call.args[0].value.numpy(), call)
    floats = call.ty.dtype == "float32" if isinstance(call.ty, relax.TensorType) else False
    if name in ARITHMETIC and floats and all(isinstance(one, Constant) for one in call.args):
        return ARITHMETIC[name](*map(_value, call.args))
    return None


def _value(constant: Constant) -> Array:
    """A constant's array; an operator's argument may be a number, such as a norm's epsilon."""
    value = constant.value
    array: Array = np.asarray(value, np.float32) if isinstance(value, float) else value.numpy()
    return array


@tvm.transform.module_pass(opt_level=0, name="FoldConstants")
def fold_constants(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Compute what only depends on constants."""
    main = mod.get_global_var("main")
    folder = _Folder(mod)
    functions = {**dict(mod.functions.items()), main: folder.visit_expr(mod[main])}
    folded = tvm.IRModule(functions, attrs=mod.attrs)
    return relax.transform.FoldConstant()(folded) if folder.left else folded


@relax.expr_functor.mutator
class _Folder(relax.PyExprMutator):  # type: ignore[misc]
    """``left`` says whether something constant is not computed yet."""

    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self.left = False

    def visit_call_(self, call: Call) -> Expr:
        call = self.visit_expr_post_order(call)
        array = compute(call)
        if array is not None:
            return relax.const(np.ascontiguousarray(array), call.ty.dtype)
        self.left |= next(iter(variables(call)), None) is None
        return call

    def visit_dataflow_var_(self, var: relax.DataflowVar) -> Expr:
        bound = self.lookup_binding(var)
        return bound if isinstance(bound, Constant) else super().visit_dataflow_var_(var)
