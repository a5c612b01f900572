"""A lowered network as kernel calls in order, with a fixed place in memory for every tensor.

A network of static shape needs no allocator: what is alive at different times shares one workspace,
and the weights lie one after the other in the order of the calls that read them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax, s_tir, tirx
from tvm.ir import Call, Constant, Expr, GlobalVar, TupleType, Var
from tvm.runtime import DataType

from tvm_mobilenet.errors import BadInput

FLOPS = "flops"  # an attribute of scheduled kernels
INPUT, PARAMETERS, WORKSPACE = "input", "parameters", "workspace"


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies: one of the network's buffers and a byte offset in it."""

    buffer: str
    offset: int = 0


@dataclass(frozen=True)
class KernelCall:
    """One call of a kernel: its name, floating-point operations, and bytes of its arguments."""

    kernel: str
    flops: int
    nbytes: int


@dataclass(frozen=True)
class KernelStep:
    """A kernel to run on tensors at ``places``: those it reads, then those it writes."""

    kernel: GlobalVar
    places: tuple[TensorPlace, ...]
    call: KernelCall


@dataclass(frozen=True)
class MemoryPlan:
    """What runs, and where its tensors lie.

    ``outputs`` are as the network gives them out, which may be reshapes of what was computed.
    """

    inputs: tuple[Var, ...]
    outputs: tuple[Expr, ...]
    steps: tuple[KernelStep, ...]
    parameters: bytes
    workspace_bytes: int

    @property
    def calls(self) -> tuple[KernelCall, ...]:
        return tuple(step.call for step in self.steps)


@dataclass(frozen=True)
class Interval:
    """A tensor of the workspace: its size and the first and last call that touches it."""

    size: int
    first: int
    last: int


def plan_memory(mod: tvm.IRModule, alignment: int) -> MemoryPlan:
    """Of a Relax module whose ``main`` is kernel calls and reshapes only; ``alignment`` is in
    bytes.

    Raises BadInput for one with an operator that has no kernel.
    """
    return _Planner(mod, alignment).plan()


def input_buffer(index: int) -> str:
    """The buffer of an input."""
    return f"{INPUT}{index}" if index else INPUT


def output(index: int) -> str:
    """The buffer of an output."""
    return f"output{index}"


def plan_offsets(intervals: list[Interval], alignment: int) -> tuple[list[int], int]:
    """Offsets at which tensors alive at the same time do not overlap, and the bytes needed.

    Tensors that follow one another lie in one lane, each in its middle. Threads share a tensor by
    its rows, so a byte of a lane's first half is the same threads' in every layer, and one core has
    no need to take it from another's cache.
    """
    lanes: list[list[int]] = []

    def width(lane: list[int]) -> int:
        return max(intervals[index].size for index in lane)

    for index, mine in sorted(enumerate(intervals), key=lambda pair: pair[1].first):
        free = [lane for lane in lanes if intervals[lane[-1]].last < mine.first]
        if free:
            min(free, key=lambda lane: abs(width(lane) - mine.size)).append(index)
        else:
            lanes.append([index])
    offsets = [0] * len(intervals)
    start = 0
    for lane in lanes:
        for index in lane:
            margin = (width(lane) - intervals[index].size) // 2
            offsets[index] = start + margin // alignment * alignment
        start += width(lane)
    return offsets, start


class LoweredGraph:
    """``main`` of a module as what is computed, and what is only another name for that.

    Raises BadInput for an operator that is neither.
    """

    def __init__(self, mod: tvm.IRModule) -> None:
        self.mod = mod
        self.main: relax.Function = mod["main"]
        self.same_as: dict[Var, Expr] = {}  # reshapes and names: the tensor whose bytes they are
        self.tuples: dict[Var, relax.Tuple] = {}
        self.calls: list[tuple[Var, Call]] = []
        self.parts: dict[Var, list[Var]] = {}  # of what a kernel with several results computes
        for block in self.main.body.blocks:
            for binding in block.bindings:
                self.read(binding.var, binding.value)

    def read(self, var: Var, value: Expr) -> None:
        operator = getattr(value.op, "name", None) if isinstance(value, Call) else None
        if operator == "relax.call_tir":
            self.calls.append((var, value))
            if isinstance(var.ty, TupleType):
                fields = enumerate(var.ty.fields)
                self.parts[var] = [relax.Var(f"part{i}", field) for i, field in fields]
        elif operator == "relax.reshape":
            self.same_as[var] = value.args[0]
        elif isinstance(value, Var):
            self.same_as[var] = value
        elif isinstance(value, relax.Tuple):
            self.tuples[var] = value
        elif isinstance(value, relax.TupleGetItem):
            self.same_as[var] = self.fields_of(value.tuple_value)[value.index]
        else:
            raise BadInput(
                f"the static executor cannot run {operator or type(value).__name__}; compile with "
                "--executor vm"
            )

    def fields_of(self, value: Expr) -> list[Expr]:
        """Of a tuple."""
        named = self.root(value)
        if isinstance(named, Var):
            return list(self.parts.get(named) or self.tuples[named].fields)
        return list(named.fields)

    def results(self, var: Var) -> list[Var]:
        """The tensors of a call that computes ``var``."""
        return self.parts.get(var, [var])

    def outputs(self) -> list[Expr]:
        result = self.root(self.main.body.body)
        is_tuple = isinstance(result, relax.Tuple) or result in self.tuples or result in self.parts
        return self.fields_of(result) if is_tuple else [self.main.body.body]

    def root(self, value: Expr) -> Expr:
        while isinstance(value, Var) and value in self.same_as:
            value = self.same_as[value]
        return value


class _Planner(LoweredGraph):
    def __init__(self, mod: tvm.IRModule, alignment: int) -> None:
        super().__init__(mod)
        self.alignment = alignment
        self.parameters = bytearray()
        self.constant_offsets: dict[Constant, int] = {}

    def plan(self) -> MemoryPlan:
        inputs = tuple(self.main.params)
        outputs = self.outputs()
        places = {var: TensorPlace(input_buffer(index)) for index, var in enumerate(inputs)}
        for index, var in enumerate(map(self.root, outputs)):
            if var in places or not isinstance(var, Var):
                raise BadInput(
                    "this target cannot give out the input, a constant or one output twice; end "
                    "the network otherwise"
                )
            places[var] = TensorPlace(output(index))
        workspace_bytes = self.place_intermediate(places)
        steps = tuple(self.step(var, call, places) for var, call in self.calls)
        # a network without weights has a byte of them: no buffer is empty
        parameters = bytes(self.parameters) or b"\0"
        return MemoryPlan(inputs, tuple(outputs), steps, parameters, workspace_bytes)

    def place_intermediate(self, places: dict[Var, TensorPlace]) -> int:
        """Place every tensor between two kernels; the bytes of the workspace."""
        first = {
            part: index for index, (var, _) in enumerate(self.calls) for part in self.results(var)
        }
        last = dict(first)
        for index, (_, call) in enumerate(self.calls):
            for arg in map(self.root, arguments(call)):
                if isinstance(arg, Var) and arg in last:
                    last[arg] = index
        inner = [var for var in first if var not in places]
        intervals = [Interval(self.align(nbytes(v)), first[v], last[v]) for v in inner]
        offsets, needed = plan_offsets(intervals, self.alignment)
        places.update((v, TensorPlace(WORKSPACE, o)) for v, o in zip(inner, offsets, strict=True))
        return needed

    def step(self, var: Var, call: Call, places: dict[Var, TensorPlace]) -> KernelStep:
        tensors = [*arguments(call), *self.results(var)]
        described = describe_call(self.mod, var, call)
        return KernelStep(
            call.args[0], tuple(self.place(one, places) for one in tensors), described
        )

    def place(self, value: Expr, places: dict[Var, TensorPlace]) -> TensorPlace:
        value = self.root(value)
        if not isinstance(value, Constant):
            return places[value]
        if value not in self.constant_offsets:
            self.constant_offsets[value] = len(self.parameters)
            data = np.ascontiguousarray(value.value.numpy()).tobytes()
            self.parameters += data.ljust(self.align(len(data)), b"\0")
        return TensorPlace(PARAMETERS, self.constant_offsets[value])

    def align(self, size: int) -> int:
        return -(-size // self.alignment) * self.alignment


def kernel_calls(mod: tvm.IRModule) -> Iterator[tuple[Var, Call]]:
    """Every call_tir of ``main`` with what it computes, in order."""
    for block in mod["main"].body.blocks:
        for binding in block.bindings:
            if getattr(getattr(binding.value, "op", None), "name", None) == "relax.call_tir":
                yield binding.var, binding.value


def describe_call(mod: tvm.IRModule, var: Var, call: Call) -> KernelCall:
    """Of the call_tir that computes ``var``."""
    kernel = call.args[0]
    count = flops(mod[kernel])
    return KernelCall(kernel.name_hint, count, sum(map(nbytes, [*arguments(call), var])))


def flops(func: tirx.PrimFunc) -> int:
    """Operations of one call, an addition and a multiplication counted apart.

    Of a scheduled kernel, which may be made of instructions, those it had before (FLOPS).
    """
    known = (func.attrs or {}).get(FLOPS)
    if known is not None:
        return int(known)
    return int(s_tir.analysis.estimate_tir_flops(tvm.IRModule({"main": func})))


def arguments(call: Call) -> list[Expr]:
    """The tensors a call_tir reads."""
    return list(call.args[1].fields)


def nbytes(value: Expr) -> int:
    """Of a tensor, or of a tuple of tensors."""
    types = value.ty.fields if isinstance(value.ty, TupleType) else [value.ty]
    return sum(
        math.prod(int(dim) for dim in one.shape) * int(DataType(str(one.dtype)).itemsize)
        for one in types
    )
