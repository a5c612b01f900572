"""The other program: for Relax's virtual machine, which calls the same kernels.

It runs what the static program cannot, a graph with operators that are no kernels. What it costs
is in every call: the kernel's arguments are packed and checked, its result allocated, and each
kernel is a parallel region of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import relax, tirx
from tvm.s_tir.pipeline import finalize_device_passes, finalize_host_passes
from tvm.target import Target

from tvm_mobilenet.compiler.cpu.bfloat16 import lower_bf16
from tvm_mobilenet.compiler.cpu.instruction_order import order_of
from tvm_mobilenet.compiler.cpu.lowering import CPU_PASSES
from tvm_mobilenet.compiler.cpu.stack import keep_on_stack
from tvm_mobilenet.compiler.cpu.tiles import configure_tiles
from tvm_mobilenet.compiler.dump import NO_DUMP, IrDump
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
    """What a bundle tells of a program: ``calls`` are the graph's kernels in order.

    The weights are constants of the library, and the machine allocates what it needs.
    """

    calls: tuple[KernelCall, ...]
    parameters: bytes = b"\0"  # no buffer is empty
    workspace_bytes: int = 0


def build_vm(
    mod: tvm.IRModule, target: Target, dump: IrDump = NO_DUMP
) -> tuple[tvm.runtime.Executable, VmProgram]:
    """The virtual machine's program for a Relax module of scheduled kernels."""
    program = VmProgram(tuple(describe_call(mod, var, call) for var, call in kernel_calls(mod)))
    instructions = tvm.transform.Sequential(GRAPH_PASSES)(mod)
    dump("instructions", instructions)

    def lowering() -> tuple[tvm.transform.Pass, object, object]:
        """Our lowering of kernels as TVM's build wants it: passes, then what ends the host's."""
        packed = tirx.transform.MakePackedAPI()
        passes = [*CPU_PASSES, configure_tiles, packed, lower_bf16, keep_on_stack, _dumping(dump)]
        return tvm.transform.Sequential(passes), finalize_host_passes, finalize_device_passes

    tirx.compilation_pipeline.register_tir_pipeline(PIPELINE, lowering)
    nothing = tvm.transform.Sequential([])  # the graph's passes have run
    ordered = order_of(instructions, target)
    built = relax.build(instructions, ordered, relax_pipeline=nothing, tir_pipeline=PIPELINE)
    if dump.folder is not None:
        (kernels,) = (one for one in built.mod.imports if one.kind == "llvm")
        dump.text("assembly.s", kernels.inspect_source("s"))
    return built, program


def _dumping(dump: IrDump) -> tvm.transform.Pass:
    @tvm.transform.module_pass(opt_level=0, name="DumpLowered")
    def run(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        dump("lowered", mod)
        return mod

    return run
