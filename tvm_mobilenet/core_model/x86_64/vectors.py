"""x86-64 instructions on vector and mask registers: what they read, write and occupy."""

from __future__ import annotations

import re

from tvm_mobilenet.core_model.operation import Effect, Operation, Unit
from tvm_mobilenet.core_model.x86_64.operand import (
    MEMORY,
    VECTOR,
    WHOLE,
    address_registers,
    find_memory,
    find_register,
)

VECTOR_BYTES = {"x": 16, "y": 32, "z": 64}
FMA = re.compile(r"^vfn?m(?:add|sub)\d+[ps][sd]$")
# dot products into 32-bit lanes: in the multipliers, as FMAs are, and about as long
DOT_PRODUCT = re.compile(r"^v(?:pdpbusds?|pdpwssds?|dpbf16ps)$")
# what reads less than its register holds from memory, and what stores less
BROADCAST_ELEMENT = re.compile(r"^vp?broadcast(ss|sd|[bwdq])$")
WIDENING = re.compile(r"^vpmov[sz]x([bwd])([wdq])$")
NARROWING = re.compile(r"^vpmov(?:u?s)?([qdw])([bwd])$")
ELEMENT_BYTES = {"b": 1, "w": 2, "d": 4, "q": 8, "ss": 4, "sd": 8}
BROADCAST = re.compile(r"\{1to\d+\}")
MASKED = re.compile(r"\{%(k[1-7])\}")


def decode_vector(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    """The operation of an instruction with a vector or mask operand, or of a prefetch."""
    if mnemonic.startswith("prefetch"):
        memory = find_memory(arguments[0], 64)
        return Operation(text, "none", address_registers(memory), memory=memory, loads=1)
    if mnemonic in ("vzeroupper", "vzeroall"):
        return Operation(text, "none")
    *sources, destination = arguments
    mask = MASKED.search(destination)
    width = _width(arguments)
    bare = destination.partition("{")[0].strip()
    if MEMORY.match(bare):
        memory = find_memory(bare, _stored_bytes(mnemonic, width))
        reads = [one for one in map(find_register, sources) if one]
        return Operation(
            text,
            "vector" if NARROWING.match(mnemonic) else "none",
            (*reads, *address_registers(memory)),
            memory=memory,
            stores=1,
        )
    plain = [BROADCAST.sub("", one).strip() for one in sources]
    in_all_lanes = any(BROADCAST.search(one) for one in sources)
    size = 4 if in_all_lanes else _loaded_bytes(mnemonic, width)
    memory = next((m for one in plain if (m := find_memory(one.partition(" {")[0], size))), None)
    reads = [one for one in map(find_register, plain) if one]
    written = find_register(destination)
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
        (*reads, *address_registers(memory)),
        (written,),
        memory,
        loads=1 if memory else 0,
        effect=_forget(written) if written in WHOLE else None,
        nonlinear=written in WHOLE,
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


def _forget(register: str) -> Effect:
    return lambda state: state.put(register, None)
