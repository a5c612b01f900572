"""More products of bytes summed in 16 bits, on ARM cores without dot products.

A kernel says of how many steps the sums fit 16 bits (kernels/cpu/sum_order.py): of all of them, as
they come, or as its table says of each tile, fours and then pairs. A step is ``smull``, ``smlal2``
and ``sadalp``; here steps that follow each other share the last. Taps of a row of a depthwise
filter share ``saddw``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import sym, tirx
from tvm.ir import Expr, StringImm, TensorLoad
from tvm.script import tirx as T

from schedules.cpu.arm import is_64_bit_arm
from schedules.cpu.register_products import PARTS, SADDLP, SMULL
from tvm_mobilenet.compiler.cpu.neon_bytes import is_call_of
from tvm_mobilenet.kernels.cpu.attributes import COUNTS, IN_WORDS, ORDERED, TAPS_IN_WORDS

FOUR, PAIR = 4, 2
# What is computed with is fenced: nothing that is read after it is read before.
FENCES = {"int16x8": "tvm_mobilenet_fence_words", "int32x4": "tvm_mobilenet_fence_sums"}
FENCE_IR = """
define linkonce_odr {type} @{name}({type} %value) alwaysinline nounwind {{
  %same = call {type} asm sideeffect "", "=w,0,~{{memory}}"({type} %value)
  ret {type} %same
}}
"""
FENCES_IR = "".join(
    FENCE_IR.format(type=kind, name=name)
    for kind, name in zip(("<8 x i16>", "<4 x i32>"), FENCES.values(), strict=True)
)


@tirx.transform.prim_func_pass(opt_level=0, name="SumInWords")
def sum_in_words(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Join the steps of kernels that say so, on 64-bit ARM."""
    together = int(func.attrs.get(IN_WORDS, 1))
    if not is_64_bit_arm(func.attrs.get("target")):
        return func
    taps = int(func.attrs.get(TAPS_IN_WORDS, PAIR))
    if taps > PAIR:
        return func.with_body(
            tvm_ffi.structural_map(
                func.body, (tirx.BufferStore, lambda store: _with_taps(store, taps))
            )
        )
    if together == 1:
        return func
    place = func.attrs.get(ORDERED)
    if place is None:
        body = tvm_ffi.structural_map(func.body, (tirx.SeqStmt, lambda one: _joined(one, together)))
        return func.with_body(_with_fences(body, together))
    table = func.params[int(place)]
    name, entries = str(table.name), int(table.shape[-1]) - COUNTS
    body = tvm_ffi.structural_map(
        func.body, (tirx.For, lambda loop: _by_counts(loop, (name, entries), together))
    )
    return func.with_body(_with_fences(body, together))


def _with_fences(body: tirx.Stmt, together: int) -> tirx.Stmt:
    if together < FOUR:
        return body
    return tirx.AttrStmt(tirx.IntImm("int32", 0), "pragma_import_llvm", StringImm(FENCES_IR), body)


@dataclass(frozen=True)
class _Step:
    """A store that adds neighbours of ``words``, of 16 bits, to sums of 32."""

    store: tirx.BufferStore
    words: Expr

    @property
    def place(self) -> str:
        return f"{self.store.buffer.name}{self.store.indices[0]}"


def _step(statement: tirx.Stmt) -> _Step | None:
    """A statement that is a step; None for any other."""
    if not isinstance(statement, tirx.BufferStore) or not isinstance(statement.value, tirx.Add):
        return None
    sums, added = statement.value.a, statement.value.b
    if not isinstance(sums, TensorLoad) or not sums.source.same_as(statement.buffer):
        return None
    if not is_call_of(added, SADDLP):
        return None
    return _Step(statement, added.args[1])


def _steps_of(statements: Sequence[tirx.Stmt]) -> list[list[_Step]] | None:
    """The steps of each sum, one after the other; None of statements that are anything else."""
    sums: dict[str, list[_Step]] = {}
    for statement in statements:
        step = _step(statement)
        if step is None:
            return None
        sums.setdefault(step.place, []).append(step)
    counts = {len(steps) for steps in sums.values()}
    return list(sums.values()) if len(counts) == 1 else None


def _in_groups(sums: Sequence[Sequence[_Step]], groups: Sequence[int]) -> list[tirx.Stmt]:
    """The steps of all sums, as many together as each group says."""
    stores: list[tirx.Stmt] = []
    first = 0
    for count in groups:
        own = [steps[first : first + count] for steps in sums]
        stores += _in_fours(own) if count == FOUR else map(_together, own)
        first += count
    return stores


def _together(steps: Sequence[_Step]) -> tirx.BufferStore:
    """One addition to a sum of 32 bits, of steps."""
    words = steps[0].words
    for one in steps[1:]:
        words = _more(words, one)
    return _added(steps[0], words)


def _more(words: Expr, step: _Step) -> Expr:
    """Sums of 16 bits with both products of a step."""
    return words + step.words.a + step.words.b


def _added(step: _Step, words: Expr) -> tirx.BufferStore:
    store = step.store
    value = T.call_llvm_pure_intrin(SADDLP, words, dtype=f"int32x{PARTS}")
    return tirx.BufferStore(store.buffer, store.value.a + value, list(store.indices))


def _in_fours(sums: Sequence[Sequence[_Step]]) -> list[tirx.Stmt]:
    """Four steps of each sum: a step of half of all sums, then the next.

    What has to stay in registers meanwhile are these half's sums of 16 bits, all those of 32, and
    what one step reads; LLVM would load what all of them read.
    """
    stores: list[tirx.Stmt] = []
    half = -(-len(sums) // FOUR) // 2 * FOUR or len(sums)
    for first in range(0, len(sums), half):
        own = sums[first : first + half]
        words = [steps[0].words for steps in own]
        for place in range(FOUR):
            if place:
                words = [_more(one, steps[place]) for one, steps in zip(words, own, strict=True)]
            words = _bound(words, stores)
            words = _bound([_fenced(one) for one in words], stores)
        added = [_added(steps[0], one) for steps, one in zip(own, words, strict=True)]
        values = _bound([one.value for one in added], stores)
        stores += [
            tirx.BufferStore(one.buffer, _fenced(value), list(one.indices))
            for one, value in zip(added, values, strict=True)
        ]
    return stores


def _bound(values: Sequence[Expr], statements: list[tirx.Stmt]) -> list[Expr]:
    """Names for values, which the ``statements`` get."""
    names = [tirx.Var("words", one.ty) for one in values]
    statements += [tirx.Bind(name, one) for name, one in zip(names, values, strict=True)]
    return list(names)


def _fenced(value: Expr) -> Expr:
    dtype = str(value.ty.dtype)
    return T.call_extern(dtype, FENCES[dtype], value)


def _joined(statements: tirx.SeqStmt, together: int) -> tirx.Stmt:
    """Statements in whose runs of steps so many are summed together."""

    def join(run: list[tirx.Stmt]) -> list[tirx.Stmt]:
        sums = _steps_of(run)
        if not sums or len(sums[0]) % PAIR:
            return run
        size = together if len(sums[0]) % together == 0 else PAIR
        return _in_groups(sums, [size] * (len(sums[0]) // size))

    kept: list[tirx.Stmt] = []
    run: list[tirx.Stmt] = []
    for statement in statements.seq:
        if _step(statement) is not None:
            run.append(statement)
            continue
        kept += [*join(run), statement]
        run = []
    return _sequence([*kept, *join(run)])


def _sequence(statements: list[tirx.Stmt]) -> tirx.Stmt:
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)


def _by_counts(loop: tirx.For, table: tuple[str, int], together: int) -> tirx.Stmt:
    """A loop over the steps of a tile → loops over its fours, its pairs and the other steps.

    The ``table`` has that name, and so many entries of each tile before its counts.
    """
    body = loop.body
    sums = _steps_of(body.seq if isinstance(body, tirx.SeqStmt) else [body])
    if sums is None or len(sums[0]) not in (PAIR, FOUR):
        return loop
    count = len(sums[0])
    in_fours, in_pairs = _counts(loop, sums[0][0], *table)
    if table[1] == 1:  # of steps that come as they are the first one's place, which is 0
        sums = [
            [_Step(one.store, _first_at_zero(one.words, table[0])) for one in steps]
            for steps in sums
        ]
    # groups of an iteration, and where the iterations with them end
    stages: list[tuple[list[int], Expr]] = [([PAIR] * (count // PAIR), in_pairs // count)]
    if count == FOUR and together == FOUR:
        stages.insert(0, ([FOUR], in_fours // FOUR))
    if count == FOUR:  # the last pair, where it has no other beside it
        stages.append(([PAIR, 1, 1], (in_pairs + PAIR) // FOUR))
    stages.append(([1] * count, loop.extent))
    loops: list[tirx.Stmt] = []
    begin: Expr = loop.min
    for groups, end in stages:
        var = tirx.Var(loop.loop_var.name, loop.loop_var.ty)
        joined = _replaced(_sequence(_in_groups(sums, groups)), loop, var)
        loops.append(tirx.For(var, begin, end - begin, tirx.ForKind.SERIAL, joined))
        begin = end
    return tirx.SeqStmt(loops)


def _counts(loop: tirx.For, step: _Step, name: str, entries: int) -> tuple[Expr, Expr]:
    """How many steps of the tile are in fours, and in fours or pairs.

    That comes after its entries in the table. ``step`` is the first of an iteration.
    """
    found: list[TensorLoad] = []

    def note(load: TensorLoad) -> None:
        if str(load.source.name) == name:
            found.append(load)

    tvm_ffi.structural_walk(step.words, (TensorLoad, note))
    (index,) = found[0].indices
    end = sym.Analyzer().simplify(_replaced(index, loop, tirx.IntImm("int32", 0)) + entries)
    one, other = (tirx.BufferLoad(found[0].source, [end + place]) for place in (0, 1))
    return one, other


def _first_at_zero(words: Expr, name: str) -> Expr:
    def zero(load: TensorLoad) -> Expr:
        return tirx.IntImm("int32", 0) if str(load.source.name) == name else load

    return tvm_ffi.structural_map(words, (TensorLoad, zero))


def _replaced(part: Any, loop: tirx.For, value: Expr) -> Any:
    """A part of a loop's body with ``value`` for its variable."""
    return tvm_ffi.structural_map(
        part, (tirx.Var, lambda one: value if one.same_as(loop.loop_var) else one)
    )


# Depthwise convolutions, whose taps are products of eight channels


def _with_taps(store: tirx.BufferStore, together: int) -> tirx.BufferStore:
    """A store of sums of taps, of which so many are summed in 16 bits; any other as it is."""
    found = _taps(store)
    return store if found is None else _summed(store, *found, together)


def _taps(statement: tirx.BufferStore) -> tuple[Expr, list[Expr]] | None:
    """Sums, and the products in 16 bits that a store adds to them; None for any other."""
    value: Expr = statement.value
    products: list[Expr] = []
    while isinstance(value, tirx.Add) and isinstance(value.b, tirx.Cast):
        words = value.b.value
        parts = [words.a, words.b] if isinstance(words, tirx.Add) else [words]
        if not all(is_call_of(one, SMULL) for one in parts):
            return None
        products[:0] = parts
        value = value.a
    same = isinstance(value, TensorLoad) and value.source.same_as(statement.buffer)
    return (value, products) if same and products else None


def _summed(
    store: tirx.BufferStore, sums: Expr, products: list[Expr], together: int
) -> tirx.BufferStore:
    """A store of sums and products, so many of which are summed in 16 bits first."""
    for first in range(0, len(products), together):
        words, *others = products[first : first + together]
        for one in others:
            words = words + one
        sums = sums + T.cast(words, str(sums.ty.dtype))
    return tirx.BufferStore(store.buffer, sums, list(store.indices))
