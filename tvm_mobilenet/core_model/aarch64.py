"""aarch64 instructions, as far as LLVM's code for our kernels has them."""

from __future__ import annotations

import re
from collections.abc import Callable

from tvm_mobilenet.core_model.listing import operands
from tvm_mobilenet.core_model.operation import (
    WORD,
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

COMMENT = "//"
STACK_POINTER = "sp"
ARGUMENTS = ("x0", "x1", "x2", "x3", "x4", "x5")
RESULT = "x0"

SCALAR = re.compile(r"^([xw])(\d+|zr)$|^(w?sp)$")
VECTOR = re.compile(r"^([qvdshb])(\d+)\b")
# products of bytes and of bfloat16 go where FMAs go
NARROW_PRODUCT = re.compile(r"^(?:sdot|smmla|smull2?|smlal2?|bfdot|bfmmla)$")
# what reads the register that it writes: it adds to it, or leaves a part of it
KEEPING = {"fmla", "fmls", "mla", "mls", "ins", "bit", "bif", "bsl", "sdot", "smmla"} | {
    *("smlal", "smlal2", "sadalp", "sqxtn2", "sqxtun2", "xtn2", "bfdot", "bfmmla", "bfcvtn2")
}
VECTOR_BYTES = {"q": 16, "v": 16, "d": 8, "s": 4, "h": 2, "b": 1}
FMA = re.compile(r"^f(?:n?m(?:add|sub)|ml[as])$")
CONDITION_NAMES = {
    "eq": "e", "ne": "ne", "lt": "l", "le": "le", "gt": "g", "ge": "ge", "lo": "b", "cc": "b",
    "ls": "be", "hi": "a", "hs": "ae", "cs": "ae", "mi": "s", "pl": "ns",
}  # fmt: skip
LOADS = {"ldr": 0, "ldur": 0, "ldrb": 1, "ldrh": 2, "ldrsw": 4, "ldursw": 4, "ldrsb": 1,
         "ldrsh": 2, "ldurb": 1, "ldp": 0, "ldpsw": 4, "ldnp": 0}  # fmt: skip
STORES = {"str": 0, "stur": 0, "strb": 1, "strh": 2, "sturb": 1, "stp": 0, "stnp": 0}
PAIRS = ("ldp", "stp", "ldnp", "stnp", "ldpsw")
STRUCTURES = re.compile(r"^(ld|st)[1-4]r?$")

Get = Callable[[State], int | None]


def decode(text: str) -> Operation:
    """The operation of one instruction. Raises Unmodelled for one that is not known."""
    mnemonic, arguments = operands(text)
    if (control := _control(text, mnemonic, arguments)) is not None:
        return control
    if mnemonic in LOADS or mnemonic in STORES:
        return _memory_access(text, mnemonic, arguments)
    if STRUCTURES.match(mnemonic):
        return _structure(text, mnemonic, arguments)
    if mnemonic.startswith("prf"):
        memory = _memory(arguments[1:], 64)[0]
        return Operation(text, "none", _address_registers(memory), memory=memory, loads=1)
    if any(_vector(one) for one in arguments):
        return _vector_operation(text, mnemonic, arguments)
    return _scalar(text, mnemonic, arguments)


# ---------------------------------------------------------------- operands


def _register(argument: str) -> tuple[str, int] | None:
    """A scalar register as its whole, and the bits that the operand names; zr is ("", bits)."""
    match = SCALAR.match(argument)
    if match is None:
        return None
    if match[3]:
        return "sp", 32 if match[3] == "wsp" else 64
    bits = 64 if match[1] == "x" else 32
    return ("", bits) if match[2] == "zr" else (f"x{match[2]}", bits)


def _vector(argument: str) -> str | None:
    match = VECTOR.match(argument.strip("{} "))
    return f"v{match[2]}" if match else None


def _number(argument: str) -> int:
    return int(argument.lstrip("#"), 0)


def _memory(arguments: list[str], size: int) -> tuple[Memory, tuple[str, int] | None]:
    """The operand, and (register, step) where the access also moves its base."""
    inside = [part.strip() for part in arguments[0].strip("[]!").split(",")]
    base = _register(inside[0])
    if base is None:
        raise Unmodelled(f"the model does not know the operand '{arguments[0]}'")
    index, scale, offset, index_bits, symbol = None, 1, 0, WORD, None
    if len(inside) > 1:
        second = inside[1]
        if second.startswith(":"):
            symbol = second.rpartition(":")[2]
        elif (register := _register(second)) is not None:
            index, bits = register
            how = inside[2].split() if len(inside) > 2 else []
            scale = 1 << _number(how[1]) if len(how) > 1 else 1
            index_bits = bits
        else:
            offset = _number(second)
    moved = None
    if arguments[0].endswith("!"):  # before the access
        moved, offset = (base[0], offset), offset
    elif len(arguments) > 1:  # after it
        step = arguments[1]
        moved = (base[0], _number(step) if step.startswith("#") else 0)
    return Memory(base[0], index or None, scale, offset, size, symbol, index_bits), moved


def _address_registers(memory: Memory) -> tuple[str, ...]:
    return tuple(one for one in (memory.base, memory.index) if one)


def _get(argument: str, bits: int | None = None) -> Get:
    if (register := _register(argument)) is not None:
        name, own = register
        if not name:
            return lambda _: 0
        width = own if bits is None else bits
        return lambda state: state.get(name, width)
    number = _number(argument)
    return lambda _: number


def _reads(*arguments: str) -> tuple[str, ...]:
    found = (_register(one) for one in arguments)
    return tuple(one[0] for one in found if one and one[0])


def _put(argument: str) -> tuple[Callable[[State, int | None], None], tuple[str, ...], int]:
    register = _register(argument)
    assert register is not None, argument
    name, bits = register
    if not name:
        return lambda _state, _value: None, (), bits
    return lambda state, value: state.put(name, value, bits), (name,), bits


# ---------------------------------------------------------------- memory


def _memory_access(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    count = 2 if mnemonic in PAIRS else 1
    registers, where = arguments[:count], arguments[count:]
    loading = mnemonic in LOADS
    size = (LOADS if loading else STORES)[mnemonic] or _size(registers[0])
    memory, moved = _memory(where, size)
    whole = [_vector(one) or (_register(one) or ("", WORD))[0] for one in registers]
    names = [name for name in whole if name]  # without zr
    address = _address_registers(memory)
    writes = (*(names if loading else []), *([moved[0]] if moved else []))
    return Operation(
        text,
        "none",
        address if loading else (*names, *address),
        writes,
        memory,
        loads=count if loading else 0,
        stores=0 if loading else count,
        effect=_access(mnemonic, registers, memory, moved, loading=loading),
    )


def _size(register: str) -> int:
    if (match := VECTOR.match(register)) is not None:
        return VECTOR_BYTES[match[1]]
    return 4 if register.startswith("w") else 8


def _access(
    mnemonic: str,
    registers: list[str],
    memory: Memory,
    moved: tuple[str, int] | None,
    *,
    loading: bool,
) -> Effect | None:
    scalars = [None if _vector(one) else one for one in registers]
    if not any(scalars) and moved is None:
        return None

    def access(state: State) -> None:
        for place, register in enumerate(scalars):
            if register is None:
                continue
            part = Memory(
                memory.base, memory.index, memory.scale, memory.offset + place * memory.size,
                memory.size, None, memory.index_bits,
            )  # fmt: skip
            if not loading:
                state.store(part, _get(register)(state))
            elif memory.symbol is not None:
                _put(register)[0](state, state.symbol_address(memory.symbol))
            else:
                value = state.load(part)
                extend = value is not None and mnemonic.startswith(("ldrs", "ldurs", "ldps"))
                _put(register)[0](state, signed(value, 8 * part.size) if extend else value)  # type: ignore[arg-type]
        if moved is not None:
            base = state.get(moved[0])
            state.put(moved[0], None if base is None else base + moved[1])

    return access


def _structure(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    place = next(i for i, one in enumerate(arguments) if one.startswith("["))
    names = [name for one in ",".join(arguments[:place]).strip("{} ").split(",")
             if (name := _vector(one.strip()))]  # fmt: skip
    memory, moved = _memory(arguments[place:], 16)
    loading = mnemonic.startswith("ld")
    lane = "]" in arguments[place - 1]  # one lane of a register that keeps the others
    address = _address_registers(memory)
    reads = (*names, *address) if not loading or lane else address
    return Operation(
        text,
        "vector" if loading else "none",
        reads,
        (*(names if loading else []), *([moved[0]] if moved else [])),
        memory,
        loads=len(names) if loading else 0,
        stores=0 if loading else len(names),
        effect=_access(mnemonic, names, memory, moved, loading=loading),
    )


# ---------------------------------------------------------------- vectors


def _vector_operation(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    destination, *sources = arguments
    reads = [name for one in sources if (name := _vector(one))] + list(_reads(*sources))
    written = _vector(destination)
    if written is None:  # a lane, or a comparison's flags, into a scalar register
        if _register(destination) is None or mnemonic.startswith("fcmp"):
            return Operation(text, "vector", tuple(reads), ("flags",), effect=_forget_flags)
        put, names, _ = _put(destination)
        return Operation(
            text, "vector", tuple(reads), names, effect=lambda s: put(s, None), nonlinear=True
        )
    if mnemonic.startswith("fcmp"):
        return Operation(text, "vector", (*reads, written), ("flags",), effect=_forget_flags)
    if mnemonic == "movi" and sources and _number(sources[0].split()[0]) == 0:
        return Operation(text, "none", (), (written,))  # zero, known without waiting
    fma = bool(FMA.match(mnemonic) or NARROW_PRODUCT.match(mnemonic))
    keeps = mnemonic in KEEPING or (mnemonic == "mov" and "[" in destination)
    if keeps:
        reads.append(written)
    return Operation(text, "fma" if fma else "vector", tuple(reads), (written,))


def _forget_flags(state: State) -> None:
    state.flags = None


# ---------------------------------------------------------------- control


def _control(text: str, mnemonic: str, arguments: list[str]) -> Operation | None:
    if mnemonic == "b":
        return Operation(text, "scalar", control="jump", target=arguments[0])
    if mnemonic.startswith("b."):
        condition = CONDITION_NAMES.get(mnemonic[2:])
        if condition is None:
            raise Unmodelled(f"the model does not know the instruction '{text}'")
        return Operation(
            text, "scalar", ("flags",), condition=condition, control="branch", target=arguments[0]
        )
    if mnemonic in ("cbz", "cbnz", "tbz", "tbnz"):
        return _test_branch(text, mnemonic, arguments)
    if mnemonic in ("bl", "blr"):
        return Operation(text, "scalar", control="call", target=arguments[0])
    if mnemonic == "ret":
        return Operation(text, "scalar", control="return")
    return None


def _test_branch(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    bit = _number(arguments[1]) if mnemonic.startswith("t") else None
    get = _get(arguments[0])
    bits = (_register(arguments[0]) or ("", 64))[1]

    def test(state: State) -> None:
        value = get(state)
        if value is None:
            state.flags = None
        else:
            state.flags = Flags(value if bit is None else value >> bit & 1, 0, bits)

    return Operation(
        text,
        "scalar",
        _reads(arguments[0]),
        effect=test,
        nonlinear=bit is not None,
        condition="ne" if "n" in mnemonic else "e",
        control="branch",
        target=arguments[-1],
    )


# ---------------------------------------------------------------- scalars

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


def _scalar(text: str, mnemonic: str, arguments: list[str]) -> Operation:
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
    put, names, _ = _put(arguments[0])
    source = arguments[1]
    if mnemonic in ("adrp", "adr"):
        symbol = source.rpartition(":")[2]
        return Operation(
            text, "scalar", (), names, effect=lambda s: put(s, s.symbol_address(symbol))
        )
    shift = _number(arguments[2].split()[1]) if len(arguments) > 2 else 0
    if mnemonic == "movk":
        piece, keep = _number(source) << shift, ~(0xFFFF << shift)
        get = _get(arguments[0])

        def insert(state: State) -> None:
            value = get(state)
            put(state, None if value is None else value & keep | piece)

        return Operation(text, "scalar", names, names, effect=insert)
    if _register(source) is None:
        number = _number(source) << shift
        if mnemonic == "movn":
            number = ~number
        return Operation(text, "scalar", (), names, effect=lambda s: put(s, number))
    move = _get(source)
    return Operation(text, "scalar", _reads(source), names, effect=lambda s: put(s, move(s)))


def _modify(arguments: list[str], bits: int) -> Get:
    """A second operand with its shift or extension, or a number shifted."""
    get = _get(arguments[0])
    if len(arguments) == 1:
        return get
    how, _, amount = arguments[1].partition(" ")
    by = _number(amount) if amount else 0
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
    put, names, bits = _put(arguments[0])
    first = _get(arguments[1])
    if arguments[2].startswith(":lo12:"):  # the rest of a symbol's address
        return Operation(
            text, "scalar", _reads(arguments[1]), names, effect=lambda s: put(s, first(s))
        )
    second = _modify(arguments[2:], bits)
    width = (_register(arguments[1]) or ("", bits))[1]
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
        _reads(*arguments[1:]),
        (*names, "flags") if sets else names,
        effect=apply,
        nonlinear=name not in LINEAR,
    )


def _multiply_add(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    put, names, _ = _put(arguments[0])
    bits = 32 if mnemonic.endswith("l") else WORD
    first, second = _get(arguments[1]), _get(arguments[2])
    third = _get(arguments[3]) if len(arguments) > 3 else _get("xzr")
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

    return Operation(text, "multiply", _reads(*arguments[1:]), names, effect=apply)


def _bit_field(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    put, names, _ = _put(arguments[0])
    get = _get(arguments[1])
    if mnemonic[1:3] == "xt":
        low, width, up = 0, {"w": 32, "h": 16, "b": 8}[mnemonic[3]], 0
    else:
        first, width = _number(arguments[2]), _number(arguments[3])
        low, up = (first, 0) if mnemonic.endswith("x") else (0, first)
    sign = mnemonic.startswith("s")

    def apply(state: State) -> None:
        value = get(state)
        if value is not None:
            value = value >> low & ((1 << width) - 1)
            value = (signed(value, width) if sign else value) << up
        put(state, value)

    # extending a counter keeps it even
    return Operation(text, "scalar", _reads(arguments[1]), names, effect=apply, nonlinear=bool(low))


def _insertion(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    """Some bits of one register into another, which keeps its others."""
    put, names, _ = _put(arguments[0])
    before, get = _get(arguments[0]), _get(arguments[1])
    first, width = _number(arguments[2]), _number(arguments[3])
    low, up = (0, first) if mnemonic == "bfi" else (first, 0)
    mask = (1 << width) - 1

    def insert(state: State) -> None:
        kept, value = before(state), get(state)
        if kept is None or value is None:
            put(state, None)
        else:
            put(state, kept & ~(mask << up) | (value >> low & mask) << up)

    reads = (*names, *_reads(arguments[1]))
    return Operation(text, "scalar", reads, names, effect=insert, nonlinear=True)


def _choice(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    put, names, _ = _put(arguments[0])
    condition = CONDITION_NAMES[arguments[-1]]
    if mnemonic in ("cset", "csetm"):
        chosen: Get = lambda _: 1 if mnemonic == "cset" else -1  # noqa: E731
        other: Get = lambda _: 0  # noqa: E731
    elif mnemonic in ("cinc", "cneg", "cinv"):
        chosen, other = _change(mnemonic[1:], _get(arguments[1])), _get(arguments[1])
    else:
        chosen = _get(arguments[1])
        other = _change(mnemonic[2:], _get(arguments[2]))

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
        (*_reads(*arguments[1:-1]), "flags"),
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
