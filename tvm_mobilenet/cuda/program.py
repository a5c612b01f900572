"""The network as launches: which kernel, on what grid, and where each of its arguments lies.

A network of static shape needs nothing else: every tensor has a fixed place in one planned
workspace, and the host's half (host.c) captures the launches once, as one CUDA graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax, s_tir, tirx
from tvm.ir import Call, Constant, Expr, Var

from tvm_mobilenet.cuda.lowering import Kernel
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.executor import Interval, KernelCall, arguments, nbytes, plan_offsets

ALIGNMENT = 256  # bytes: what cudaMalloc gives, and twice a 128-byte cache line
PARAMETERS, WORKSPACE, INPUT, OUTPUTS = range(4)  # as host.c numbers the buffers


@dataclass(frozen=True)
class Place:
    """A buffer, as host.c numbers them, and a byte offset in it."""

    buffer: int
    offset: int = 0


@dataclass(frozen=True)
class Step:
    """One call of a kernel; `places` are its tensors in the order of its TensorIR function."""

    kernel: str
    places: tuple[Place, ...]


@dataclass(frozen=True)
class GpuProgram:
    """What a library for a GPU is made of.

    `functions` are the scheduled kernels by name; `buffer_bytes` the sizes of all buffers.
    """

    functions: dict[str, tirx.PrimFunc]
    steps: tuple[Step, ...]
    parameters: bytes
    buffer_bytes: tuple[int, ...]
    calls: tuple[KernelCall, ...]

    @property
    def workspace_bytes(self) -> int:
        return self.buffer_bytes[WORKSPACE]


def make_program(mod: tvm.IRModule) -> GpuProgram:
    """From a Relax module whose `main` is kernel calls and reshapes only.

    Raises BadInput for one with an operator that has no kernel.
    """
    return _Planner(mod).program()


def plan_header(program: GpuProgram, kernels: dict[str, Kernel], arch: str) -> str:
    """plan.h, what host.c knows of this network."""
    capability = int(arch.removeprefix("sm_"))
    lines = []
    for step in program.steps:
        kernel = kernels[step.kernel]
        places = [step.places[place] for place in kernel.parameters]
        given = ", ".join(f"{{{place.buffer}, {place.offset}}}" for place in places)
        grid, block = (", ".join(map(str, size)) for size in (kernel.grid, kernel.block))
        lines.append(f'{{"{kernel.name}", {{{grid}}}, {{{block}}}, {len(places)}, {{{given}}}}},')
    sizes = ", ".join(map(str, program.buffer_bytes))
    return "\n".join(
        [
            f"enum {{ ARCH_MAJOR = {capability // 10}, ARCH_MINOR = {capability % 10} }};",
            f"enum {{ BUFFERS = {len(program.buffer_bytes)}, LAUNCHES = {len(program.steps)} }};",
            f"static const size_t buffer_bytes[BUFFERS] = {{{sizes}}};",
            "static const Launch launches[LAUNCHES] = {",
            *lines,
            "};",
            "",
        ]
    )


class _Planner:
    def __init__(self, mod: tvm.IRModule) -> None:
        self.mod = mod
        self.main: relax.Function = mod["main"]
        self.same_as: dict[Var, Expr] = {}  # reshapes and names: the tensor whose bytes they are
        self.tuples: dict[Var, relax.Tuple] = {}
        self.calls: list[tuple[Var, Call]] = []
        for block in self.main.body.blocks:
            for binding in block.bindings:
                self.read(binding.var, binding.value)
        self.parameters = bytearray()
        self.constants: dict[Constant, int] = {}

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
            raise BadInput(f"the GPU executor cannot run {operator or type(value).__name__}")

    def program(self) -> GpuProgram:
        (given,) = self.main.params
        outputs = [self.root(var) for var in self.outputs()]
        places: dict[Expr, Place] = {given: Place(INPUT)}
        for index, var in enumerate(outputs):
            if var in places or not isinstance(var, Var):
                raise BadInput("a network output must be computed, and given out once")
            places[var] = Place(OUTPUTS + index)
        workspace = self.plan_workspace(places)
        steps = tuple(
            Step(
                call.args[0].name_hint,
                tuple(self.place(arg, places) for arg in [*arguments(call), var]),
            )
            for var, call in self.calls
        )
        sizes = [len(self.parameters), workspace, nbytes(given), *map(nbytes, outputs)]
        return GpuProgram(
            {
                str(gvar.name_hint): func
                for gvar, func in self.mod.functions.items()
                if isinstance(func, tirx.PrimFunc)
            },
            steps,
            bytes(self.parameters) or b"\0",
            tuple(max(size, 1) for size in sizes),
            tuple(self.describe(var, call) for var, call in self.calls),
        )

    def outputs(self) -> list[Expr]:
        result = self.main.body.body
        named = self.root(result)
        if isinstance(named, Var) and named in self.tuples:
            result = self.tuples[named]
        return list(result.fields) if isinstance(result, relax.Tuple) else [result]

    def root(self, value: Expr) -> Expr:
        while isinstance(value, Var) and value in self.same_as:
            value = self.same_as[value]
        return value

    def plan_workspace(self, places: dict[Expr, Place]) -> int:
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
        places.update((v, Place(WORKSPACE, o)) for v, o in zip(inner, offsets, strict=True))
        return needed

    def place(self, value: Expr, places: dict[Expr, Place]) -> Place:
        value = self.root(value)
        if not isinstance(value, Constant):
            return places[value]
        if value not in self.constants:
            self.constants[value] = len(self.parameters)
            data = np.ascontiguousarray(value.value.numpy()).tobytes()
            self.parameters += data.ljust(aligned(len(data)), b"\0")
        return Place(PARAMETERS, self.constants[value])

    def describe(self, var: Var, call: Call) -> KernelCall:
        kernel = call.args[0]
        operations = s_tir.analysis.estimate_tir_flops(tvm.IRModule({"main": self.mod[kernel]}))
        moved = nbytes(var) + sum(nbytes(arg) for arg in arguments(call))
        return KernelCall(kernel.name_hint, int(operations), moved)


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
