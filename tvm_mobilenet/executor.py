"""The static executor: the whole network as one function over one planned workspace.

A network of static shape needs no interpreter: `infer(input, parameters, workspace, output…)`
runs one kernel after the other, each on pointers at fixed offsets. Nothing is allocated, checked
or dispatched between kernels, and all threads enter one parallel region: between kernels they only
wait for each other.

For `bench --profile` three more functions are exported: `profile(…, stamps)` does what `infer` does
and notes the cycle counter before the first kernel and after each; `fma_peak` and `stream_read`
measure what the core can do at best (computes/probes.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import tirx
from tvm.ir import Call, Expr, GlobalVar, PrimType
from tvm.script import tirx as T

from tvm_mobilenet.computes.probes import fma_peak, stream_read
from tvm_mobilenet.memory_plan import (
    INPUT,
    PARAMETERS,
    WORKSPACE,
    KernelCall,
    MemoryPlan,
    Step,
    output,
    plan_memory,
)
from tvm_mobilenet.probe_sizes import STREAM_ROW

FLOAT_BYTES = 4
ONE = tirx.IntImm("int32", 1)  # a pragma's value: that it is there is all it says
ALIGNMENT = 64  # bytes: one cache line, what TVM's code generator assumes of every buffer


@dataclass(frozen=True)
class StaticProgram:
    """What the compiler makes native and a session runs.

    `module` holds the exported functions and the kernels, `parameters` is what `infer` gets as its
    second argument, `calls` are the kernels in order of execution.
    """

    module: tvm.IRModule
    parameters: bytes
    workspace_bytes: int
    calls: tuple[KernelCall, ...]


def make_static(mod: tvm.IRModule, vector_width: int) -> StaticProgram:
    """One TensorIR module from a Relax module whose `main` is kernel calls and reshapes only.

    `vector_width` is the target's, in floats; the probes use it. Raises BadInput for a module with
    an operator that has no kernel.
    """
    plan = plan_memory(mod, ALIGNMENT)
    buffers = argument_buffers(plan)
    body = [call_kernel(step, buffers) for step in plan.steps]
    stamps = tirx.decl_buffer((len(body) + 1,), "int64", "stamps")
    stamped = [first_thread(stamp(stamps, 0))]
    for index, call in enumerate(body):
        stamped += [call, first_thread(stamp(stamps, index + 1))]
    rows = max(len(plan.parameters) // (STREAM_ROW * FLOAT_BYTES), 1)
    signature = list(buffers.values())
    entries = {
        "infer": entry("infer", signature, body),
        "profile": entry("profile", [*signature, stamps], stamped),
        "fma_peak": exported("fma_peak", fma_peak(vector_width)),
        "stream_read": exported("stream_read", stream_read(rows, vector_width)),
    }
    functions = {gv: f for gv, f in mod.functions.items() if isinstance(f, tirx.PrimFunc)}
    return StaticProgram(
        tvm.IRModule({GlobalVar(name): f for name, f in entries.items()} | functions),
        plan.parameters,
        plan.workspace_bytes,
        plan.calls,
    )


def argument_buffers(plan: MemoryPlan) -> dict[str, tirx.Buffer]:
    """The arguments of `infer`, in order."""
    buffers = {
        INPUT: tensor_buffer(INPUT, plan.input),
        PARAMETERS: byte_buffer(PARAMETERS, len(plan.parameters)),
        WORKSPACE: byte_buffer(WORKSPACE, max(plan.workspace_bytes, 1)),
    }
    names = map(output, range(len(plan.outputs)))
    return buffers | {
        name: tensor_buffer(name, one) for name, one in zip(names, plan.outputs, strict=True)
    }


def call_kernel(step: Step, buffers: dict[str, tirx.Buffer]) -> tirx.Stmt:
    """The kernel's call, for lowering to inline, and after it the wait for all threads."""
    pointers = [
        T.handle_add_byte_offset(buffers[place.buffer].data, place.offset) for place in step.places
    ]
    call = tirx.Evaluate(Call(step.kernel, pointers, ret_ty=PrimType("int32")))
    return tirx.AttrStmt(ONE, "pragma_parallel_barrier_when_finish", ONE, call)


def entry(name: str, buffers: list[tirx.Buffer], body: list[tirx.Stmt]) -> tirx.PrimFunc:
    """An exported function over `buffers` whose body all threads enter together."""
    # TVM refuses a sequence of one statement, which a network of one kernel comes to
    sequence = tirx.SeqStmt(body) if len(body) > 1 else body[0]
    region = tirx.AttrStmt(ONE, "pragma_parallel_launch_point", ONE, sequence)
    func = tirx.PrimFunc(buffers, region)
    return func.with_attr({"global_symbol": name, "tirx.noalias": True})


def exported(name: str, func: tirx.PrimFunc) -> tirx.PrimFunc:
    return func.with_attr("global_symbol", name)


def first_thread(body: tirx.Stmt) -> tirx.Stmt:
    """In a parallel region: let one thread do this."""
    return tirx.For(tirx.Var("only", "int32"), 0, 1, tirx.ForKind.PARALLEL, body)


def stamp(stamps: tirx.Buffer, index: int) -> tirx.Stmt:
    """Note the CPU's counter: x86's time stamps, aarch64's CNTVCT_EL0, which a program may read."""
    now = tirx.call_llvm_intrin("int64", "llvm.readcyclecounter")
    return tirx.BufferStore(stamps, now, [tirx.IntImm("int32", index)])


def tensor_buffer(name: str, tensor: Expr) -> tirx.Buffer:
    """An argument of `infer` with the shape and dtype of `tensor`."""
    return tirx.decl_buffer([int(dim) for dim in tensor.ty.shape], str(tensor.ty.dtype), name)


def byte_buffer(name: str, size: int) -> tirx.Buffer:
    return tirx.decl_buffer((size,), "uint8", name)
