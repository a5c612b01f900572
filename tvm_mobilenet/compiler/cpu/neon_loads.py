"""Weights of four registers → one load, which moves the address on to the next (load_chains.py)."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import sym, tirx
from tvm.ir import Expr, TensorLoad

from schedules.cpu.arm import is_64_bit_arm
from schedules.cpu.vectors import shuffled
from tvm_mobilenet.compiler.cpu.load_chains import (
    REGISTER,
    REGISTERS,
    SHORTEST,
    WHOLE,
    Chain,
    Load,
    loaded,
    with_definitions,
)
from tvm_mobilenet.kernels.cpu.attributes import IN_WORDS

LONGEST = 32  # loads of a chain


@tirx.transform.prim_func_pass(opt_level=0, name="NeonLoads")
def neon_loads(
    func: tirx.PrimFunc, _mod: tvm.IRModule, _ctx: tvm.transform.PassContext
) -> tirx.PrimFunc:
    """Load int8 of parameters four registers at once where all of them are read, on 64-bit ARM."""
    if not is_64_bit_arm(func.attrs.get("target")):
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
    called: set[Chain] = set()

    def joined(load: TensorLoad) -> Expr:
        part = None if load.source.name == spared else _part_of(load, local, analyzer)
        if part is None or part.place not in chains[part.chain]:
            return load
        chain = tuple(Load(WHOLE * one) for one in chains[part.chain] if one <= part.place)
        called.add(chain)
        whole = loaded(chain, load.source.vload([part.base]))
        if part.count == REGISTERS:
            return whole
        start = part.first % REGISTERS * REGISTER
        return shuffled(whole, range(start, start + part.count * REGISTER))

    body = tvm_ffi.structural_map(func.body, (TensorLoad, joined))
    return func.with_body(with_definitions(body, called)) if called else func


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
