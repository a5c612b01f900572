"""Scheduled TensorIR → native code.

TVM's TensorIR pipeline as it concerns CPU targets, with two steps of ours:

- A kernel's accumulators stay on its stack, from where LLVM promotes them to registers. Left as it
  is, TVM moves every local buffer of 1 KB or more into a workspace allocated inside the tile loop.
- Kernels without a `global_symbol` are inlined into the function that calls them, so that a whole
  network is one parallel region, with no launch, argument packing or check between kernels.
"""

from __future__ import annotations

import math

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir import Call, GlobalVar
from tvm.runtime import DataType
from tvm.target import Target

from tvm_mobilenet.prefetch import insert_prefetches

NOT_INLINED = "tvm_mobilenet.not_inlined"  # the attribute of a function that stays one
STACK_BYTES = 16 * 1024  # one buffer; TVM's worker threads have 8 MB of stack

CPU_PASSES = [
    # blocks → loops over flat buffers
    s_tir.transform.CanonicalizeLoop(),
    s_tir.transform.LowerInitBlock(),
    s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
    s_tir.transform.ConvertBlocksToOpaque(),
    s_tir.transform.CompactBufferAllocation(),
    s_tir.transform.LowerMatchBuffer(),
    s_tir.transform.StmtSimplify(),
    s_tir.transform.LowerOpaqueBlock(),
    tirx.transform.FlattenBuffer(),
    tirx.transform.NarrowDataType(32),
    insert_prefetches,
    # loops → vectors and straight code
    s_tir.transform.LoopPartition(),
    tirx.transform.VectorizeLoop(True),
    tirx.transform.StorageRewrite(),
    s_tir.transform.HoistIfThenElse(),
    tirx.transform.UnrollLoop(),
    s_tir.transform.RenormalizeSplitPattern(),
    tirx.transform.StmtSimplify(),
    tirx.transform.RemoveNoOp(),
    s_tir.transform.RewriteUnsafeSelect(),
    tirx.transform.CommonSubexprElim(),
    tirx.transform.VerifyMemory(),
    tirx.transform.AnnotateEntryFunc(),
]


@tvm.transform.module_pass(opt_level=0, name="InlineKernels")
def inline_kernels(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
    """Put every kernel's body where an exported function calls it; the kernels themselves go.

    Only so can the kernels share one parallel region: TVM hands out the work of a parallel loop
    where it stands in the function that opened the region.
    """

    def inline(statement: tirx.Evaluate) -> tirx.Stmt:
        call = statement.value
        if not isinstance(call, Call) or not isinstance(call.op, GlobalVar):
            return statement
        if is_kept(mod[call.op]):
            return statement
        # of its own variables: the same kernel may be called again
        kernel = s_tir.renew_defs(mod[call.op])
        views = [
            tirx.DeclBuffer(buffer, data=pointer)
            for buffer, pointer in zip(kernel.params, call.args, strict=True)
        ]
        return tirx.SeqStmt([*views, *map(once, statements(kernel.body))])

    kept = {gvar: func for gvar, func in mod.functions.items() if is_kept(func)}
    return tvm.IRModule(
        {
            gvar: func.with_body(tvm_ffi.structural_map(func.body, (tirx.Evaluate, inline)))
            for gvar, func in kept.items()
        }
    )


def is_kept(func: tirx.PrimFunc) -> bool:
    return any(func.attrs.get(name) is not None for name in ("global_symbol", NOT_INLINED))


def statements(body: tirx.Stmt) -> list[tirx.Stmt]:
    """The top-level statements of a kernel.

    All in one, for one thread, where they share what the kernel allocates: its work was a single
    iteration, or it has no schedule of ours.
    """
    parts = list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]
    if not any(isinstance(part, tirx.AllocBuffer) for part in parts):
        return parts
    return [tvm_ffi.structural_map(body, (tirx.For, serial))]


def serial(loop: tirx.For) -> tirx.For:
    if loop.kind != tirx.ForKind.PARALLEL:
        return loop
    kind = tirx.ForKind.SERIAL
    return tirx.For(loop.loop_var, loop.min, loop.extent, kind, loop.body, None, loop.annotations)


def once(statement: tirx.Stmt) -> tirx.Stmt:
    """What is no parallel loop is work for one thread: an operator without a schedule of ours."""
    if isinstance(statement, tirx.DeclBuffer):
        return statement
    if isinstance(statement, tirx.For) and statement.kind == tirx.ForKind.PARALLEL:
        return statement
    return tirx.For(tirx.Var("only", "int32"), 0, 1, tirx.ForKind.PARALLEL, statement)


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


def lower(mod: tvm.IRModule, target: Target) -> tvm.runtime.Module:
    """Generate code for every function of a scheduled CPU module.

    Functions with a `global_symbol` become callable; the others are inlined into those.
    """
    passes = [
        tirx.transform.BindTarget(target.with_host(target)),
        *CPU_PASSES,
        inline_kernels,
        tirx.transform.MakePackedAPI(),
        keep_on_stack,
        tirx.transform.LowerTVMBuiltin(),
        tirx.transform.LowerIntrin(),
    ]
    return tvm.get_global_func("target.build.llvm")(tvm.transform.Sequential(passes)(mod), target)
