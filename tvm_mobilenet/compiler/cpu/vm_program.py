"""The other executor: a program for Relax's virtual machine, which calls the same kernels.

It runs what the static executor cannot, a graph with operators that are no kernels. What it costs
is in every call: the kernel's arguments are packed and checked, its result allocated, and each
kernel is a parallel region of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import relax, tirx
from tvm.s_tir.pipeline import finalize_device_passes, finalize_host_passes
from tvm.target import Target

from tvm_mobilenet.compiler.cpu.lowering import CPU_PASSES, keep_on_stack
from tvm_mobilenet.compiler.memory_plan import KernelCall, describe_call, kernel_calls

PIPELINE = "tvm_mobilenet"  # our lowering's name among TVM's

# calls of kernels → instructions that allocate and call; TVM's own build, without its fusion
GRAPH_PASSES = [
    relax.transform.RewriteDataflowReshape(),
    relax.transform.ToNonDataflow(),
    relax.transform.RemovePurityChecking(),
    relax.transform.CallTIRRewrite(),
    relax.transform.StaticPlanBlockMemory(),
    relax.transform.LowerAllocTensor(),
    relax.transform.KillAfterLastUse(),
    relax.transform.LowerRuntimeBuiltin(),
    relax.transform.ComputePrimValue(),
    relax.transform.VMShapeLower(),
    relax.transform.AttachGlobalSymbol(),
]


@dataclass(frozen=True)
class VmProgram:
    """What a bundle tells of a program: `calls` are the graph's kernels in order.

    The weights are constants of the library, and the machine allocates what it needs.
    """

    calls: tuple[KernelCall, ...]
    parameters: bytes = b"\0"  # no buffer is empty
    workspace_bytes: int = 0


def build_vm(mod: tvm.IRModule, target: Target) -> tuple[tvm.runtime.Executable, VmProgram]:
    """The virtual machine's program for a Relax module of scheduled kernels."""
    program = VmProgram(tuple(describe_call(mod, var, call) for var, call in kernel_calls(mod)))
    tirx.compilation_pipeline.register_tir_pipeline(PIPELINE, lowering)
    graph = tvm.transform.Sequential(GRAPH_PASSES)
    built = relax.build(mod, target, relax_pipeline=graph, tir_pipeline=PIPELINE)
    return built, program


def lowering() -> tuple[tvm.transform.Pass, object, object]:
    """Our lowering of kernels as TVM's build wants it: passes, then what ends host and device."""
    passes = [*CPU_PASSES, tirx.transform.MakePackedAPI(), keep_on_stack]
    return tvm.transform.Sequential(passes), finalize_host_passes, finalize_device_passes
