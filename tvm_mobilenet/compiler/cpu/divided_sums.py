"""A row of more int8 matrices than registers hold → its sums in parts, one loop after the other.

Of a row of seven pairs of pixels the first four are summed and stored, then the others: each part
loads its pixels at once (pixel_loads.py), and shares no registers with the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import tvm
import tvm_ffi
from tvm import sym, tirx
from tvm.ir import Expr, TensorLoad

from schedules.arm_cpu.quantized_conv2d import parts_of
from schedules.cpu.arm import is_64_bit_arm
from schedules.cpu.register_products import SMMLA
from tvm_mobilenet.compiler.cpu.neon_bytes import is_call_of
from tvm_mobilenet.compiler.cpu.pixel_pairs import places_of

MATRICES = 4  # of a pair of pixels: two of eight channels each


@tirx.transform.prim_func_pass(opt_level=0, name="DivideSums")
def divide_sums(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Divide every loop whose matrices of sums are for more than one, on 64-bit ARM."""
    if not is_64_bit_arm(func.attrs.get("target")):
        return func
    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.SeqStmt, _divided)))


def _divided(statements: tirx.SeqStmt) -> tirx.Stmt:
    """The statements, with what comes before and after a loop that is divided among its parts."""
    every = list(statements.seq)
    found = {place: products for place, one in enumerate(every) if (products := _products_of(one))}
    if len(found) != 1:
        return statements
    ((at, products),) = found.items()
    registers = list(dict.fromkeys(places for _, places in products))
    buffer = products[0][0].buffer
    before = [(one, _written(one, buffer)) for one in every[:at]]
    after = [(one, _read(one, buffer)) for one in every[at + 1 :]]
    parts = parts_of(len(registers))
    if parts == 1 or any(places is None for _, places in after):
        return statements
    size = -(-len(registers) // MATRICES // parts) * MATRICES
    kept = [one for one, places in before if not places]
    done: frozenset[int] = frozenset()
    for first in range(0, len(registers), size):
        own = registers[first : first + size]
        numbers = frozenset().union(*own)
        kept += [one for one, places in before if places & numbers]
        body = tirx.SeqStmt([store for store, places in products if places in own])
        kept.append(_with_body(every[at], body))
        done |= numbers
        kept += [one for one, places in after if places is not None and places <= done]
        after = [(one, places) for one, places in after if places is None or not places <= done]
    return tirx.SeqStmt([*kept, *(one for one, _ in after)])


def _products_of(statement: tirx.Stmt) -> list[tuple[tirx.BufferStore, frozenset[int]]]:
    """The stores of a loop that does nothing but sum matrices in one buffer, and what they sum.

    None of any other statement.
    """
    body, loops = statement, 0
    while isinstance(body, tirx.For):
        body, loops = body.body, loops + 1
    if not loops or not isinstance(body, tirx.SeqStmt):
        return []
    found: list[tuple[tirx.BufferStore, frozenset[int]]] = []
    for store in body.seq:
        if not isinstance(store, tirx.BufferStore) or not is_call_of(store.value, SMMLA):
            return []
        places = _numbers(store.indices)
        if places is None or (found and not store.buffer.same_as(found[0][0].buffer)):
            return []
        found.append((store, places))
    return found


def _written(statement: tirx.Stmt, buffer: tirx.Buffer) -> frozenset[int]:
    """The sums that a statement starts; none of another's."""
    if not isinstance(statement, tirx.BufferStore) or not statement.buffer.same_as(buffer):
        return frozenset()
    return _numbers(statement.indices) or frozenset()


def _read(statement: tirx.Stmt, buffer: tirx.Buffer) -> frozenset[int] | None:
    """The sums that a store reads; None where that is not known."""
    places: list[frozenset[int] | None] = []

    def visit(load: TensorLoad) -> None:
        if load.source.same_as(buffer):
            places.append(_numbers(load.indices))

    tvm_ffi.structural_walk(statement, (TensorLoad, visit))
    known = [one for one in places if one is not None]
    if not isinstance(statement, tirx.BufferStore) or len(known) < len(places):
        return None
    return frozenset().union(*known)


def _numbers(indices: Sequence[Expr]) -> frozenset[int] | None:
    """The elements that a vector's index names, where they are constant."""
    (index,) = indices
    if not isinstance(index, tirx.Ramp):
        places = places_of(index)
        return None if places is None else frozenset(places)
    base = sym.Analyzer().simplify(index.base)
    if not isinstance(base, tirx.IntImm) or int(index.stride) != 1:
        return None
    return frozenset(range(int(base.value), int(base.value) + int(index.lanes)))


def _with_body(statement: tirx.Stmt, body: tirx.Stmt) -> tirx.Stmt:
    """The loops of ``statement``, around another body, with variables of their own."""
    if not isinstance(statement, tirx.For):
        return body
    old = statement.loop_var
    new = tirx.Var(old.name, old.ty.dtype)

    def renamed(var: tirx.Var) -> tirx.Var:
        return new if var.same_as(old) else var

    return tirx.For(
        new,
        statement.min,
        statement.extent,
        statement.kind,
        tvm_ffi.structural_map(_with_body(statement.body, body), (tirx.Var, renamed)),
        None,
        statement.annotations,
    )
