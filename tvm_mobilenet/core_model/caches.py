"""Bytes that a kernel brings into a cache, from its loops and what they index.

The lines that one pass over a loop touches are counted on the grid of its iterations. A loop whose
body's lines fit the cache misses each of its own lines once; where they do not fit, every iteration
misses what its body does. Between the two the model is even, as caches nearly are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from numpy.typing import NDArray
from tvm import tirx
from tvm.runtime import DataType

from tvm_mobilenet.compiler.cpu.lowering import CPU_PASSES
from tvm_mobilenet.compiler.cpu.prefetch import insert_prefetches
from tvm_mobilenet.compiler.cpu.stack import STACK_BYTES
from tvm_mobilenet.core_model.operation import Unmodelled

FLAT_PASSES = CPU_PASSES[: CPU_PASSES.index(insert_prefetches)]
VECTOR_BYTES = 64  # that lie in a line, where a vector is read at once
ROOM = (0.75, 1.25)  # of a cache: what surely stays, what surely does not

Grid = dict[Any, NDArray[np.int64]]
Lines = NDArray[np.int64]


@dataclass(frozen=True)
class Access:
    """A load or store: the buffer's name, and where in it by the loops' variables."""

    buffer: str
    item_bytes: int
    index: Any
    variables: tuple[Any, ...]


@dataclass(frozen=True)
class Nest:
    """A loop, what its body accesses itself, and the loops inside it."""

    variable: Any
    extent: int
    accesses: tuple[Access, ...]
    inner: tuple[Nest, ...]


def nest_of(mod: tvm.IRModule) -> Nest:
    """The loops of the scheduled ``main``, as one that runs once."""
    flat = tvm.transform.Sequential(FLAT_PASSES)(mod)["main"]
    return _read(flat.body, set())


def _read(statement: Any, small: set[str], variable: Any = None, extent: int = 1) -> Nest:
    accesses: list[Access] = []
    inner: list[Nest] = []

    def access(buffer: Any, indices: Sequence[Any]) -> None:
        if buffer.name in small:
            return
        size = DataType(buffer.dtype).itemsize
        accesses.extend(
            Access(str(buffer.name), size, index, _variables(index))
            for index in _lanes(indices[0], size)
        )

    def walk(node: Any) -> None:
        if isinstance(node, tirx.For):
            inner.append(_read(node.body, small, node.loop_var, int(node.extent)))
        elif isinstance(node, tirx.SeqStmt):
            for one in node.seq:
                walk(one)
        elif isinstance(node, tirx.AllocBuffer):
            size = math.prod(int(dim) for dim in node.buffer.shape)
            if size * DataType(node.buffer.dtype).itemsize <= STACK_BYTES:
                small.add(str(node.buffer.name))  # in registers, or on the stack
        elif isinstance(node, tirx.BufferStore):
            access(node.buffer, node.indices)
            tvm_ffi.structural_walk(
                node.value, (tvm.ir.TensorLoad, lambda one: access(one.source, one.indices))
            )
        elif isinstance(node, tirx.IfThenElse):
            walk(node.then_case)

    walk(statement)
    return Nest(variable, extent, tuple(accesses), tuple(inner))


def _lanes(index: Any, item_bytes: int) -> list[Any]:
    """The index, or those of a whole vector's parts, of which each lies in a line."""
    if not isinstance(index, tirx.Ramp):
        return [index]
    stride = int(index.stride)
    step = max(1, VECTOR_BYTES // (stride * item_bytes))
    return [index.base + stride * lane for lane in range(0, int(index.lanes), step)]


def _variables(index: Any) -> tuple[Any, ...]:
    found: list[Any] = []

    def add(one: Any) -> None:
        if not any(one.same_as(other) for other in found):
            found.append(one)

    tvm_ffi.structural_walk(index, (tvm.ir.Var, add))
    return tuple(found)


OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "FloorDiv": np.floor_divide,
    "FloorMod": np.remainder,
    "Min": np.minimum,
    "Max": np.maximum,
}


def _value(index: Any, grid: Grid) -> Any:
    """An index on a grid of its variables; those that have no axis there are zero."""
    name = type(index).__name__
    if name in ("FloorDiv", "FloorMod") and len(_variables(index)) > 1:
        raise Unmodelled("an index that mixes loops")  # else each moves it by itself
    if name == "IntImm":
        return int(index.value)
    if name in OPERATIONS:
        return OPERATIONS[name](_value(index.a, grid), _value(index.b, grid))
    if name == "Cast":
        return _value(index.value, grid)
    if name.endswith("Var"):
        return next((axis for one, axis in grid.items() if one.same_as(index)), 0)
    raise Unmodelled(f"an index with a {name} in it")


def incoming(nest: Nest, cache_bytes: int, line_bytes: int) -> Counter[str]:
    """The lines of each buffer that come into an empty cache of so many bytes."""
    return _Misses(cache_bytes, line_bytes).of(nest, ())[0]


@dataclass(frozen=True)
class _Touched:
    """What an access touches in one pass over a loop: distinct places, in bytes."""

    access: Access
    places: Lines


class _Misses:
    def __init__(self, cache_bytes: int, line_bytes: int) -> None:
        self._capacity = cache_bytes / line_bytes
        self._line = line_bytes

    def of(self, nest: Nest, outer: tuple[Nest, ...]) -> tuple[Counter[str], list[_Touched]]:
        """(lines that come in, what is touched) in one pass over the loop."""
        around = outer if nest.variable is None else (*outer, nest)
        body = [_Touched(one, self._first(one, around)) for one in nest.accesses]
        misses: Counter[str] = self._count(body)
        for one in nest.inner:
            inner_misses, inner = self.of(one, around)
            misses.update(inner_misses)
            body += inner
        touched_in_body = self._count(body)
        # what two parts of the body share comes in once, where it stays between them
        kept = self._kept(sum(touched_in_body.values()))
        for name in misses:
            once = min(touched_in_body[name], misses[name])
            misses[name] = kept * once + (1 - kept) * misses[name]  # type: ignore[assignment]
        if nest.variable is None:
            return misses, body
        touched = [_Touched(one.access, self._along(one, nest, outer)) for one in body]
        whole = self._count(touched)
        for name in misses:
            again = nest.extent * misses[name]
            misses[name] = kept * min(whole[name], again) + (1 - kept) * again  # type: ignore[assignment]
        return misses, touched

    def _kept(self, lines: float) -> float:
        """How much of so many lines is still in the cache when they are touched again."""
        low, high = (self._capacity * one for one in ROOM)
        return min(1.0, max(0.0, (high - lines) / (high - low)))

    def _count(self, touched: list[_Touched]) -> Counter[str]:
        """The distinct lines by buffer."""
        found: dict[str, list[Lines]] = {}
        for one in touched:
            found.setdefault(one.access.buffer, []).append(one.places // self._line)
        return Counter({name: len(np.unique(np.concatenate(one))) for name, one in found.items()})

    def _first(self, access: Access, around: tuple[Nest, ...]) -> Lines:
        place = np.asarray([_value(access.index, {}) * access.item_bytes], np.int64)
        return self._coarse(place, access, around)

    def _along(self, touched: _Touched, nest: Nest, outer: tuple[Nest, ...]) -> Lines:
        """The places that come of moving those of the body along the loop."""
        steps = _steps(touched.access, nest)
        if steps is None:
            return touched.places
        return self._coarse(np.unique(touched.places[:, None] + steps), touched.access, outer)

    def _coarse(self, places: Lines, access: Access, around: tuple[Nest, ...]) -> Lines:
        """Whole lines instead of bytes, where every loop around moves by whole lines."""
        for nest in around:
            steps = _steps(access, nest)
            if steps is not None and (steps % self._line).any():
                return places
        return np.unique(places // self._line * self._line)


def _steps(access: Access, nest: Nest) -> Lines | None:
    """By how many bytes each iteration of the loop moves the access; None where by nothing."""
    if not any(nest.variable.same_as(one) for one in access.variables):
        return None
    index = _value(access.index, {nest.variable: np.arange(nest.extent)})
    steps: Lines = (np.asarray(index) - _value(access.index, {})) * access.item_bytes
    return steps
