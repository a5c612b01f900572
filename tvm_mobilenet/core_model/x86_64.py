"""x86-64 instructions (AT&T syntax), as far as LLVM's code for our kernels has them."""

from __future__ import annotations

import re
from collections.abc import Callable

from tvm_mobilenet.core_model.listing import operands
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

COMMENT = "#"
STACK_POINTER = "rsp"
ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
RESULT = "rax"

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
VECTOR = re.compile(r"^([xyz])mm(\d+)$")
VECTOR_BYTES = {"x": 16, "y": 32, "z": 64}
MASK = re.compile(r"^k[0-7]$")
MEMORY = re.compile(r"^([^()]*)\(([^()]*)\)$")
FMA = re.compile(r"^vfn?m(?:add|sub)\d+[ps][sd]$")
# dot products into 32-bit lanes: in the multipliers, as FMAs are, and about as long
DOT_PRODUCT = re.compile(r"^vpdp(?:busds?|wssds?)$")
# what reads less than its register holds from memory, and what stores less
BROADCAST_ELEMENT = re.compile(r"^vp?broadcast(ss|sd|[bwdq])$")
WIDENING = re.compile(r"^vpmov[sz]x([bwd])([wdq])$")
NARROWING = re.compile(r"^vpmov(?:u?s)?([qdw])([bwd])$")
ELEMENT_BYTES = {"b": 1, "w": 2, "d": 4, "q": 8, "ss": 4, "sd": 8}
BITS = {"b": 8, "w": 16, "l": 32, "q": 64}
CONDITION_NAMES = {
    "e": "e", "z": "e", "ne": "ne", "nz": "ne", "l": "l", "nge": "l", "le": "le", "g": "g",
    "ge": "ge", "nl": "ge", "b": "b", "c": "b", "ae": "ae", "nc": "ae", "nb": "ae", "be": "be",
    "a": "a", "s": "s", "ns": "ns",
}  # fmt: skip
PREFIX = re.compile(r"^(?:rep |lock |\{vex\} )")
BROADCAST = re.compile(r"\{1to\d+\}")
MASKED = re.compile(r"\{%(k[1-7])\}")


def decode(text: str) -> Operation:
    """The operation of one instruction. Raises Unmodelled for one that is not known."""
    mnemonic, arguments = operands(PREFIX.sub("", text))
    if mnemonic.startswith(("v", "k", "prefetch")) or any(_is_vector(one) for one in arguments):
        return _vector(text, mnemonic, arguments)
    control = _control(text, mnemonic, arguments)
    return control or _scalar(text, mnemonic, arguments)


# ---------------------------------------------------------------- operands


def _memory(argument: str, size: int) -> Memory | None:
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


def _address_registers(memory: Memory | None) -> tuple[str, ...]:
    if memory is None:
        return ()
    return tuple(one for one in (memory.base, memory.index) if one is not None)


def _is_vector(argument: str) -> bool:
    return argument.startswith(("%xmm", "%ymm", "%zmm", "%k"))


def _register(argument: str) -> str | None:
    """The whole register that the operand is, or a part of."""
    name = argument.partition(" ")[0].partition("{")[0].strip().removeprefix("%")
    if (vector := VECTOR.match(name)) is not None:
        return f"v{vector[2]}"
    if MASK.match(name):
        return name
    return SCALARS[name][0] if name in SCALARS else None


# ---------------------------------------------------------------- vectors


def _vector(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    if mnemonic.startswith("prefetch"):
        memory = _memory(arguments[0], 64)
        return Operation(text, "none", _address_registers(memory), memory=memory, loads=1)
    if mnemonic in ("vzeroupper", "vzeroall"):
        return Operation(text, "none")
    *sources, destination = arguments
    mask = MASKED.search(destination)
    width = _width(arguments)
    bare = destination.partition("{")[0].strip()
    if MEMORY.match(bare):
        memory = _memory(bare, _stored_bytes(mnemonic, width))
        reads = [one for one in map(_register, sources) if one]
        return Operation(
            text,
            "vector" if NARROWING.match(mnemonic) else "none",
            (*reads, *_address_registers(memory)),
            memory=memory,
            stores=1,
        )
    plain = [BROADCAST.sub("", one).strip() for one in sources]
    in_all_lanes = any(BROADCAST.search(one) for one in sources)
    size = 4 if in_all_lanes else _loaded_bytes(mnemonic, width)
    memory = next((m for one in plain if (m := _memory(one.partition(" {")[0], size))), None)
    reads = [one for one in map(_register, plain) if one]
    written = _register(destination)
    assert written is not None, text
    same = len(reads) == 2 and reads[0] == reads[1] and memory is None
    if "xor" in mnemonic and same:
        return Operation(text, "none", (), (written,))  # zero, known without waiting
    fma = bool(FMA.match(mnemonic) or DOT_PRODUCT.match(mnemonic))
    if fma or (mask and "{z}" not in destination):
        reads.append(written)
    if mask:
        reads.append(mask[1])
    moves = mnemonic.startswith(("vmov", "vbroadcast", "vpbroadcast", "kmov"))
    # a load that arrives as it is needs no other unit
    unit: Unit = "fma" if fma else "none" if moves and memory and not mask else "vector"
    if moves and memory is None and mnemonic.startswith(("vmova", "vmovu")) and not mask:
        unit = "none"  # renamed
    return Operation(
        text,
        unit,
        (*reads, *_address_registers(memory)),
        (written,),
        memory,
        loads=1 if memory else 0,
        effect=_forget(written) if written in _WHOLE else None,
        nonlinear=written in _WHOLE,
    )


def _loaded_bytes(mnemonic: str, width: int) -> int:
    """Of an instruction's operand in memory; ``width`` are its register's."""
    if (one := BROADCAST_ELEMENT.match(mnemonic)) is not None:
        return ELEMENT_BYTES[one[1]]
    if (one := WIDENING.match(mnemonic)) is not None:
        return width * ELEMENT_BYTES[one[1]] // ELEMENT_BYTES[one[2]]
    return width


def _stored_bytes(mnemonic: str, width: int) -> int:
    one = NARROWING.match(mnemonic)
    return width if one is None else width * ELEMENT_BYTES[one[2]] // ELEMENT_BYTES[one[1]]


def _width(arguments: list[str]) -> int:
    """Bytes of the last vector register among the operands; of a scalar without one."""
    for one in reversed(arguments):
        match = VECTOR.match(one.partition("{")[0].strip("% "))
        if match is not None:
            return VECTOR_BYTES[match[1]]
    return 8


_WHOLE = {whole for whole, _ in SCALARS.values()}


def _forget(register: str) -> Effect:
    return lambda state: state.put(register, None)


# ---------------------------------------------------------------- control


def _control(text: str, mnemonic: str, arguments: list[str]) -> Operation | None:
    if mnemonic == "jmp":
        return Operation(text, "scalar", control="jump", target=arguments[0].partition("@")[0])
    if mnemonic.startswith("j") and mnemonic[1:] in CONDITION_NAMES:
        condition = CONDITION_NAMES[mnemonic[1:]]
        return Operation(
            text, "scalar", ("flags",), condition=condition, control="branch", target=arguments[0]
        )
    if mnemonic in ("call", "callq"):
        target = arguments[0]
        if target.startswith("*"):
            memory = _memory(target[1:], 8)
            if memory is None:
                return Operation(text, "scalar", control="call", target=target[1:].strip("%"))
            # through a pointer in memory: what it points to is known by the pointer's name
            name = memory.symbol or memory.base or ""
            return Operation(text, "scalar", control="call", target=name)
        return Operation(text, "scalar", control="call", target=target.partition("@")[0])
    if mnemonic in ("ret", "retq"):
        return Operation(text, "scalar", control="return")
    return None


# ---------------------------------------------------------------- scalars

Get = Callable[[State], int | None]


def _scalar(text: str, mnemonic: str, arguments: list[str]) -> Operation:
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
        return _arithmetic(text, base, arguments, bits)
    if base in WITH_CARRY:
        return _with_carry(text, WITH_CARRY[base], arguments, bits)
    if base in TWO_OPERANDS:
        return _arithmetic(text, base, arguments, bits)
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


def _source(argument: str, bits: int) -> tuple[Get, tuple[str, ...], Memory | None]:
    """How to get an operand, the registers it reads, and where it is in memory."""
    if argument.startswith("$"):
        number = int(argument[1:], 0) & ((1 << bits) - 1)
        return lambda _: number, (), None
    name = argument.removeprefix("%")
    if name in SCALARS:
        whole, _ = SCALARS[name]
        return lambda state: state.get(whole, bits), (whole,), None
    memory = _memory(argument, bits // 8)
    if memory is None:
        raise Unmodelled(f"the model does not know the operand '{argument}'")
    return lambda state: state.load(memory), _address_registers(memory), memory


def _into(argument: str, bits: int) -> tuple[Callable[[State, int | None], None], str | None]:
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
    memory = _memory(argument, bits // 8)
    if memory is None:
        raise Unmodelled(f"the model does not know the operand '{argument}'")

    return lambda state, value: state.store(memory, value), None


def _plain(
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


def _mov(text: str, arguments: list[str], bits: int) -> Operation:
    source, destination = arguments
    put, register = _into(destination, bits)
    if (source.endswith("(%rip)") and "@GOT" in source) or source.startswith("$."):
        symbol = source.strip("$").partition("@")[0]
        effect: Effect = lambda state: put(state, state.symbol_address(symbol))  # noqa: E731
        return _plain(text, "none", (), register, None, None, effect)
    get, reads, memory = _source(source, bits)
    stored = None if register else _memory(destination, bits // 8)
    reads = (*reads, *_address_registers(stored))
    if bits < 32 and register:
        reads = (*reads, register)
    unit: Unit = "scalar" if memory is None and stored is None and reads else "none"
    return _plain(text, unit, reads, register, memory, stored, lambda state: put(state, get(state)))


def _lea(text: str, arguments: list[str], bits: int) -> Operation:
    memory = _memory(arguments[0], 8)
    put, register = _into(arguments[1], bits)
    assert memory is not None, text
    if memory.symbol is not None:
        symbol = memory.symbol
        return _plain(
            text, "scalar", (), register, None, None,
            lambda state: put(state, state.symbol_address(symbol)),
        )  # fmt: skip
    reads = _address_registers(memory)
    return _plain(
        text, "scalar", reads, register, None, None, lambda state: put(state, state.address(memory))
    )


def _compare(text: str, base: str, arguments: list[str], bits: int) -> Operation:
    # AT&T order: cmp b, a compares a with b
    right, right_reads, right_memory = _source(arguments[0], bits)
    left, left_reads, left_memory = _source(arguments[1], bits)
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
    get, reads, memory = _source(arguments[0], bits)
    keep, kept, _ = _source(arguments[1], bits)
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
    put, register = _into(destination, bits)

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
        get, reads, _ = _source(argument, 64)

        def push(state: State) -> None:
            top = state.get(STACK_POINTER)
            assert top is not None
            state.words[top - 8] = get(state)
            state.put(STACK_POINTER, top - 8)

        where = Memory(STACK_POINTER, offset=-8)
        return Operation(text, "none", reads, (), where, stores=1, effect=push)
    put, register = _into(argument, 64)

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
    get, reads, memory = _source(arguments[0], narrow)
    put, register = _into(arguments[1], wide)

    def extend(state: State) -> None:
        value = get(state)
        put(state, signed(value, narrow) if sign and value is not None else value)

    return _plain(text, "none" if memory else "scalar", reads, register, memory, None, extend)


def _divide(text: str, base: str, argument: str, bits: int) -> Operation:
    get, reads, memory = _source(argument, bits)

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


def _arithmetic(text: str, base: str, arguments: list[str], bits: int) -> Operation:
    *given, destination = arguments
    sources = [_source(one, bits) for one in given]
    put, register = _into(destination, bits)
    before, kept, before_memory = _source(destination, bits)
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

    stored = _memory(destination, bits // 8) if register is None else None
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


def _with_carry(text: str, sign: int, arguments: list[str], bits: int) -> Operation:
    get, reads, memory = _source(arguments[0], bits)
    put, register = _into(arguments[1], bits)
    before, kept, _ = _source(arguments[1], bits)

    def compute(state: State) -> None:
        a, b, flags = before(state), get(state), state.flags
        same = arguments[0] == arguments[1] and sign < 0  # all bits the carry, whatever it was
        if flags is None or (not same and (a is None or b is None)):
            put(state, None)
        else:
            carry = holds("b", difference("b", flags))
            put(state, -carry if same else (a or 0) + sign * ((b or 0) + carry))
        state.flags = None

    return _plain(
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
