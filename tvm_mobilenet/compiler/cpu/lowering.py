"""Scheduled TensorIR → native code.

TVM's TensorIR pipeline as it concerns CPU targets, with two steps of ours:

- A kernel's accumulators stay on its stack (stack.py).
- Threads share the kernels of a network by counters in its workspace (sharing.py), so that
  the whole network is one parallel region, with no launch, argument packing or check between them.
"""

from __future__ import annotations

import tvm
from tvm import s_tir, tirx
from tvm.target import Target

from tvm_mobilenet.compiler.cpu.bfloat16 import lower_bf16
from tvm_mobilenet.compiler.cpu.divided_sums import divide_sums
from tvm_mobilenet.compiler.cpu.instruction_order import order_of
from tvm_mobilenet.compiler.cpu.neon_32 import neon_32
from tvm_mobilenet.compiler.cpu.neon_bytes import neon_bytes
from tvm_mobilenet.compiler.cpu.neon_loads import neon_loads
from tvm_mobilenet.compiler.cpu.packed_stores import pack_stores
from tvm_mobilenet.compiler.cpu.paired_stores import pair_stores
from tvm_mobilenet.compiler.cpu.pixel_loads import pixel_loads
from tvm_mobilenet.compiler.cpu.pixel_pairs import pair_pixels
from tvm_mobilenet.compiler.cpu.prefetch import insert_prefetches
from tvm_mobilenet.compiler.cpu.sharing import share_kernels
from tvm_mobilenet.compiler.cpu.stack import keep_on_stack
from tvm_mobilenet.compiler.cpu.tiles import configure_tiles, delay_epilogues, name_tiles
from tvm_mobilenet.compiler.cpu.vector_functions import vector_functions
from tvm_mobilenet.compiler.cpu.word_sums import sum_in_words

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
    vector_functions,
    tirx.transform.VectorizeLoop(True),
    tirx.transform.StorageRewrite(),
    s_tir.transform.HoistIfThenElse(),
    tirx.transform.UnrollLoop(),
    name_tiles,
    delay_epilogues,
    pack_stores,
    pair_stores,
    divide_sums,
    pair_pixels,
    neon_bytes,
    sum_in_words,
    neon_32,
    pixel_loads,
    neon_loads,
    s_tir.transform.RenormalizeSplitPattern(),
    tirx.transform.StmtSimplify(),
    tirx.transform.RemoveNoOp(),
    s_tir.transform.RewriteUnsafeSelect(),
    tirx.transform.CommonSubexprElim(),
    tirx.transform.VerifyMemory(),
    tirx.transform.AnnotateEntryFunc(),
]


def lower_module(mod: tvm.IRModule, target: Target) -> tvm.IRModule:
    """A scheduled CPU module → what LLVM takes.

    Functions with a ``global_symbol`` become callable; the others are called by those.
    """
    passes = [
        tirx.transform.BindTarget(target.with_host(target)),
        *CPU_PASSES,
        share_kernels,
        configure_tiles,
        tirx.transform.MakePackedAPI(),
        lower_bf16,
        keep_on_stack,
        tirx.transform.LowerTVMBuiltin(),
        tirx.transform.LowerIntrin(),
    ]
    return tvm.transform.Sequential(passes)(mod)


def lower(mod: tvm.IRModule, target: Target) -> tvm.runtime.Module:
    """A scheduled CPU module → machine code, as one LLVM module."""
    lowered = lower_module(mod, target)
    return tvm.get_global_func("target.build.llvm")(lowered, order_of(lowered, target))
