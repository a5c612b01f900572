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

import math
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax, s_tir, tirx
from tvm.ir import Call, Constant, Expr, GlobalVar, PrimType, Var
from tvm.runtime import DataType
from tvm.script import tirx as T

from tvm_mobilenet.computes.probes import fma_peak, stream_read
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.probe_sizes import STREAM_ROW

FLOAT_BYTES = 4
ONE = tirx.IntImm("int32", 1)  # a pragma's value: that it is there is all it says
ALIGNMENT = 64  # bytes: one cache line, what TVM's code generator assumes of every buffer


@dataclass(frozen=True)
class KernelCall:
    """One call of a kernel: its name, floating-point operations, and bytes of its arguments."""

    kernel: str
    flops: int
    nbytes: int


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


@dataclass(frozen=True)
class Interval:
    """A tensor of the workspace: its size and the first and last call that touches it."""

    size: int
    first: int
    last: int


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies: an argument of `infer` and a byte offset in it."""

    argument: str
    offset: int = 0


def plan_offsets(intervals: list[Interval]) -> tuple[list[int], int]:
    """Offsets at which tensors alive at the same time do not overlap, and the bytes needed.

    Greedy by size: the largest tensor first, each at the lowest offset that is free over its life.
    """
    offsets = [0] * len(intervals)
    placed: list[int] = []
    for index in sorted(range(len(intervals)), key=lambda i: -intervals[i].size):
        mine = intervals[index]
        offset = 0
        alive = [p for p in placed if overlaps(intervals[p], mine)]
        for other in sorted(alive, key=lambda p: offsets[p]):
            if offset + mine.size <= offsets[other]:
                break
            offset = max(offset, offsets[other] + intervals[other].size)
        offsets[index] = offset
        placed.append(index)
    needed = max((o + i.size for o, i in zip(offsets, intervals, strict=True)), default=0)
    return offsets, needed


def overlaps(a: Interval, b: Interval) -> bool:
    return a.first <= b.last and b.first <= a.last


def make_static(mod: tvm.IRModule, vector_width: int) -> StaticProgram:
    """One TensorIR module from a Relax module whose `main` is kernel calls and reshapes only.

    `vector_width` is the target's, in floats; the probes use it.
    """
    return _StaticBuilder(mod, vector_width).build()


class _StaticBuilder:
    def __init__(self, mod: tvm.IRModule, vector_width: int) -> None:
        self.mod = mod
        self.vector_width = vector_width
        self.main: relax.Function = mod["main"]
        bindings = [b for block in self.main.body.blocks for b in block.bindings]
        self.same_as: dict[Var, Expr] = {}  # reshapes and names: the tensor whose bytes they are
        self.tuples: dict[Var, relax.Tuple] = {}
        self.calls: list[tuple[Var, Call]] = []
        for binding in bindings:
            self.read(binding.var, binding.value)
        self.parameters = bytearray()
        self.constant_offsets: dict[Constant, int] = {}

    def read(self, var: Var, value: Expr) -> None:
        operator = getattr(value.op, "name", None) if isinstance(value, Call) else None
        if operator == "relax.call_tir":
            self.calls.append((var, value))
        elif operator == "relax.reshape":
            self.same_as[var] = value.args[0]
        elif isinstance(value, Var):
            self.same_as[var] = value
        elif isinstance(value, relax.Tuple):
            self.tuples[var] = value
        else:
            raise BadInput(f"the static executor cannot run {operator or type(value).__name__}")

    def build(self) -> StaticProgram:
        (input_var,) = self.main.params
        given_out = self.output_vars()
        outputs = [self.root(var) for var in given_out]
        places: dict[Var, _Place] = {input_var: _Place("input")}
        for index, var in enumerate(outputs):
            if var in places or not isinstance(var, Var):
                raise BadInput("a network output must be computed, and given out once")
            places[var] = _Place(f"output{index}")
        workspace_bytes = self.plan_workspace(places)

        buffers = {
            "input": byte_buffer("input", input_var),
            "parameters": tirx.decl_buffer((1,), "uint8", "parameters"),
            "workspace": tirx.decl_buffer((max(workspace_bytes, 1),), "uint8", "workspace"),
        }
        # in its own shape, which a reshape at the end makes another than its root's
        for index, var in enumerate(given_out):
            buffers[f"output{index}"] = byte_buffer(f"output{index}", var)
        # the parameters' size is known only once every call has placed its constants
        argument_places = [
            [self.place(arg, places) for arg in arguments(call)] + [places[var]]
            for var, call in self.calls
        ]
        buffers["parameters"] = tirx.decl_buffer(
            (max(len(self.parameters), 1),), "uint8", "parameters"
        )
        body = [
            self.call_kernel(call.args[0], [pointer(buffers[p.argument], p.offset) for p in where])
            for (_, call), where in zip(self.calls, argument_places, strict=True)
        ]
        rows = max(len(self.parameters) // (STREAM_ROW * FLOAT_BYTES), 1)
        stamps = tirx.decl_buffer((len(body) + 1,), "int64", "stamps")
        stamped = [first_thread(stamp(stamps, 0))]
        for index, call in enumerate(body):
            stamped += [call, first_thread(stamp(stamps, index + 1))]
        signature = list(buffers.values())
        entries = {
            "infer": entry("infer", signature, body),
            "profile": entry("profile", [*signature, stamps], stamped),
            "fma_peak": exported("fma_peak", fma_peak(self.vector_width)),
            "stream_read": exported("stream_read", stream_read(rows, self.vector_width)),
        }
        functions = {gv: f for gv, f in self.mod.functions.items() if isinstance(f, tirx.PrimFunc)}
        return StaticProgram(
            tvm.IRModule({GlobalVar(name): f for name, f in entries.items()} | functions),
            bytes(self.parameters) or b"\0",  # a network without weights; no buffer is empty
            workspace_bytes,
            tuple(self.describe(var, call) for var, call in self.calls),
        )

    def describe(self, var: Var, call: Call) -> KernelCall:
        kernel = call.args[0]
        flops = s_tir.analysis.estimate_tir_flops(tvm.IRModule({"main": self.mod[kernel]}))
        moved = nbytes(var) + sum(nbytes(arg) for arg in arguments(call))
        return KernelCall(kernel.name_hint, int(flops), moved)

    def output_vars(self) -> list[Expr]:
        result = self.main.body.body
        named = self.root(result)
        if isinstance(named, Var) and named in self.tuples:
            result = self.tuples[named]
        return list(result.fields) if isinstance(result, relax.Tuple) else [result]

    def root(self, value: Expr) -> Expr:
        while isinstance(value, Var) and value in self.same_as:
            value = self.same_as[value]
        return value

    def plan_workspace(self, places: dict[Var, _Place]) -> int:
        """Place every intermediate tensor; the bytes of the workspace."""
        first = {var: index for index, (var, _) in enumerate(self.calls)}
        last = dict(first)
        for index, (_, call) in enumerate(self.calls):
            for arg in map(self.root, arguments(call)):
                if isinstance(arg, Var) and arg in last:
                    last[arg] = index
        inner = [var for var in first if var not in places]
        intervals = [Interval(aligned(nbytes(v)), first[v], last[v]) for v in inner]
        offsets, needed = plan_offsets(intervals)
        places.update((v, _Place("workspace", o)) for v, o in zip(inner, offsets, strict=True))
        return needed

    def place(self, value: Expr, places: dict[Var, _Place]) -> _Place:
        value = self.root(value)
        if not isinstance(value, Constant):
            return places[value]
        if value not in self.constant_offsets:
            self.constant_offsets[value] = len(self.parameters)
            data = np.ascontiguousarray(value.value.numpy()).tobytes()
            self.parameters += data.ljust(aligned(len(data)), b"\0")
        return _Place("parameters", self.constant_offsets[value])

    def call_kernel(self, kernel: GlobalVar, pointers: list[Expr]) -> tirx.Stmt:
        """The kernel's call, for lowering to inline, and after it the wait for all threads."""
        call = tirx.Evaluate(Call(kernel, pointers, ret_ty=PrimType("int32")))
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


def arguments(call: Call) -> list[Expr]:
    """The tensors a call_tir reads."""
    return list(call.args[1].fields)


def pointer(buffer: tirx.Buffer, offset: int) -> Expr:
    return T.handle_add_byte_offset(buffer.data, offset)


def byte_buffer(name: str, var: Var) -> tirx.Buffer:
    """An argument of `infer` with the shape and dtype of `var`."""
    return tirx.decl_buffer([int(dim) for dim in var.ty.shape], str(var.ty.dtype), name)


def nbytes(tensor: Expr) -> int:
    elements = math.prod(int(dim) for dim in tensor.ty.shape)
    return elements * int(DataType(str(tensor.ty.dtype)).itemsize)


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
