"""Weights of four registers → one load, which moves the address on to the next.

LLVM loads two registers at once at most, ``ldp``. ``ld1`` of four takes one instruction, but has no
offset: it adds what it loaded to its address. So the loads of a step form a chain, of which LLVM
does not know that each address is the first one plus a constant, or it would add that to it.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import sym, tirx
from tvm.ir import Expr, StringImm, TensorLoad
from tvm.script import tirx as T

from schedules.cpu.vectors import shuffled
from tvm_mobilenet.kernels.cpu.attributes import IN_WORDS

REGISTERS, REGISTER = 4, 16
WHOLE = REGISTERS * REGISTER
SHORTEST, LONGEST = 3, 32  # loads of a chain; of fewer an address takes more than it spares
NAME = "tvm_mobilenet_load_"  # and the place in the chain
FOUR = "{ <16 x i8>, <16 x i8>, <16 x i8>, <16 x i8> }"
DECLARATION = f"declare {FOUR} @llvm.aarch64.neon.ld1x4.v16i8.p0(ptr)"
LOAD_IR = """
define linkonce_odr <64 x i8> @{name}(ptr %first) alwaysinline nounwind memory(argmem: read) {{
  %p0 = call ptr asm "", "=r,0"(ptr %first) nounwind memory(none)
{chain}
  %r = call {four} @llvm.aarch64.neon.ld1x4.v16i8.p0(ptr %p{last})
  %a = extractvalue {four} %r, 0
  %b = extractvalue {four} %r, 1
  %c = extractvalue {four} %r, 2
  %d = extractvalue {four} %r, 3
  %ab = shufflevector <16 x i8> %a, <16 x i8> %b, <32 x i32> <{pair}>
  %cd = shufflevector <16 x i8> %c, <16 x i8> %d, <32 x i32> <{pair}>
  %all = shufflevector <32 x i8> %ab, <32 x i8> %cd, <64 x i32> <{whole}>
  ret <64 x i8> %all
}}
"""
STEP_IR = """  %q{n} = getelementptr i8, ptr %p{before}, i64 64
  %p{n} = call ptr asm "", "=r,0"(ptr %q{n}) nounwind memory(none)"""

# an address can be moved on by any register, after a load
LEAP_IR = """  %b{n} = call i64 asm "", "=r,0"(i64 {bytes}) nounwind memory(none)
  %q{n} = getelementptr i8, ptr %p{before}, i64 %b{n}
  %p{n} = call ptr asm "", "=r,0"(ptr %q{n}) nounwind memory(none)"""


@tirx.transform.prim_func_pass(opt_level=0, name="NeonLoads")
def neon_loads(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Load int8 of parameters four registers at once where all of them are read, on 64-bit ARM."""
    target = func.attrs.get("target")
    architecture = str("" if target is None else target.attrs.get("mtriple", ""))
    if not architecture.startswith(("aarch64", "arm64")):
        return func
    local: list[tirx.Buffer] = []
    tvm_ffi.structural_walk(func.body, (tirx.AllocBuffer, lambda one: local.append(one.buffer)))
    # four pixels of which a step multiplies two, where sums of 16 bits need most registers
    spared = func.params[0].name if func.attrs.get(IN_WORDS) else None
    analyzer = sym.Analyzer()
    readers: defaultdict[tuple[str, str], Counter[int]] = defaultdict(Counter)

    def note(store: tirx.BufferStore | tirx.Bind) -> None:
        registers: defaultdict[tuple[str, str], set[int]] = defaultdict(set)

        def read(load: TensorLoad) -> None:
            part = None if load.source.name == spared else _part_of(load, local, analyzer)
            if part is not None:
                registers[part.chain].update(range(part.first, part.first + part.count))

        tvm_ffi.structural_walk(store.value, (TensorLoad, read))
        for chain, ones in registers.items():
            readers[chain].update(ones)

    tvm_ffi.structural_walk(func.body, (tirx.BufferStore, note))
    tvm_ffi.structural_walk(func.body, (tirx.Bind, note))
    chains = {chain: whole_loads(counts) for chain, counts in readers.items()}
    called: set[tuple[int, ...]] = set()

    def joined(load: TensorLoad) -> Expr:
        part = None if load.source.name == spared else _part_of(load, local, analyzer)
        if part is None or part.place not in chains[part.chain]:
            return load
        places = tuple(one for one in chains[part.chain] if one <= part.place)
        called.add(places)
        address = T.address_of(load.source.vload([part.base]))
        whole = tirx.call_pure_extern(f"int8x{WHOLE}", name_of(places), address)
        if part.count == REGISTERS:
            return whole
        start = part.first % REGISTERS * REGISTER
        return shuffled(whole, range(start, start + part.count * REGISTER))

    body = tvm_ffi.structural_map(func.body, (TensorLoad, joined))
    if not called:
        return func
    code = DECLARATION + "".join(map(definition, sorted(called)))
    body = tirx.AttrStmt(tirx.IntImm("int32", 0), "pragma_import_llvm", StringImm(code), body)
    return func.with_body(body)


@dataclass(frozen=True)
class _Part:
    """Registers of a load of four: those from the ``first`` on, counted from ``base``."""

    chain: tuple[str, str]  # what is loaded, and from where on
    base: Expr
    first: int
    count: int

    @property
    def place(self) -> int:
        return self.first // REGISTERS


def whole_loads(readers: Counter[int]) -> list[int]:
    """The places of those loads of four whose registers are all read, by more than one sum each.

    None of a short chain. Of what is read once LLVM would begin with all of it, and spill.
    """
    shared = {one for one, count in readers.items() if count > 1}
    places = {one // REGISTERS for one in shared}
    whole = sorted(
        place for place in places if {*range(place * REGISTERS, (place + 1) * REGISTERS)} <= shared
    )
    return whole if len(whole) >= SHORTEST else []


def _part_of(load: TensorLoad, local: list[tirx.Buffer], analyzer: sym.Analyzer) -> _Part | None:
    """Of a load of whole registers of int8 from a parameter; None for any other."""
    dtype, _, lanes = str(load.ty.dtype).partition("x")
    count, rest = divmod(int(lanes or 1), REGISTER)
    ramp = load.indices[0]
    if dtype != "int8" or rest or not isinstance(ramp, tirx.Ramp) or _number(ramp.stride) != 1:
        return None
    if any(load.source.same_as(one) for one in local):
        return None
    index = analyzer.simplify(ramp.base)
    base, constant = index, 0
    if isinstance(index, tirx.Add) and isinstance(index.b, tirx.IntImm):
        base, constant = index.a, int(index.b.value)
    first, rest = divmod(constant, REGISTER)
    one_load = first // REGISTERS == (first + count - 1) // REGISTERS
    if rest or not one_load or not 0 <= first < REGISTERS * LONGEST:
        return None
    if analyzer.modular_set(base).coeff % WHOLE:
        return None
    return _Part((str(load.source.name), str(base)), base, first, count)


def _number(value: Expr) -> int | None:
    return int(value.value) if isinstance(value, tirx.IntImm) else None


def name_of(places: tuple[int, ...]) -> str:
    return NAME + "_".join(map(str, places))


def definition(places: tuple[int, ...]) -> str:
    """The function that loads from the last of these places, by way of those before it."""
    stops = sorted({0, *places})
    steps = [
        (STEP_IR if place == before + 1 else LEAP_IR).format(
            n=n, before=n - 1, bytes=WHOLE * (place - before)
        )
        for n, (before, place) in enumerate(itertools.pairwise(stops), 1)
    ]
    return LOAD_IR.format(
        four=FOUR,
        name=name_of(places),
        chain="\n".join(steps),
        last=len(steps),
        pair=", ".join(f"i32 {n}" for n in range(32)),
        whole=", ".join(f"i32 {n}" for n in range(64)),
    )
