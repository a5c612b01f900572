"""Bytes of four neighbouring pixels → one store of them all.

A kernel over bytes rounds a vector of sums at a time and stores 16 bytes of each. Where the CPU has
AVX-512, four such vectors are narrowed by three instructions that saturate, put in order by one
more, and stored as a whole cache line: half of the instructions, and a quarter of the stores.

Bytes that are looked up in a table of 256 are so 64 at a time, where the CPU has AVX512_VBMI: one
``vpermi2b`` for each half of the table, whose numbers fill two registers, and the byte's highest
bit says which half it is. Where four pixels do not lie together, or fewer are left, each is stored
by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tvm
from tvm import tirx
from tvm.ir import Call, Expr, TensorLoad
from tvm.script import tirx as T
from tvm.target import Target
from tvm.target.codegen import target_has_features

from tvm_mobilenet.compiler.cpu.store_runs import by_distance, join_runs

LANES, VECTORS = 16, 4
HIGHEST = 255
NARROW, PACKED = "uint8x16", "uint8x64"
BYTE_VALUES = 256
PERMUTE = "llvm.x86.avx512.vpermi2var.qi.512"
WORDS, BYTES = "llvm.x86.avx512.packssdw.512", "llvm.x86.avx512.packuswb.512"


@dataclass(frozen=True)
class _Store:
    """A store of LANES bytes: where, from which integers, and its place among the statements."""

    place: int
    buffer: tirx.Buffer
    base: Expr
    integers: Expr
    table: tirx.Buffer | None = None

    def goes_with(self, other: _Store) -> bool:
        """Whether one store may write what both do."""
        one, another = self.table, other.table
        same = one is another if one is None or another is None else one.same_as(another)
        return same and self.buffer.same_as(other.buffer)


@tirx.transform.prim_func_pass(opt_level=0, name="PackStores")
def pack_stores(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Join the stores of each run of statements that are nothing else."""
    target = func.attrs.get("target")
    if target is None or not target_has_features("avx512bw", target):
        return func
    return func.with_body(join_runs(func.body, _store, _pack))


def _store(statement: tirx.Stmt, place: int) -> _Store | None:
    """A store of bytes that are made of integers; None for any other statement."""
    if not isinstance(statement, tirx.BufferStore) or len(statement.indices) != 1:
        return None
    value, (index,) = statement.value, statement.indices
    table = None
    if is_lookup(value):
        table, value = value.source, value.indices[0].value
    ramp = isinstance(index, tirx.Ramp) and int(index.lanes) == LANES
    if not ramp or str(value.ty.dtype) != NARROW:
        return None
    integers = _saturated(value.value) if isinstance(value, tirx.Cast) else None
    if integers is None and table is not None:
        integers = T.cast(value, "int32x16")
    if integers is None:
        return None
    return _Store(place, statement.buffer, index.base, integers, table)


def is_lookup(value: Expr) -> bool:
    """Whether it is LANES bytes of a table, by as many that are known to be bytes."""
    if not isinstance(value, TensorLoad) or str(value.ty.dtype) != NARROW:
        return False
    if len(value.indices) != 1 or [int(extent) for extent in value.source.shape] != [BYTE_VALUES]:
        return False
    index = value.indices[0]
    return isinstance(index, tirx.Cast) and str(index.value.ty.dtype) == NARROW


def _saturated(value: Expr) -> Expr | None:
    """What is limited to a byte's values, by itself or by its arguments; None for anything else."""
    if isinstance(value, tirx.Max) and isinstance(value.a, tirx.Min):
        limits = (_number(value.b), _number(value.a.b))
        value = value.a.a
        return value if limits == (0, HIGHEST) and str(value.ty.dtype) == "int32x16" else None
    rounded = isinstance(value, Call) and str(value.ty.dtype) == "int32x16"
    limited = rounded and any(isinstance(arg, tirx.Max) for arg in value.args)
    return value if limited else None


def _number(value: Expr) -> int | None:
    inner = value.value if isinstance(value, tirx.Broadcast) else None
    return int(inner.value) if isinstance(inner, tirx.IntImm) else None


def _pack(run: Sequence[_Store], kept: list[tirx.Stmt | None]) -> None:
    """Put one store for each four that lie together where the last of them is."""
    if len(run) < VECTORS and all(one.table is None for one in run):
        return
    places = by_distance(run)
    for first in sorted(places):
        four = [places.get(first + LANES * index) for index in range(VECTORS)]
        if any(one is None for one in four):
            continue
        stores = [places.pop(first + LANES * index) for index in range(VECTORS)]
        for one in stores:
            kept[one.place] = None
        kept[max(one.place for one in stores)] = tirx.BufferStore(
            stores[0].buffer,
            _bytes_of(stores),
            [tirx.Ramp(stores[0].base, 1, LANES * VECTORS)],
        )
    left = [one for one in places.values() if one.table is not None]
    for start in range(0, len(left), VECTORS):
        _store_each(left[start : start + VECTORS], kept)


def _store_each(stores: Sequence[_Store], kept: list[tirx.Stmt | None]) -> None:
    """Put stores of LANES bytes, which are looked up together, where the last of them is."""
    for one in stores:
        kept[one.place] = None
    found = tirx.Var("bytes", "uint8x64")
    separate = [
        tirx.BufferStore(
            one.buffer,
            tirx.Shuffle([found], [tirx.IntImm("int32", LANES * place + i) for i in range(LANES)]),
            [tirx.Ramp(one.base, 1, LANES)],
        )
        for place, one in enumerate(stores)
    ]
    filled = [*stores, *[stores[-1]] * (VECTORS - len(stores))]
    bound = tirx.Bind(found, _bytes_of(filled))
    kept[max(one.place for one in stores)] = tirx.SeqStmt([bound, *separate])


def _bytes_of(stores: Sequence[_Store]) -> Expr:
    """What the stores write, one after the other."""
    table = stores[0].table
    narrowed = _narrowed([one.integers for one in stores])
    return narrowed if table is None else _looked_up(narrowed, table)


def _looked_up(places: Expr, table: tirx.Buffer) -> Expr:
    """The numbers of a table of all bytes at 64 places."""
    quarters = [table.vload([first], PACKED) for first in range(0, BYTE_VALUES, LANES * VECTORS)]
    low, high = (
        T.call_llvm_pure_intrin(PERMUTE, one, places, other, dtype=PACKED)
        for one, other in (quarters[:2], quarters[2:])
    )
    upper = T.reinterpret(places, dtype="int8x64") < T.broadcast(T.int8(0), LANES * VECTORS)
    return tirx.Select(upper, high, low)


def looks_up(target: Target) -> bool:
    """Whether there are instructions for lookups in tables of all bytes."""
    return bool(target_has_features("avx512vbmi", target))


def _narrowed(integers: Sequence[Expr]) -> Expr:
    """Four vectors of int32 as bytes, one after the other."""
    first, second = (
        T.call_llvm_pure_intrin(WORDS, *integers[place : place + 2], dtype="int16x32")
        for place in (0, 2)
    )
    mixed = T.call_llvm_pure_intrin(BYTES, first, second, dtype="uint8x64")
    # each quarter of the register has a dword of all four
    order = [tirx.IntImm("int32", 4 * part + one) for one in range(VECTORS) for part in range(4)]
    dwords = tirx.Shuffle([T.reinterpret(mixed, dtype="int32x16")], order)
    return T.reinterpret(dwords, dtype="uint8x64")
