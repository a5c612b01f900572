"""Arithmetic of x86-64's scalar instructions, and the flags that it leaves."""

from __future__ import annotations

from collections.abc import Callable

from tvm_mobilenet.core_model.operation import (
    Effect,
    Flags,
    Memory,
    Operation,
    State,
    Unit,
    difference,
    holds,
    signed,
)
from tvm_mobilenet.core_model.x86_64.operand import find_memory, getter, setter

Arithmetic = Callable[[int, int, int], int]  # (destination, source, bits) → result
ONE_OPERAND: dict[str, Callable[[int, int], int]] = {
    "inc": lambda a, _: a + 1,
    "dec": lambda a, _: a - 1,
    "neg": lambda a, _: -a,
    "not": lambda a, _: ~a,
}
TWO_OPERANDS: dict[str, Arithmetic] = {
    "add": lambda a, b, _: a + b,
    "sub": lambda a, b, _: a - b,
    "imul": lambda a, b, bits: signed(a, bits) * signed(b, bits),
    "and": lambda a, b, _: a & b,
    "or": lambda a, b, _: a | b,
    "xor": lambda a, b, _: a ^ b,
    "shl": lambda a, b, bits: a << (b % bits),
    "sal": lambda a, b, bits: a << (b % bits),
    "shr": lambda a, b, bits: a >> (b % bits),
    "sar": lambda a, b, bits: signed(a, bits) >> (b % bits),
    "shlx": lambda a, b, bits: a << (b % bits),
    "shrx": lambda a, b, bits: a >> (b % bits),
    "sarx": lambda a, b, bits: signed(a, bits) >> (b % bits),
    "rol": lambda a, b, bits: (a << (b % bits)) | (a >> (-b % bits)),
    "ror": lambda a, b, bits: (a >> (b % bits)) | (a << (-b % bits)),
    "rorx": lambda a, b, bits: (a >> (b % bits)) | (a << (-b % bits)),
    "andn": lambda a, b, _: a & ~b,
}
WITH_CARRY = {"sbb": -1, "adc": 1}
LINEAR = {"add", "sub", "inc", "dec", "neg", "not", "imul", "shl", "sal", "shlx"}


def decode_arithmetic(text: str, base: str, arguments: list[str], bits: int) -> Operation:
    """Of one operand or two, or of two and a destination: ``imul $3, a, b``."""
    *given, destination = arguments
    sources = [getter(one, bits) for one in given]
    put, register = setter(destination, bits)
    before, kept, before_memory = getter(destination, bits)
    zero = base in ("xor", "sub") and given == [destination]
    if len(given) == 2:  # imul $3, a, b; shlx count, a, b
        (second, *_), (first, *_) = sources
    elif base in ONE_OPERAND:
        first = second = before
    elif sources:
        first, (second, *_) = before, sources[0]
    else:  # shr %eax: by one
        first, second = before, lambda _: 1
    reads = {name for _, names, _ in sources for name in names}
    if len(given) < 2:
        reads |= set(kept)
    memory = before_memory or next((one[2] for one in sources if one[2]), None)

    def compute(state: State) -> None:
        a, b = (0, 0) if zero else (first(state), second(state))
        if a is None or b is None:
            put(state, None)
            state.flags = None
            return
        if base in ONE_OPERAND:
            result = ONE_OPERAND[base](a, bits)
        else:
            result = TWO_OPERANDS[base](a, b, bits)
        put(state, result)
        mask = (1 << bits) - 1
        if base == "sub":
            state.flags = Flags(a, b, bits)
        elif base == "add":
            state.flags = Flags(a, b, bits, addition=True)
        elif base == "neg":
            state.flags = Flags(0, a, bits)
        elif not base.endswith("x") and base != "not":
            state.flags = Flags(result & mask, 0, bits)

    stored = find_memory(destination, bits // 8) if register is None else None
    return Operation(
        text,
        "none" if zero else "multiply" if base == "imul" else "scalar",
        () if zero else tuple(reads),
        (*((register,) if register else ()), "flags"),
        memory or stored,
        loads=1 if memory else 0,
        stores=1 if stored else 0,
        effect=compute,
        nonlinear=base not in LINEAR and not zero,
    )


def decode_with_carry(text: str, sign: int, arguments: list[str], bits: int) -> Operation:
    get, reads, memory = getter(arguments[0], bits)
    put, register = setter(arguments[1], bits)
    before, kept, _ = getter(arguments[1], bits)

    def compute(state: State) -> None:
        a, b, flags = before(state), get(state), state.flags
        same = arguments[0] == arguments[1] and sign < 0  # all bits the carry, whatever it was
        if flags is None or (not same and (a is None or b is None)):
            put(state, None)
        else:
            carry = holds("b", difference("b", flags))
            put(state, -carry if same else (a or 0) + sign * ((b or 0) + carry))
        state.flags = None

    return make_operation(
        text,
        "scalar",
        (*reads, *kept, "flags"),
        register,
        memory,
        None,
        compute,
        nonlinear=True,
        flags=True,
    )


def make_operation(
    text: str,
    unit: Unit,
    reads: tuple[str, ...],
    destination: str | None,
    memory: Memory | None,
    stored: Memory | None,
    effect: Effect,
    *,
    nonlinear: bool = False,
    flags: bool = False,
) -> Operation:
    writes = (destination,) if destination else ()
    return Operation(
        text,
        unit,
        reads,
        (*writes, "flags") if flags else writes,
        memory or stored,
        loads=1 if memory else 0,
        stores=1 if stored else 0,
        effect=effect,
        nonlinear=nonlinear,
    )
