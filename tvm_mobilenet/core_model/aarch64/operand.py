"""Operands of aarch64 instructions: registers, numbers and memory."""

from __future__ import annotations

import re
from collections.abc import Callable

from tvm_mobilenet.core_model.operation import WORD, Memory, State, Unmodelled

SCALAR = re.compile(r"^([xw])(\d+|zr)$|^(w?sp)$")
VECTOR = re.compile(r"^([qvdshb])(\d+)\b")

Get = Callable[[State], int | None]


def find_register(argument: str) -> tuple[str, int] | None:
    """A scalar register as its whole, and the bits that the operand names; zr is ("", bits)."""
    match = SCALAR.match(argument)
    if match is None:
        return None
    if match[3]:
        return "sp", 32 if match[3] == "wsp" else 64
    bits = 64 if match[1] == "x" else 32
    return ("", bits) if match[2] == "zr" else (f"x{match[2]}", bits)


def find_vector(argument: str) -> str | None:
    match = VECTOR.match(argument.strip("{} "))
    return f"v{match[2]}" if match else None


def number_of(argument: str) -> int:
    return int(argument.lstrip("#"), 0)


def find_memory(arguments: list[str], size: int) -> tuple[Memory, tuple[str, int] | None]:
    """The operand, and (register, step) where the access also moves its base."""
    inside = [part.strip() for part in arguments[0].strip("[]!").split(",")]
    base = find_register(inside[0])
    if base is None:
        raise Unmodelled(f"the model does not know the operand '{arguments[0]}'")
    index, scale, offset, index_bits, symbol = None, 1, 0, WORD, None
    if len(inside) > 1:
        second = inside[1]
        if second.startswith(":"):
            symbol = second.rpartition(":")[2]
        elif (register := find_register(second)) is not None:
            index, bits = register
            how = inside[2].split() if len(inside) > 2 else []
            scale = 1 << number_of(how[1]) if len(how) > 1 else 1
            index_bits = bits
        else:
            offset = number_of(second)
    moved = None
    if arguments[0].endswith("!"):  # before the access
        moved, offset = (base[0], offset), offset
    elif len(arguments) > 1:  # after it
        step = arguments[1]
        moved = (base[0], number_of(step) if step.startswith("#") else 0)
    return Memory(base[0], index or None, scale, offset, size, symbol, index_bits), moved


def address_registers(memory: Memory) -> tuple[str, ...]:
    return tuple(one for one in (memory.base, memory.index) if one)


def getter(argument: str, bits: int | None = None) -> Get:
    if (register := find_register(argument)) is not None:
        name, own = register
        if not name:
            return lambda _: 0
        width = own if bits is None else bits
        return lambda state: state.get(name, width)
    number = number_of(argument)
    return lambda _: number


def registers_read(*arguments: str) -> tuple[str, ...]:
    found = (find_register(one) for one in arguments)
    return tuple(one[0] for one in found if one and one[0])


def setter(argument: str) -> tuple[Callable[[State, int | None], None], tuple[str, ...], int]:
    register = find_register(argument)
    assert register is not None, argument
    name, bits = register
    if not name:
        return lambda _state, _value: None, (), bits
    return lambda state, value: state.put(name, value, bits), (name,), bits
