"""The static program: the whole network as one function over one planned workspace.

A network of static shape needs no interpreter: ``infer(input…, parameters, workspace, output…)``
runs one kernel after the other, each on pointers at fixed offsets. Nothing is allocated, checked
or dispatched between kernels, and all threads enter one parallel region: between kernels they only
wait for each other.

A library calls ``network``, which ``infer`` is around for TVM's callers. For ``bench --profile`` it
notes the cycle counter before the first kernel and after each, which TVM's callers have as
``profile(…, stamps)``; ``fma_peak`` and ``stream_read`` measure what the core can do at best, and
so do ``bytes_peak``, ``bytes_tiles_peak`` and the like where kernels are made of such products
(kernels/cpu/probes.py, dot_probes.py, tile_probes.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import tvm
from tvm import tirx
from tvm.ir import Call, Expr, GlobalVar, PrimType, StringImm
from tvm.script import tirx as T
from tvm.target import Target

from schedules.arm_cpu.cores import HALF_LANES
from schedules.x86.tile_products import BYTES, PAIRS, Operands
from tvm_mobilenet.compiler.cpu.distinct_outputs import give_out_apart
from tvm_mobilenet.compiler.cpu.sharing import ALONE, Counters, on_cpu
from tvm_mobilenet.compiler.memory_plan import (
    PARAMETERS,
    WORKSPACE,
    KernelCall,
    KernelStep,
    MemoryPlan,
    input_buffer,
    output,
    plan_memory,
)
from tvm_mobilenet.kernels.arithmetic import Arithmetic, dot_products_of, probe_of
from tvm_mobilenet.kernels.cpu.dot_probes import dot_peak, step_of
from tvm_mobilenet.kernels.cpu.layout import FP16
from tvm_mobilenet.kernels.cpu.probes import fma_peak, stream_read
from tvm_mobilenet.kernels.cpu.tile_probes import tile_peak
from tvm_mobilenet.kernels.probe_sizes import STREAM_ROW

FLOAT_BYTES = 4
ONE = tirx.IntImm("int32", 1)  # a pragma's value: that it is there is all it says
TILES: dict[Arithmetic, Operands] = {"bytes_tiles": BYTES, "bf16_tiles": PAIRS}
ALIGNMENT = 64  # bytes: one cache line, what TVM's code generator assumes of every buffer


@dataclass(frozen=True)
class StaticProgram:
    """What the compiler makes native and a session runs.

    ``module`` holds the exported functions and the kernels, ``parameters`` is what ``infer`` gets
    after its inputs, ``calls`` are the kernels in order of execution.
    """

    module: tvm.IRModule
    parameters: bytes
    workspace_bytes: int
    calls: tuple[KernelCall, ...]


def make_static(
    mod: tvm.IRModule, vector_width: int, cores: int = 1, target: Target | None = None
) -> StaticProgram:
    """One TensorIR module from a Relax module whose ``main`` is kernel calls and reshapes only.

    ``vector_width`` is the target's, in floats; the probes use it. Up to as many threads as the
    target has ``cores`` share the kernels by work stealing. Probes of dot products, where kernels
    are made of them, are ``target``'s; without it there are none. Raises BadInput for a module with
    an operator that has no kernel.
    """
    mod = give_out_apart(mod, vector_width)
    plan = plan_memory(mod, ALIGNMENT)
    counters = Counters(plan.workspace_bytes, len(plan.steps), cores)
    plan = replace(plan, workspace_bytes=counters.end)
    network = GlobalVar("network")
    rows = max(len(plan.parameters) // (STREAM_ROW * FLOAT_BYTES), 1)
    entries = {
        "infer": infer(network, plan),
        "profile": profile(network, plan),
    }
    probes = {"fma_peak": fma_peak(vector_width), "stream_read": stream_read(rows, vector_width)}
    if target is not None:
        for arithmetic in dot_products_of(call.kernel for call in plan.calls):
            probes[probe_of(arithmetic)] = peak(arithmetic, target)
    alone = {
        GlobalVar(name): probe.without_attr("global_symbol").with_attr(ALONE, ONE)
        for name, probe in probes.items()
    }
    kernels = {gv: f for gv, f in mod.functions.items() if isinstance(f, tirx.PrimFunc)}
    exported = {GlobalVar(name): f.with_attr("global_symbol", name) for name, f in entries.items()}
    return StaticProgram(
        tvm.IRModule({**exported, **alone, network: network_function(plan, counters), **kernels}),
        plan.parameters,
        plan.workspace_bytes,
        plan.calls,
    )


def peak(arithmetic: Arithmetic, target: Target) -> tirx.PrimFunc:
    """What measures the peak of kernels of one kind, beyond that of FMAs of float32."""
    if arithmetic == "fp16":
        return fma_peak(HALF_LANES, FP16)
    if arithmetic in TILES:
        return tile_peak(TILES[arithmetic])
    return dot_peak(step_of(arithmetic, target))


def argument_buffers(plan: MemoryPlan) -> dict[str, tirx.Buffer]:
    """The arguments of ``infer``, in order."""
    inputs = {input_buffer(index): one for index, one in enumerate(plan.inputs)}
    buffers = {
        **{name: tensor_buffer(name, one) for name, one in inputs.items()},
        PARAMETERS: byte_buffer(PARAMETERS, len(plan.parameters)),
        WORKSPACE: byte_buffer(WORKSPACE, max(plan.workspace_bytes, 1)),
    }
    names = map(output, range(len(plan.outputs)))
    return buffers | {
        name: tensor_buffer(name, one) for name, one in zip(names, plan.outputs, strict=True)
    }


def call_kernel(
    step: KernelStep, buffers: dict[str, tirx.Buffer], counters: Counters, index: int
) -> tirx.Stmt:
    """The kernel's call, for lowering to share among the threads."""
    pointers = [
        T.handle_add_byte_offset(buffers[place.buffer].data, place.offset) for place in step.places
    ]
    call = tirx.Evaluate(Call(step.kernel, pointers, ret_ty=PrimType("int32")))
    return counters.mark(call, index, pointer_to(counters, buffers))


def network_function(plan: MemoryPlan, counters: Counters) -> tirx.PrimFunc:
    """All kernels in one region that all threads enter together; ``stamped`` says whether to stamp.

    Once for ``infer`` and ``profile``: code for the kernels is what compiling takes its time for.
    """
    buffers = argument_buffers(plan)
    stamps = stamps_buffer(plan)
    stamped = tirx.Var("stamped", "int32")
    body = [stamp(stamps, 0, stamped)]
    for index, step in enumerate(plan.steps):
        body += [
            call_kernel(step, buffers, counters, index),
            stamp(stamps, index + 1, stamped),
        ]
    region = tirx.AttrStmt(ONE, "pragma_parallel_launch_point", ONE, tirx.SeqStmt(body))
    # only an exported function may have buffers as parameters
    tensors = [*buffers.values(), stamps]
    pointers = [tirx.Var(f"{tensor.name}_pointer", tensor.data.ty) for tensor in tensors]
    views = [
        tirx.DeclBuffer(tensor, data=pointer)
        for tensor, pointer in zip(tensors, pointers, strict=True)
    ]
    done = tirx.Return(tirx.IntImm("int32", 0))
    result = PrimType("int32")  # not 0 where a thread failed, as TVM's launch says
    body = on_cpu([*views, *clear_counters(counters, buffers), region, done])
    func = tirx.PrimFunc([*pointers, stamped], body, result)
    return func.with_attrs({"tirx.noalias": True})


def clear_counters(counters: Counters, buffers: dict[str, tirx.Buffer]) -> list[tirx.Stmt]:
    """Before a region: nothing has been taken from any thread."""
    zeros = tirx.decl_buffer((counters.elements,), "int32", "counters")
    i = tirx.Var("i", "int32")
    clear = tirx.BufferStore(zeros, tirx.IntImm("int32", 0), [i])
    loop = tirx.For(i, 0, counters.elements, tirx.ForKind.SERIAL, clear)
    return [tirx.DeclBuffer(zeros, data=pointer_to(counters, buffers)), loop]


def pointer_to(counters: Counters, buffers: dict[str, tirx.Buffer]) -> Expr:
    return T.handle_add_byte_offset(buffers[WORKSPACE].data, counters.offset)


def infer(network: GlobalVar, plan: MemoryPlan) -> tirx.PrimFunc:
    buffers = argument_buffers(plan)
    # no stamps are written: any pointer will do
    return call_network(network, buffers, buffers[WORKSPACE], 0)


def profile(network: GlobalVar, plan: MemoryPlan) -> tirx.PrimFunc:
    buffers = argument_buffers(plan) | {"stamps": stamps_buffer(plan)}
    return call_network(network, buffers, buffers["stamps"], 1)


def call_network(
    network: GlobalVar, buffers: dict[str, tirx.Buffer], stamps: tirx.Buffer, stamped: int
) -> tirx.PrimFunc:
    """A function over ``buffers`` that calls ``network``."""
    tensors = [buffer.data for name, buffer in buffers.items() if name != "stamps"]
    arguments = [*tensors, stamps.data, tirx.IntImm("int32", stamped)]
    call = Call(network, arguments, ret_ty=PrimType("int32"))
    # TVM's Python names the first two arguments the other way round
    failed = [StringImm("a thread of the network failed")]
    succeeded = tirx.AssertStmt(call == 0, StringImm("RuntimeError"), failed)
    func = tirx.PrimFunc(list(buffers.values()), succeeded)
    return func.with_attrs({"tirx.noalias": True})


def first_thread(body: tirx.Stmt) -> tirx.Stmt:
    """In a parallel region: let one thread do this."""
    return tirx.For(tirx.Var("only", "int32"), 0, 1, tirx.ForKind.PARALLEL, body)


def stamp(stamps: tirx.Buffer, index: int, stamped: tirx.Var) -> tirx.Stmt:
    """Note the CPU's counter: x86's time stamps, aarch64's CNTVCT_EL0, which a program may read."""
    now = tirx.call_llvm_intrin("int64", "llvm.readcyclecounter")
    store = tirx.BufferStore(stamps, now, [tirx.IntImm("int32", index)])
    return tirx.IfThenElse(stamped != 0, first_thread(store), None)


def stamps_buffer(plan: MemoryPlan) -> tirx.Buffer:
    return tirx.decl_buffer((len(plan.steps) + 1,), "int64", "stamps")


def tensor_buffer(name: str, tensor: Expr) -> tirx.Buffer:
    """An argument of ``infer`` with the shape and dtype of ``tensor``."""
    return tirx.decl_buffer([int(dim) for dim in tensor.ty.shape], str(tensor.ty.dtype), name)


def byte_buffer(name: str, size: int) -> tirx.Buffer:
    return tirx.decl_buffer((size,), "uint8", name)
