"""Bytes of four neighbouring pixels → one store of them all.

A kernel over bytes rounds a vector of sums at a time and stores 16 bytes of each. Where the CPU has
AVX-512, four such vectors are narrowed by three instructions that saturate, put in order by one
more, and stored as a whole cache line: half of the instructions, and a quarter of the stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import sym, tirx
from tvm.ir import Call, Expr
from tvm.script import tirx as T
from tvm.target.codegen import target_has_features

LANES, VECTORS = 16, 4
HIGHEST = 255
NARROW = "uint8x16"
WORDS, BYTES = "llvm.x86.avx512.packssdw.512", "llvm.x86.avx512.packuswb.512"


@dataclass(frozen=True)
class _Store:
    """A store of LANES bytes: where, from which integers, and its place among the statements."""

    place: int
    buffer: tirx.Buffer
    base: Expr
    integers: Expr


@tirx.transform.prim_func_pass(opt_level=0, name="PackStores")
def pack_stores(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Join the stores of each run of statements that are nothing else."""
    target = func.attrs.get("target")
    if target is None or not target_has_features("avx512bw", target):
        return func
    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.SeqStmt, _packed)))


def _packed(statements: tirx.SeqStmt) -> tirx.Stmt:
    kept: list[tirx.Stmt | None] = list(statements.seq)
    run: list[_Store] = []
    for place, statement in enumerate([*statements.seq, None]):
        store = None if statement is None else _store(statement, place)
        if store is not None and (not run or store.buffer.same_as(run[0].buffer)):
            run.append(store)
            continue
        _pack(run, kept)
        run = [] if store is None else [store]
    left = [one for one in kept if one is not None]
    if len(left) == len(kept):
        return statements
    return left[0] if len(left) == 1 else tirx.SeqStmt(left)


def _store(statement: tirx.Stmt, place: int) -> _Store | None:
    """A store of bytes that are made of integers; None for any other statement."""
    if not isinstance(statement, tirx.BufferStore) or len(statement.indices) != 1:
        return None
    value, (index,) = statement.value, statement.indices
    ramp = isinstance(index, tirx.Ramp) and int(index.lanes) == LANES
    if not ramp or not isinstance(value, tirx.Cast) or str(value.ty.dtype) != NARROW:
        return None
    integers = _saturated(value.value)
    return None if integers is None else _Store(place, statement.buffer, index.base, integers)


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
    if len(run) < VECTORS:
        return
    analyzer = sym.Analyzer()
    apart = [analyzer.simplify(one.base - run[0].base) for one in run]
    places = {
        int(distance.value): one
        for distance, one in zip(apart, run, strict=True)
        if isinstance(distance, tirx.IntImm)
    }
    for first in sorted(places):
        four = [places.get(first + LANES * index) for index in range(VECTORS)]
        if any(one is None for one in four):
            continue
        stores = [places.pop(first + LANES * index) for index in range(VECTORS)]
        for one in stores:
            kept[one.place] = None
        kept[max(one.place for one in stores)] = tirx.BufferStore(
            stores[0].buffer,
            _narrowed([one.integers for one in stores]),
            [tirx.Ramp(stores[0].base, 1, LANES * VECTORS)],
        )


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
