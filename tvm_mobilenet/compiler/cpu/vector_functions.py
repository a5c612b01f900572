"""exp and its relatives → arithmetic that every vector unit has.

TVM's code generator makes of them a call into libm for every lane, in kernels of ours and in those
of its own legalization alike: softmax, for one.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call, Expr

from tvm_mobilenet.kernels.cpu import functions

FUNCTIONS = {
    "tirx.erf": functions.erf,
    "tirx.exp": functions.exp,
    "tirx.log": functions.log,
    "tirx.log1p": functions.log1p,
    "tirx.sigmoid": functions.sigmoid,
    "tirx.tanh": functions.tanh,
}


@tirx.transform.prim_func_pass(opt_level=0, name="VectorFunctions")
def vector_functions(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Spell out the functions of float32 that ``kernels.cpu.functions`` has."""
    return func.with_body(tvm_ffi.structural_map(func.body, (Call, spelled_out)))


def spelled_out(call: Call) -> Expr:
    """The call of one of these functions as arithmetic; any other as it is."""
    function = FUNCTIONS.get(getattr(call.op, "name", ""))
    if function is None or str(call.ty) != functions.DTYPE:
        return call
    return function(*call.args)
