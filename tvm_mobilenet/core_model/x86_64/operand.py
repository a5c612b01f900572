"""Operands of x86-64 instructions: registers and their parts, memory, numbers."""

from __future__ import annotations

import re
from collections.abc import Callable

from tvm_mobilenet.core_model.operation import Memory, State, Unmodelled

STACK_POINTER = "rsp"
Get = Callable[[State], int | None]
_OLD = {"a": "rax", "b": "rbx", "c": "rcx", "d": "rdx"}
_POINTERS = ("si", "di", "bp", "sp")
SIZES = (("", 64), ("d", 32), ("w", 16), ("b", 8))


def _register_names() -> dict[str, tuple[str, int]]:
    names = {f"r{i}{suffix}": (f"r{i}", bits) for i in range(8, 16) for suffix, bits in SIZES}
    for letter, whole in _OLD.items():
        parts = ((whole, 64), (f"e{letter}x", 32), (f"{letter}x", 16), (f"{letter}l", 8))
        names.update({name: (whole, bits) for name, bits in parts})
    for one in _POINTERS:
        parts = ((f"r{one}", 64), (f"e{one}", 32), (one, 16), (f"{one}l", 8))
        names.update({name: (f"r{one}", bits) for name, bits in parts})
    return names


SCALARS = _register_names()  # name → the whole register, bits
WHOLE = {whole for whole, _ in SCALARS.values()}
VECTOR = re.compile(r"^([xyz])mm(\d+)$")
MASK = re.compile(r"^k[0-7]$")
MEMORY = re.compile(r"^([^()]*)\(([^()]*)\)$")


def find_memory(argument: str, size: int) -> Memory | None:
    """The ``size`` bytes of memory that the operand is; None where it is none."""
    match = MEMORY.match(argument)
    if match is None:
        return None
    displacement, inside = (
        match[1],
        [part.strip().removeprefix("%") for part in match[2].split(",")],
    )
    base, index = inside[0] or None, inside[1] if len(inside) > 1 else None
    scale = int(inside[2]) if len(inside) > 2 and inside[2] else 1
    if base == "rip":
        return Memory(None, size=size, symbol=displacement.partition("@")[0])
    try:
        offset = int(displacement, 0) if displacement else 0
    except ValueError:  # a symbol and a register: a table
        return Memory(None, size=size, symbol=displacement)
    return Memory(base, index or None, scale, offset, size)


def address_registers(memory: Memory | None) -> tuple[str, ...]:
    if memory is None:
        return ()
    return tuple(one for one in (memory.base, memory.index) if one is not None)


def is_vector(argument: str) -> bool:
    return argument.startswith(("%xmm", "%ymm", "%zmm", "%k"))


def find_register(argument: str) -> str | None:
    """The whole register that the operand is, or a part of."""
    name = argument.partition(" ")[0].partition("{")[0].strip().removeprefix("%")
    if (vector := VECTOR.match(name)) is not None:
        return f"v{vector[2]}"
    if MASK.match(name):
        return name
    return SCALARS[name][0] if name in SCALARS else None


def getter(argument: str, bits: int) -> tuple[Get, tuple[str, ...], Memory | None]:
    """How to get an operand, the registers it reads, and where it is in memory."""
    if argument.startswith("$"):
        number = int(argument[1:], 0) & ((1 << bits) - 1)
        return lambda _: number, (), None
    name = argument.removeprefix("%")
    if name in SCALARS:
        whole, _ = SCALARS[name]
        return lambda state: state.get(whole, bits), (whole,), None
    memory = find_memory(argument, bits // 8)
    if memory is None:
        raise Unmodelled(f"the model does not know the operand '{argument}'")
    return lambda state: state.load(memory), address_registers(memory), memory


def setter(argument: str, bits: int) -> tuple[Callable[[State, int | None], None], str | None]:
    """How to set an operand, and its register."""
    name = argument.removeprefix("%")
    if name in SCALARS:
        whole = SCALARS[name][0]
        if bits >= 32:
            return lambda state, value: state.put(whole, value, bits), whole

        def put_part(state: State, value: int | None) -> None:
            before = state.get(whole) or 0  # where the rest is unknown nothing reads it
            mask = (1 << bits) - 1
            state.put(whole, None if value is None else (before & ~mask) | (value & mask))

        return put_part, whole
    memory = find_memory(argument, bits // 8)
    if memory is None:
        raise Unmodelled(f"the model does not know the operand '{argument}'")

    return lambda state, value: state.store(memory, value), None
