"""aarch64 loads and stores, of which the interpreter follows those of scalar registers."""

from __future__ import annotations

import re

from tvm_mobilenet.core_model.aarch64.operand import (
    VECTOR,
    address_registers,
    find_memory,
    find_register,
    find_vector,
    getter,
    setter,
)
from tvm_mobilenet.core_model.operation import WORD, Effect, Memory, Operation, State, signed

VECTOR_BYTES = {"q": 16, "v": 16, "d": 8, "s": 4, "h": 2, "b": 1}
LOADS = {"ldr": 0, "ldur": 0, "ldrb": 1, "ldrh": 2, "ldrsw": 4, "ldursw": 4, "ldrsb": 1,
         "ldrsh": 2, "ldurb": 1, "ldp": 0, "ldpsw": 4, "ldnp": 0}  # fmt: skip
STORES = {"str": 0, "stur": 0, "strb": 1, "strh": 2, "sturb": 1, "stp": 0, "stnp": 0}
PAIRS = ("ldp", "stp", "ldnp", "stnp", "ldpsw")
STRUCTURES = re.compile(r"^(ld|st)[1-4]r?$")


def decode_memory(text: str, mnemonic: str, arguments: list[str]) -> Operation | None:
    """None for what neither loads nor stores nor prefetches."""
    if mnemonic in LOADS or mnemonic in STORES:
        return _access(text, mnemonic, arguments)
    if STRUCTURES.match(mnemonic):
        return _structure(text, mnemonic, arguments)
    if mnemonic.startswith("prf"):
        memory = find_memory(arguments[1:], 64)[0]
        return Operation(text, "none", address_registers(memory), memory=memory, loads=1)
    return None


def _access(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    count = 2 if mnemonic in PAIRS else 1
    registers, where = arguments[:count], arguments[count:]
    loading = mnemonic in LOADS
    size = (LOADS if loading else STORES)[mnemonic] or _size(registers[0])
    memory, moved = find_memory(where, size)
    whole = [find_vector(one) or (find_register(one) or ("", WORD))[0] for one in registers]
    names = [name for name in whole if name]  # without zr
    address = address_registers(memory)
    writes = (*(names if loading else []), *([moved[0]] if moved else []))
    return Operation(
        text,
        "none",
        address if loading else (*names, *address),
        writes,
        memory,
        loads=count if loading else 0,
        stores=0 if loading else count,
        effect=_effect(mnemonic, registers, memory, moved, loading=loading),
    )


def _size(register: str) -> int:
    if (match := VECTOR.match(register)) is not None:
        return VECTOR_BYTES[match[1]]
    return 4 if register.startswith("w") else 8


def _effect(
    mnemonic: str,
    registers: list[str],
    memory: Memory,
    moved: tuple[str, int] | None,
    *,
    loading: bool,
) -> Effect | None:
    scalars = [None if find_vector(one) else one for one in registers]
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
                state.store(part, getter(register)(state))
            elif memory.symbol is not None:
                setter(register)[0](state, state.symbol_address(memory.symbol))
            else:
                value = state.load(part)
                extend = value is not None and mnemonic.startswith(("ldrs", "ldurs", "ldps"))
                setter(register)[0](state, signed(value, 8 * part.size) if extend else value)  # type: ignore[arg-type]
        if moved is not None:
            base = state.get(moved[0])
            state.put(moved[0], None if base is None else base + moved[1])

    return access


def _structure(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    place = next(i for i, one in enumerate(arguments) if one.startswith("["))
    names = [name for one in ",".join(arguments[:place]).strip("{} ").split(",")
             if (name := find_vector(one.strip()))]  # fmt: skip
    memory, moved = find_memory(arguments[place:], 16)
    loading = mnemonic.startswith("ld")
    lane = "]" in arguments[place - 1]  # one lane of a register that keeps the others
    address = address_registers(memory)
    reads = (*names, *address) if not loading or lane else address
    return Operation(
        text,
        "vector" if loading else "none",
        reads,
        (*(names if loading else []), *([moved[0]] if moved else [])),
        memory,
        loads=len(names) if loading else 0,
        stores=0 if loading else len(names),
        effect=_effect(mnemonic, names, memory, moved, loading=loading),
    )
