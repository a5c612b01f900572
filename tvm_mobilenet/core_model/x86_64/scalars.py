"""x86-64 instructions on scalar registers, which the interpreter computes."""

from __future__ import annotations

import re

from tvm_mobilenet.core_model.operation import (
    Effect,
    Flags,
    Memory,
    Operation,
    State,
    Unit,
    Unmodelled,
    difference,
    holds,
    signed,
)
from tvm_mobilenet.core_model.x86_64.arithmetic import (
    ONE_OPERAND,
    TWO_OPERANDS,
    WITH_CARRY,
    decode_arithmetic,
    decode_with_carry,
    make_operation,
)
from tvm_mobilenet.core_model.x86_64.conditions import CONDITION_NAMES
from tvm_mobilenet.core_model.x86_64.operand import (
    SCALARS,
    STACK_POINTER,
    Get,
    address_registers,
    find_memory,
    getter,
    setter,
)

BITS = {"b": 8, "w": 16, "l": 32, "q": 64}


def decode_scalar(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    """The operation of any other instruction. Raises Unmodelled for one that is not known."""
    if mnemonic in ("nop", "nopw", "nopl", "endbr64", "ud2"):
        return Operation(text, "none")
    if mnemonic in ("cltd", "cqto", "cltq"):
        return _extension(text, mnemonic)
    if mnemonic.startswith("cmov"):
        return _cmov(text, mnemonic, arguments)
    if mnemonic.startswith("set") and mnemonic[3:] in CONDITION_NAMES:
        return _choice(text, CONDITION_NAMES[mnemonic[3:]], lambda _: 1, lambda _: 0, arguments[0])
    if mnemonic in ("push", "pushq", "pop", "popq"):
        return _stack(text, mnemonic[:3] if mnemonic.startswith("pop") else "push", arguments[0])
    for prefix, wide in (("movs", True), ("movz", False)):
        if re.fullmatch(prefix + r"[bwl][wlq]", mnemonic):
            return _extend(text, arguments, BITS[mnemonic[4]], BITS[mnemonic[5]], sign=wide)
    base, bits = _split(mnemonic, arguments)
    if base in ("mov", "movabs"):
        return _mov(text, arguments, bits)
    if base == "lea":
        return _lea(text, arguments, bits)
    if base in ("cmp", "test"):
        return _compare(text, base, arguments, bits)
    if base in ("idiv", "div"):
        return _divide(text, base, arguments[0], bits)
    if base in ONE_OPERAND and len(arguments) == 1:
        return decode_arithmetic(text, base, arguments, bits)
    if base in WITH_CARRY:
        return decode_with_carry(text, WITH_CARRY[base], arguments, bits)
    if base in TWO_OPERANDS:
        return decode_arithmetic(text, base, arguments, bits)
    raise Unmodelled(f"the model does not know the instruction '{text}'")


def _split(mnemonic: str, arguments: list[str]) -> tuple[str, int]:
    """The instruction without its suffix, and the operands' bits."""
    for known in (
        "movabs",
        "mov",
        "lea",
        "cmp",
        "test",
        "idiv",
        "div",
        *ONE_OPERAND,
        *TWO_OPERANDS,
        *WITH_CARRY,
    ):
        rest = mnemonic.removeprefix(known)
        if mnemonic.startswith(known) and (rest == "" or rest in BITS):
            if rest:
                return known, BITS[rest]
            name = arguments[-1].removeprefix("%")
            return known, SCALARS[name][1] if name in SCALARS else 64
    raise Unmodelled(f"the model does not know the instruction '{mnemonic}'")


def _mov(text: str, arguments: list[str], bits: int) -> Operation:
    source, destination = arguments
    put, register = setter(destination, bits)
    if (source.endswith("(%rip)") and "@GOT" in source) or source.startswith("$."):
        symbol = source.strip("$").partition("@")[0]
        effect: Effect = lambda state: put(state, state.symbol_address(symbol))  # noqa: E731
        return make_operation(text, "none", (), register, None, None, effect)
    get, reads, memory = getter(source, bits)
    stored = None if register else find_memory(destination, bits // 8)
    reads = (*reads, *address_registers(stored))
    if bits < 32 and register:
        reads = (*reads, register)
    unit: Unit = "scalar" if memory is None and stored is None and reads else "none"
    return make_operation(
        text, unit, reads, register, memory, stored, lambda state: put(state, get(state))
    )


def _lea(text: str, arguments: list[str], bits: int) -> Operation:
    memory = find_memory(arguments[0], 8)
    put, register = setter(arguments[1], bits)
    assert memory is not None, text
    if memory.symbol is not None:
        symbol = memory.symbol
        return make_operation(
            text, "scalar", (), register, None, None,
            lambda state: put(state, state.symbol_address(symbol)),
        )  # fmt: skip
    reads = address_registers(memory)
    return make_operation(
        text, "scalar", reads, register, None, None, lambda state: put(state, state.address(memory))
    )


def _compare(text: str, base: str, arguments: list[str], bits: int) -> Operation:
    # AT&T order: cmp b, a compares a with b
    right, right_reads, right_memory = getter(arguments[0], bits)
    left, left_reads, left_memory = getter(arguments[1], bits)
    memory = left_memory or right_memory
    same = arguments[0] == arguments[1]

    def compare(state: State) -> None:
        a, b = left(state), right(state)
        if a is None or b is None:
            state.flags = None
        elif base == "cmp":
            state.flags = Flags(a, b, bits)
        else:
            state.flags = Flags(a & b, 0, bits)

    return Operation(
        text,
        "scalar",
        tuple({*left_reads, *right_reads}),
        ("flags",),
        memory,
        loads=1 if memory else 0,
        effect=compare,
        nonlinear=base == "test" and not same,
    )


def _cmov(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    name = mnemonic[4:]
    if name not in CONDITION_NAMES:
        name = name[:-1]  # cmovll: the last letter is the size
    bits = SCALARS[arguments[1].removeprefix("%")][1]
    get, reads, memory = getter(arguments[0], bits)
    keep, kept, _ = getter(arguments[1], bits)
    return _choice(
        text, CONDITION_NAMES[name], get, keep, arguments[1], (*reads, *kept), memory, bits=bits
    )


def _choice(
    text: str,
    condition: str,
    yes: Get,
    no: Get,
    destination: str,
    reads: tuple[str, ...] = (),
    memory: Memory | None = None,
    *,
    bits: int = 8,
) -> Operation:
    put, register = setter(destination, bits)

    def choose(state: State) -> None:
        if state.flags is None:
            put(state, None)
            return
        put(state, (yes if holds(condition, difference(condition, state.flags)) else no)(state))

    return Operation(
        text,
        "scalar",
        (*reads, "flags"),
        (register,) if register else (),
        memory,
        loads=1 if memory else 0,
        effect=choose,
        condition=condition,
    )


def _stack(text: str, what: str, argument: str) -> Operation:
    if what == "push":
        get, reads, _ = getter(argument, 64)

        def push(state: State) -> None:
            top = state.get(STACK_POINTER)
            assert top is not None
            state.words[top - 8] = get(state)
            state.put(STACK_POINTER, top - 8)

        where = Memory(STACK_POINTER, offset=-8)
        return Operation(text, "none", reads, (), where, stores=1, effect=push)
    put, register = setter(argument, 64)

    def pop(state: State) -> None:
        top = state.get(STACK_POINTER)
        assert top is not None
        put(state, state.words.get(top))
        state.put(STACK_POINTER, top + 8)

    where = Memory(STACK_POINTER)
    return Operation(text, "none", (), (register,) if register else (), where, 1, effect=pop)


def _extension(text: str, mnemonic: str) -> Operation:
    def extend(state: State) -> None:
        bits = 64 if mnemonic == "cqto" else 32
        value = state.get("rax", bits)
        number = None if value is None else signed(value, bits)
        if mnemonic == "cltq":
            state.put("rax", number)
        else:
            state.put("rdx", None if number is None else (-1 if number < 0 else 0), bits)

    into = "rax" if mnemonic == "cltq" else "rdx"
    return Operation(text, "scalar", ("rax",), (into,), effect=extend)


def _extend(text: str, arguments: list[str], narrow: int, wide: int, *, sign: bool) -> Operation:
    get, reads, memory = getter(arguments[0], narrow)
    put, register = setter(arguments[1], wide)

    def extend(state: State) -> None:
        value = get(state)
        put(state, signed(value, narrow) if sign and value is not None else value)

    return make_operation(
        text, "none" if memory else "scalar", reads, register, memory, None, extend
    )


def _divide(text: str, base: str, argument: str, bits: int) -> Operation:
    get, reads, memory = getter(argument, bits)

    def divide(state: State) -> None:
        low, high, by = state.get("rax", bits), state.get("rdx", bits), get(state)
        quotient: int | None = None
        remainder: int | None = None
        if low is not None and high is not None and by:
            whole = (high << bits) | low
            if base == "idiv":
                whole, by = signed(whole, 2 * bits), signed(by, bits)
            quotient = abs(whole) // abs(by) * (1 if (whole < 0) == (by < 0) else -1)
            remainder = whole - quotient * by
        state.put("rax", quotient, bits)
        state.put("rdx", remainder, bits)

    return Operation(
        text,
        "divide",
        ("rax", "rdx", *reads),
        ("rax", "rdx", "flags"),
        memory,
        loads=1 if memory else 0,
        effect=divide,
        nonlinear=True,
    )
