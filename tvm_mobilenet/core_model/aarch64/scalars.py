"""aarch64 instructions on scalar registers, which the interpreter computes."""

from __future__ import annotations

from collections.abc import Callable

from tvm_mobilenet.core_model.aarch64.conditions import CONDITION_NAMES
from tvm_mobilenet.core_model.aarch64.operand import (
    Get,
    find_register,
    getter,
    number_of,
    registers_read,
    setter,
)
from tvm_mobilenet.core_model.operation import (
    WORD,
    Flags,
    Operation,
    State,
    Unit,
    Unmodelled,
    difference,
    holds,
    signed,
)

Arithmetic = Callable[[int, int, int], int]  # (first, second, bits) → result
BINARY: dict[str, Arithmetic] = {
    "add": lambda a, b, _: a + b,
    "sub": lambda a, b, _: a - b,
    "mul": lambda a, b, _: a * b,
    "and": lambda a, b, _: a & b,
    "orr": lambda a, b, _: a | b,
    "eor": lambda a, b, _: a ^ b,
    "bic": lambda a, b, _: a & ~b,
    "orn": lambda a, b, _: a | ~b,
    "lsl": lambda a, b, bits: a << (b % bits),
    "lsr": lambda a, b, bits: a >> (b % bits),
    "asr": lambda a, b, bits: signed(a, bits) >> (b % bits),
    "sdiv": lambda a, b, bits: _quotient(signed(a, bits), signed(b, bits)),
    "udiv": lambda a, b, _: a // b if b else 0,
    "umulh": lambda a, b, _: a * b >> WORD,
    "smulh": lambda a, b, _: signed(a, WORD) * signed(b, WORD) >> WORD,
    "smull": lambda a, b, _: signed(a, 32) * signed(b, 32),
    "umull": lambda a, b, _: (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF),
}
LINEAR = {"add", "sub", "mul", "lsl", "smull", "umull"}
MULTIPLIES = {"mul", "umulh", "smulh", "smull", "umull"}
SHIFTS = ("lsl", "lsr", "asr")


def _quotient(a: int, b: int) -> int:
    if b == 0:
        return 0
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def decode_scalar(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    if mnemonic in ("nop", "hint", "brk"):
        return Operation(text, "none")
    if mnemonic in ("mov", "movz", "movn", "movk", "adrp", "adr"):
        return _mov(text, mnemonic, arguments)
    if mnemonic in ("cmp", "cmn", "tst"):
        name = {"cmp": "subs", "cmn": "adds", "tst": "ands"}[mnemonic]
        zero = "xzr" if arguments[0].startswith(("x", "sp")) else "wzr"
        return _binary(text, name, [zero, *arguments])
    if mnemonic in ("neg", "negs"):
        zero = "xzr" if arguments[0].startswith("x") else "wzr"
        return _binary(text, "sub" + mnemonic[3:], [arguments[0], zero, *arguments[1:]])
    if mnemonic == "mvn":
        zero = "xzr" if arguments[0].startswith("x") else "wzr"
        return _binary(text, "orn", [arguments[0], zero, *arguments[1:]])
    if mnemonic in BINARY or (mnemonic.endswith("s") and mnemonic[:-1] in BINARY):
        return _binary(text, mnemonic, arguments)
    if mnemonic in ("madd", "msub", "smaddl", "umaddl", "smsubl", "umsubl", "mneg"):
        return _multiply_add(text, mnemonic, arguments)
    if mnemonic in (
        "sxtw",
        "uxtw",
        "sxth",
        "sxtb",
        "uxtb",
        "uxth",
        "ubfx",
        "sbfx",
        "sbfiz",
        "ubfiz",
    ):
        return _bit_field(text, mnemonic, arguments)
    if mnemonic in ("bfi", "bfxil"):
        return _insertion(text, mnemonic, arguments)
    if mnemonic in ("csel", "csinc", "csneg", "csinv", "cset", "csetm", "cinc", "cneg", "cinv"):
        return _choice(text, mnemonic, arguments)
    raise Unmodelled(f"the model does not know the instruction '{text}'")


def _mov(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    put, names, _ = setter(arguments[0])
    source = arguments[1]
    if mnemonic in ("adrp", "adr"):
        symbol = source.rpartition(":")[2]
        return Operation(
            text, "scalar", (), names, effect=lambda s: put(s, s.symbol_address(symbol))
        )
    shift = number_of(arguments[2].split()[1]) if len(arguments) > 2 else 0
    if mnemonic == "movk":
        piece, keep = number_of(source) << shift, ~(0xFFFF << shift)
        get = getter(arguments[0])

        def insert(state: State) -> None:
            value = get(state)
            put(state, None if value is None else value & keep | piece)

        return Operation(text, "scalar", names, names, effect=insert)
    if find_register(source) is None:
        number = number_of(source) << shift
        if mnemonic == "movn":
            number = ~number
        return Operation(text, "scalar", (), names, effect=lambda s: put(s, number))
    move = getter(source)
    return Operation(
        text, "scalar", registers_read(source), names, effect=lambda s: put(s, move(s))
    )


def _modify(arguments: list[str], bits: int) -> Get:
    """A second operand with its shift or extension, or a number shifted."""
    get = getter(arguments[0])
    if len(arguments) == 1:
        return get
    how, _, amount = arguments[1].partition(" ")
    by = number_of(amount) if amount else 0
    if how in SHIFTS:
        shift = BINARY[how]
        return lambda s: None if (v := get(s)) is None else shift(v, by, bits)
    from_bits = {"w": 32, "h": 16, "b": 8, "x": 64}[how[3]]
    sign = how.startswith("s")

    def extended(state: State) -> int | None:
        value = get(state)
        if value is None:
            return None
        value &= (1 << from_bits) - 1
        return (signed(value, from_bits) if sign else value) << by

    return extended


def _binary(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    name = mnemonic if mnemonic in BINARY else mnemonic[:-1]
    sets = mnemonic not in BINARY
    put, names, bits = setter(arguments[0])
    first = getter(arguments[1])
    if arguments[2].startswith(":lo12:"):  # the rest of a symbol's address
        return Operation(
            text, "scalar", registers_read(arguments[1]), names, effect=lambda s: put(s, first(s))
        )
    second = _modify(arguments[2:], bits)
    width = (find_register(arguments[1]) or ("", bits))[1]
    compute = BINARY[name]

    def apply(state: State) -> None:
        a, b = first(state), second(state)
        known = a is not None and b is not None
        result = compute(a, b, width) if known else None  # type: ignore[arg-type]
        put(state, result)
        if sets:
            if not known:
                state.flags = None
            elif name == "sub":
                state.flags = Flags(a, b, width)  # type: ignore[arg-type]
            elif name == "add":
                state.flags = Flags(a, b, width, addition=True)  # type: ignore[arg-type]
            else:
                state.flags = Flags(result or 0, 0, width)

    unit: Unit = "divide" if "div" in name else "multiply" if name in MULTIPLIES else "scalar"
    return Operation(
        text,
        unit,
        registers_read(*arguments[1:]),
        (*names, "flags") if sets else names,
        effect=apply,
        nonlinear=name not in LINEAR,
    )


def _multiply_add(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    put, names, _ = setter(arguments[0])
    bits = 32 if mnemonic.endswith("l") else WORD
    first, second = getter(arguments[1]), getter(arguments[2])
    third = getter(arguments[3]) if len(arguments) > 3 else getter("xzr")
    sign = mnemonic.startswith("s") or bits == WORD
    minus = "sub" in mnemonic or mnemonic == "mneg"

    def apply(state: State) -> None:
        a, b, c = first(state), second(state), third(state)
        if a is None or b is None or c is None:
            put(state, None)
            return
        if sign:
            a, b = signed(a, bits), signed(b, bits)
        put(state, c - a * b if minus else c + a * b)

    return Operation(text, "multiply", registers_read(*arguments[1:]), names, effect=apply)


def _bit_field(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    put, names, _ = setter(arguments[0])
    get = getter(arguments[1])
    if mnemonic[1:3] == "xt":
        low, width, up = 0, {"w": 32, "h": 16, "b": 8}[mnemonic[3]], 0
    else:
        first, width = number_of(arguments[2]), number_of(arguments[3])
        low, up = (first, 0) if mnemonic.endswith("x") else (0, first)
    sign = mnemonic.startswith("s")

    def apply(state: State) -> None:
        value = get(state)
        if value is not None:
            value = value >> low & ((1 << width) - 1)
            value = (signed(value, width) if sign else value) << up
        put(state, value)

    # extending a counter keeps it even
    return Operation(
        text, "scalar", registers_read(arguments[1]), names, effect=apply, nonlinear=bool(low)
    )


def _insertion(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    """Some bits of one register into another, which keeps its others."""
    put, names, _ = setter(arguments[0])
    before, get = getter(arguments[0]), getter(arguments[1])
    first, width = number_of(arguments[2]), number_of(arguments[3])
    low, up = (0, first) if mnemonic == "bfi" else (first, 0)
    mask = (1 << width) - 1

    def insert(state: State) -> None:
        kept, value = before(state), get(state)
        if kept is None or value is None:
            put(state, None)
        else:
            put(state, kept & ~(mask << up) | (value >> low & mask) << up)

    reads = (*names, *registers_read(arguments[1]))
    return Operation(text, "scalar", reads, names, effect=insert, nonlinear=True)


def _choice(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    put, names, _ = setter(arguments[0])
    condition = CONDITION_NAMES[arguments[-1]]
    if mnemonic in ("cset", "csetm"):
        chosen: Get = lambda _: 1 if mnemonic == "cset" else -1  # noqa: E731
        other: Get = lambda _: 0  # noqa: E731
    elif mnemonic in ("cinc", "cneg", "cinv"):
        chosen, other = _change(mnemonic[1:], getter(arguments[1])), getter(arguments[1])
    else:
        chosen = getter(arguments[1])
        other = _change(mnemonic[2:], getter(arguments[2]))

    def choose(state: State) -> None:
        if state.flags is None:
            put(state, None)
            return
        put(
            state,
            (chosen if holds(condition, difference(condition, state.flags)) else other)(state),
        )

    return Operation(
        text,
        "scalar",
        (*registers_read(*arguments[1:-1]), "flags"),
        names,
        effect=choose,
        condition=condition,
    )


CHANGES: dict[str, Callable[[int], int]] = {
    "inc": lambda value: value + 1,
    "neg": lambda value: -value,
    "inv": lambda value: ~value,
}


def _change(how: str, get: Get) -> Get:
    """How csel, csinc, csneg or csinv gets its second operand."""
    if how == "el":
        return get
    change = CHANGES[how]
    return lambda state: None if (value := get(state)) is None else change(value)
