"""TVM tensor intrinsics for a step of a reduction: products that are summed in registers.

A ``Step`` says what is summed, as loops in which ``tensorize`` finds it, and how that is done. Its
intrinsics have names that say nothing of instructions, so that a trace with one is a schedule for
every target: ``Intrinsics`` makes those that a target needs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tvm import tirx
from tvm.ir import Expr, Range
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T
from tvm.target import Target

Intrinsic: TypeAlias = tuple[tirx.PrimFunc, tirx.PrimFunc]  # what it is, and how it is done


@dataclass(frozen=True)
class Operand:
    """A buffer of a step. The rows of one that is ``apart`` may lie at any distance."""

    shape: tuple[int, ...]
    dtype: str
    apart: bool = False

    def strides(self) -> list[Expr | int] | None:
        return [tirx.Var("apart", "int32"), 1] if self.apart else None


@dataclass(frozen=True)
class Step:
    """Sums, by the spatial ones among ``loops``, of products by the others.

    ``product`` is one of them, of data, weights and loops; ``compute`` gives the sums after the
    step, as a vector, of those before it, data and weights.
    """

    data: Operand
    weight: Operand
    sums: Operand
    loops: tuple[int, ...]
    kinds: str  # of loops: S or R
    product: Callable[[tirx.Buffer, tirx.Buffer, Sequence[Expr]], Expr]
    compute: Callable[[Expr, tirx.Buffer, tirx.Buffer], Expr]

    def place(self, axes: Sequence[Expr]) -> tuple[Expr, ...]:
        """Where among the sums the product of those loops belongs."""
        return tuple(axis for axis, kind in zip(axes, self.kinds, strict=True) if kind == "S")


def intrinsic_of(step: Step) -> Intrinsic:
    read, weights, summed = step.data, step.weight, step.sums
    first = [0] * len(summed.shape)
    vector = f"{summed.dtype}x{math.prod(summed.shape)}"

    @T.prim_func(s_tir=True)
    def description(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, read.shape, read.dtype, strides=read.strides(), offset_factor=1)
        weight = T.match_buffer(
            b, weights.shape, weights.dtype, strides=weights.strides(), offset_factor=1
        )
        acc = T.match_buffer(c, summed.shape, summed.dtype, offset_factor=1)
        with T.sblock("root"):
            T.reads(whole(acc), whole(data), whole(weight))
            T.writes(whole(acc))
            for loops in T.grid(*step.loops):
                with T.sblock("update"):
                    (*axes,) = T.axis.remap(step.kinds, loops)
                    acc[step.place(axes)] = acc[step.place(axes)] + step.product(data, weight, axes)

    @T.prim_func(s_tir=True)
    def implementation(a: T.handle, b: T.handle, c: T.handle) -> None:
        data = T.match_buffer(a, read.shape, read.dtype, strides=read.strides(), offset_factor=1)
        weight = T.match_buffer(
            b, weights.shape, weights.dtype, strides=weights.strides(), offset_factor=1
        )
        acc = T.match_buffer(c, summed.shape, summed.dtype, offset_factor=1)
        with T.sblock("root"):
            T.reads(whole(acc), whole(data), whole(weight))
            T.writes(whole(acc))
            acc.vstore(first, step.compute(acc.vload(first, vector), data, weight))

    return description, implementation


def whole(buffer: tirx.Buffer) -> tirx.BufferRegion:
    return tirx.BufferRegion(buffer, [Range.from_min_extent(0, n) for n in buffer.shape])


@dataclass(frozen=True)
class Intrinsics:
    """Those of one ``prefix``, by what their ``operands`` are: ``make`` gives one for a target.

    Not made on import: TVMScript looks through the call stack, which takes long while modules are
    being imported.
    """

    prefix: str
    operands: tuple[str, ...]
    make: Callable[[str, int, Target | None], Intrinsic]

    def register(self, operand: str, lanes: int) -> str:
        """Make one known to ``Schedule.tensorize``, for the current target; its name."""
        return self.register_for(Target.current(allow_none=True), operand, lanes)

    def register_for(self, target: Target | None, operand: str, lanes: int) -> str:
        name = f"tvm_mobilenet.{self.prefix}_{operand}_{lanes}"
        TensorIntrin.register(name, *self.make(operand, lanes, target), override=True)
        return name

    def register_named(self, text: str, target: Target | None) -> bool:
        """Make those known, for ``target``, whose names are in ``text``, a trace.

        Whether there are any.
        """
        pattern = rf"tvm_mobilenet\.{self.prefix}_({'|'.join(self.operands)})_(\d+)"
        named = set(re.findall(pattern, text))
        for operand, lanes in named:
            self.register_for(target, operand, int(lanes))
        return bool(named)


# Steps of lanes, each of which sums ``values`` products of numbers that lie together


@dataclass(frozen=True)
class Lane:
    """What one lane sums: so many products with weights of that type, in sums of that type."""

    values: int
    weights: str
    sums: str


# the sums after a step, of the sums before it, a vector of activations and one of weights
Dot: TypeAlias = Callable[[Expr, Expr, Expr], Expr]


@dataclass(frozen=True)
class Activations:
    """What a step of lanes reads: the ``factor`` of a lane's i-th weight, in the sums' type.

    ``vector`` has those of all lanes.
    """

    operand: Operand
    factor: Callable[[tirx.Buffer, Expr, Expr], Expr]
    vector: Callable[[tirx.Buffer], Expr]


def step_of_lanes(lanes: int, lane: Lane, read: Activations, dot: Dot) -> Step:
    def product(data: tirx.Buffer, weight: tirx.Buffer, axes: Sequence[Expr]) -> Expr:
        place, i = axes
        return read.factor(data, place, i) * T.cast(weight[place, i], lane.sums)

    def compute(sums: Expr, data: tirx.Buffer, weight: tirx.Buffer) -> Expr:
        weights = weight.vload([0, 0], f"{lane.weights}x{lane.values * lanes}")
        return dot(sums, read.vector(data), weights)

    return Step(
        data=read.operand,
        weight=Operand((lanes, lane.values), lane.weights),
        sums=Operand((lanes,), lane.sums),
        loops=(lanes, lane.values),
        kinds="SR",
        product=product,
        compute=compute,
    )
