"""Loads of two to four NEON registers at once, each of which moves the address on to the next.

``ld1`` takes one instruction for up to four registers, where ``ldp`` takes two, but has no offset:
it adds to its address what it loaded, or any register. So loads form a chain, of which LLVM does
not know that each address is the first one plus a constant, or it would add that to it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import Expr, StringImm
from tvm.script import tirx as T

REGISTERS, REGISTER = 4, 16  # of a load at most; bytes
WHOLE = REGISTERS * REGISTER
SHORTEST = 3  # loads of a chain; of fewer an address takes more than it spares
NAME = "tvm_mobilenet_load_"  # and the loads of the chain
ONE = "<16 x i8>"
LOAD_IR = """
define linkonce_odr <64 x i8> @{name}(ptr %first) alwaysinline nounwind memory(argmem: read) {{
  %p0 = call ptr asm "", "=r,0"(ptr %first) nounwind memory(none)
{chain}
  %r = call {type} @llvm.aarch64.neon.ld1x{count}.v16i8.p0(ptr %p{last})
{parts}
  %ab = shufflevector <16 x i8> %a, <16 x i8> %b, <32 x i32> <{pair}>
  %cd = shufflevector <16 x i8> {c}, <16 x i8> {d}, <32 x i32> <{pair}>
  %all = shufflevector <32 x i8> %ab, <32 x i8> %cd, <64 x i32> <{whole}>
  ret <64 x i8> %all
}}
"""
STEP_IR = """  %q{n} = getelementptr i8, ptr %p{before}, i64 {bytes}
  %p{n} = call ptr asm "", "=r,0"(ptr %q{n}) nounwind memory(none)"""

# an address can be moved on by any register, after a load
LEAP_IR = """  %b{n} = call i64 asm "", "=r,0"(i64 {bytes}) nounwind memory(none)
  %q{n} = getelementptr i8, ptr %p{before}, i64 %b{n}
  %p{n} = call ptr asm "", "=r,0"(ptr %q{n}) nounwind memory(none)"""


@dataclass(frozen=True, order=True)
class Load:
    """So many registers, two at least, ``offset`` bytes after where its chain begins."""

    offset: int
    registers: int = REGISTERS

    @property
    def bytes(self) -> int:
        return self.registers * REGISTER


Chain = tuple[Load, ...]  # in the order of their offsets


def loaded(chain: Chain, first: Expr) -> Expr:
    """The registers of the last load of ``chain``, which begins at element ``first``.

    They are WHOLE bytes of int8; what a load of fewer registers leaves of them is undefined.
    """
    return tirx.call_pure_extern(f"int8x{WHOLE}", name_of(chain), T.address_of(first))


def with_definitions(body: tirx.Stmt, chains: Iterable[Chain]) -> tirx.Stmt:
    """``body``, with the functions that ``loaded`` calls."""
    chains = sorted(set(chains))
    counts = {chain[-1].registers for chain in chains}
    code = "\n".join([*map(declaration, sorted(counts)), *map(definition, chains)])
    return tirx.AttrStmt(tirx.IntImm("int32", 0), "pragma_import_llvm", StringImm(code), body)


def name_of(chain: Chain) -> str:
    return NAME + "_".join(f"{one.offset}x{one.registers}" for one in chain)


def type_of(count: int) -> str:
    return "{ " + ", ".join([ONE] * count) + " }"


def declaration(count: int) -> str:
    return f"declare {type_of(count)} @llvm.aarch64.neon.ld1x{count}.v16i8.p0(ptr)"


def definition(chain: Chain) -> str:
    """The function that does the last of these loads, by way of those before it."""
    stops = chain if chain[0].offset == 0 else (Load(0), *chain)
    steps = []
    for n, (before, one) in enumerate(itertools.pairwise(stops), 1):
        distance = one.offset - before.offset
        step = STEP_IR if distance == before.bytes else LEAP_IR
        steps.append(step.format(n=n, before=n - 1, bytes=distance))
    count = chain[-1].registers
    parts = zip("abcd"[:count], range(count), strict=True)
    of_type = type_of(count)
    return LOAD_IR.format(
        name=name_of(chain),
        type=of_type,
        count=count,
        chain="\n".join(steps),
        last=len(steps),
        parts="\n".join(f"  %{one} = extractvalue {of_type} %r, {place}" for one, place in parts),
        c="%c" if count > 2 else "poison",
        d="%d" if count > 3 else "poison",
        pair=", ".join(f"i32 {n}" for n in range(32)),
        whole=", ".join(f"i32 {n}" for n in range(64)),
    )
