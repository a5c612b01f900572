"""Two neighbouring vectors of bfloat16 → one store of both.

A kernel in bfloat16 rounds a vector of sums at a time, which fills half a register, and stores
that. AVX512_BF16 rounds two such vectors into one register in the time that it takes for one.

A ReLU comes after that, on both at once: of limits that bfloat16 has it makes no difference whether
they are applied before or after rounding, and numbers above zero are in the order of their bits. A
NaN with its sign bit set becomes zero, one without it stays what it is or becomes the upper limit.
On Zen 4 a vector's ReLU6, rounding and store take 1.1 cycles instead of 3.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import tvm
from tvm import tirx
from tvm.ir import Expr
from tvm.runtime import DataType
from tvm.script import tirx as T

from schedules.cpu.pair_products import BF16, X86_LANES, has_bf16, on_arm
from tvm_mobilenet.compiler.cpu.store_runs import by_distance, join_runs

BOTH = "tvm_mobilenet_narrow_both_bf16_"  # and the lanes of one: (first, second), to uint16


@dataclass(frozen=True)
class _Limits:
    """Of a ReLU: zero, and what is ``above``, as the bits of a bfloat16; None where nothing is."""

    above: int | None


@dataclass(frozen=True)
class _Store:
    """A store of a vector: where, the numbers before ReLU and rounding, and its place."""

    place: int
    store: tirx.BufferStore
    numbers: Expr
    limits: _Limits | None

    @property
    def base(self) -> Expr:
        return self.store.indices[0].base

    @property
    def lanes(self) -> int:
        return int(self.store.indices[0].lanes)

    def goes_with(self, other: _Store) -> bool:
        """Whether one store may write what both do."""
        return (
            self.store.buffer.same_as(other.store.buffer)
            and self.limits == other.limits
            and self.lanes == other.lanes
        )


@tirx.transform.prim_func_pass(opt_level=0, name="PairStores")
def pair_stores(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Join the stores of each run of statements that are nothing else."""
    target = func.attrs.get("target")
    if not has_bf16(target) or on_arm(target):
        return func
    return func.with_body(join_runs(func.body, _store, _pair))


def _store(statement: tirx.Stmt, place: int) -> _Store | None:
    """A store of a vector that is rounded to bfloat16; None for any other statement."""
    if not isinstance(statement, tirx.BufferStore) or len(statement.indices) != 1:
        return None
    value, (index,) = statement.value, statement.indices
    if not isinstance(value, tirx.Cast) or not isinstance(index, tirx.Ramp):
        return None
    to, source = (DataType(str(one.ty.dtype)) for one in (value, value.value))
    vectors = str(to).startswith(BF16) and str(source).startswith("float32")
    if not vectors or int(to.lanes) not in X86_LANES or _number(index.stride) != 1:
        return None
    return _Store(place, statement, *_before_relu(value.value))


def _before_relu(value: Expr) -> tuple[Expr, _Limits | None]:
    """What a ReLU limits, and to what; the value itself where it is none."""
    above, limited = None, value
    if isinstance(value, tirx.Min):
        limit = _number(value.b)
        above = None if limit is None else _bits(limit)
        if above is None:
            return value, None
        limited = value.a
    if isinstance(limited, tirx.Max) and _number(limited.b) == 0:
        return limited.a, _Limits(above)
    return value, None


def _bits(limit: float) -> int | None:
    """Of a number above zero as bfloat16; None where that has no such number."""
    nearest = np.float32(limit).astype(ml_dtypes.bfloat16)
    return int(nearest.view(np.uint16)) if float(nearest) == limit > 0 else None


def _number(value: Expr) -> float | None:
    """Of all lanes."""
    one = value.value if isinstance(value, tirx.Broadcast) else value
    return float(one.value) if isinstance(one, tirx.FloatImm | tirx.IntImm) else None


def _pair(run: Sequence[_Store], kept: list[tirx.Stmt | None]) -> None:
    """Put one store for each two that lie together where the later of them is."""
    if len(run) < 2:
        return
    places = by_distance(run)
    lanes = run[0].lanes
    for first in sorted(places):
        if first not in places or first + lanes not in places:
            continue
        low, high = places.pop(first), places.pop(first + lanes)
        for one in (low, high):
            kept[one.place] = None
        kept[max(low.place, high.place)] = tirx.BufferStore(
            low.store.buffer, _both(low, high), [tirx.Ramp(low.base, 1, 2 * lanes)]
        )


def _both(low: _Store, high: _Store) -> Expr:
    """What the two stores write, one after the other."""
    count = 2 * low.lanes
    words = f"uint16x{count}"
    bits = tirx.call_pure_extern(words, f"{BOTH}{low.lanes}", low.numbers, high.numbers)
    if low.limits is not None:
        signed = T.max(T.reinterpret(bits, dtype=f"int16x{count}"), _all(0, count))
        if low.limits.above is not None:
            signed = T.min(signed, _all(low.limits.above, count))
        bits = T.reinterpret(signed, dtype=words)
    return T.reinterpret(bits, dtype=f"{BF16}x{count}")


def _all(value: int, lanes: int) -> Expr:
    return T.broadcast(T.int16(value), lanes)
