"""A kernel's accumulators stay on its stack, from where LLVM promotes them to registers.

Left as it is, TVM moves every local buffer of 1 KB or more into a workspace that is allocated
inside the tile loop.
"""

from __future__ import annotations

import math

import tvm
import tvm_ffi
from tvm import tirx
from tvm.runtime import DataType

STACK_BYTES = 16 * 1024  # one buffer; TVM's worker threads have 8 MB of stack


@tirx.transform.prim_func_pass(opt_level=0, name="KeepOnStack")
def keep_on_stack(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Mark every allocation of at most STACK_BYTES as one that LowerTVMBuiltin must leave alone."""

    def mark(alloc: tirx.AllocBuffer) -> tirx.AllocBuffer:
        size = math.prod(int(dim) for dim in alloc.buffer.shape)
        if size * DataType(alloc.buffer.dtype).itemsize > STACK_BYTES:
            return alloc
        return tirx.AllocBuffer(alloc.buffer, {"disable_lower_builtin": tirx.IntImm("bool", 1)})

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.AllocBuffer, mark)))
