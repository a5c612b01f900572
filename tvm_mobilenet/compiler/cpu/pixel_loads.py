"""Neighbouring pairs of pixels that ``smmla`` multiplies → one load of up to four (load_chains.py).

Where the next step's pairs lie, whole rows of the image further on, is beyond what ``ldp`` has an
offset for, so LLVM mostly loads one pair at a time.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import sym, tirx
from tvm.ir import Call, Expr, TensorLoad

from schedules.cpu.arm import is_64_bit_arm
from schedules.cpu.register_products import SMMLA
from schedules.cpu.vectors import shuffled
from tvm_mobilenet.compiler.cpu.load_chains import (
    REGISTER,
    REGISTERS,
    Chain,
    Load,
    loaded,
    with_definitions,
)
from tvm_mobilenet.compiler.cpu.neon_bytes import is_call_of

STEPS = 8  # loads of a chain: what has fewer LLVM unrolls, and begins with all of them


@tirx.transform.prim_func_pass(opt_level=0, name="PixelLoads")
def pixel_loads(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Load neighbours at once in each run of statements that multiply matrices of int8."""
    if not is_64_bit_arm(func.attrs.get("target")):
        return func
    called: set[Chain] = set()
    analyzer = sym.Analyzer()

    def joined(statements: tirx.SeqStmt) -> tirx.Stmt:
        places: dict[tuple[str, str], list[int]] = {}
        for load in multiplied(statements):
            pair = _pair_of(load, analyzer)
            if pair is not None:
                places.setdefault(pair.source, []).append(pair.offset)
        chains = {source: chains_of(offsets) for source, offsets in places.items()}

        def at_once(load: TensorLoad) -> Expr:
            pair = _pair_of(load, analyzer)
            found = None if pair is None else chains.get(pair.source, {}).get(pair.offset)
            if pair is None or found is None:
                return load
            start, chain, place = found
            called.add(chain)
            whole = loaded(chain, load.source.vload([pair.base + start]))
            return shuffled(whole, range(place * REGISTER, (place + 1) * REGISTER))

        if not any(chains.values()):
            return statements
        return tvm_ffi.structural_map(statements, (TensorLoad, at_once))

    body = tvm_ffi.structural_map(func.body, (tirx.SeqStmt, joined))
    return func.with_body(with_definitions(body, called)) if called else func


def multiplied(statements: tirx.SeqStmt) -> list[TensorLoad]:
    """The pixels that the statements themselves multiply, in order."""
    found: list[TensorLoad] = []

    def visit(call: Call) -> None:
        if not is_call_of(call, SMMLA):
            return
        _, _, pixels, _ = call.args
        if isinstance(pixels, TensorLoad):
            found.append(pixels)

    for statement in statements.seq:
        if isinstance(statement, tirx.BufferStore):
            tvm_ffi.structural_walk(statement.value, (Call, visit))
    return found


@dataclass(frozen=True)
class _Pair:
    """Where two pixels are loaded from: ``offset`` bytes after the ``base``."""

    source: tuple[str, str]
    base: Expr
    offset: int


def _pair_of(load: TensorLoad, analyzer: sym.Analyzer) -> _Pair | None:
    """Of the load of a register of neighbours; None for any other."""
    ramp = load.indices[0]
    if str(load.ty.dtype) != f"int8x{REGISTER}" or not isinstance(ramp, tirx.Ramp):
        return None
    if not isinstance(ramp.stride, tirx.IntImm) or int(ramp.stride.value) != 1:
        return None
    index = analyzer.simplify(ramp.base)
    base, offset = index, 0
    if isinstance(index, tirx.IntImm):
        base, offset = tirx.IntImm(index.ty.dtype, 0), int(index.value)
    elif isinstance(index, tirx.Add) and isinstance(index.b, tirx.IntImm):
        base, offset = index.a, int(index.b.value)
    return _Pair((str(load.source.name), str(base)), base, offset)


def chains_of(offsets: list[int]) -> dict[int, tuple[int, Chain, int]]:
    """By the offset of a pair that is loaded with others: where the chain begins, its loads up to
    that of the pair, and the pair's place in it.

    ``offsets`` are in the order in which pairs are multiplied. So are the loads of a chain, or the
    first would have to wait for all of the others.
    """
    order = list(dict.fromkeys(offsets))
    chains: list[list[Load]] = []
    for load in loads_of(order):
        before = [chain for chain in chains if chain[-1].offset < load.offset]
        if before:
            max(before, key=lambda chain: chain[-1].offset).append(load)
        else:
            chains.append([load])
    found: dict[int, tuple[int, Chain, int]] = {}
    for chain in chains:
        if len(chain) < STEPS:
            continue
        start = chain[0].offset
        own = [Load(one.offset - start, one.registers) for one in chain]
        for place, one in enumerate(chain):
            for register in range(one.registers):
                until = tuple(own[: place + 1])
                found[one.offset + register * REGISTER] = (start, until, register)
    return found


def loads_of(order: list[int]) -> list[Load]:
    """The loads of two to four neighbours, where the first of them is needed.

    A run of more is divided evenly.
    """
    left, loads = set(order), []
    for first in order:
        if first not in left or first - REGISTER in left:
            continue
        count = 1
        while first + count * REGISTER in left:
            count += 1
        left -= {first + place * REGISTER for place in range(count)}
        parts = -(-count // REGISTERS)
        ends = [place * count // parts for place in range(parts + 1)]
        loads += [
            Load(first + begin * REGISTER, end - begin)
            for begin, end in itertools.pairwise(ends)
            if end - begin > 1
        ]
    return loads
