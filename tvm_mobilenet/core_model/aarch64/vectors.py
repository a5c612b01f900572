"""aarch64 instructions on vector registers: what they read, write and occupy."""

from __future__ import annotations

import re

from tvm_mobilenet.core_model.aarch64.operand import (
    find_register,
    find_vector,
    number_of,
    registers_read,
    setter,
)
from tvm_mobilenet.core_model.operation import Operation, State

# products of bytes and of bfloat16 go where FMAs go
NARROW_PRODUCT = re.compile(r"^(?:sdot|smmla|smull2?|smlal2?|bfdot|bfmmla)$")
# what reads the register that it writes: it adds to it, or leaves a part of it
KEEPING = {"fmla", "fmls", "mla", "mls", "ins", "bit", "bif", "bsl", "sdot", "smmla"} | {
    *("smlal", "smlal2", "sadalp", "sqxtn2", "sqxtun2", "xtn2", "fcvtn2"),
    *("bfdot", "bfmmla", "bfcvtn2"),
}
FMA = re.compile(r"^f(?:n?m(?:add|sub)|ml[as])$")


def decode_vector(text: str, mnemonic: str, arguments: list[str]) -> Operation:
    destination, *sources = arguments
    reads = [name for one in sources if (name := find_vector(one))] + list(registers_read(*sources))
    written = find_vector(destination)
    if written is None:  # a lane, or a comparison's flags, into a scalar register
        if find_register(destination) is None or mnemonic.startswith("fcmp"):
            return Operation(text, "vector", tuple(reads), ("flags",), effect=_forget_flags)
        put, names, _ = setter(destination)
        return Operation(
            text, "vector", tuple(reads), names, effect=lambda s: put(s, None), nonlinear=True
        )
    if mnemonic.startswith("fcmp"):
        return Operation(text, "vector", (*reads, written), ("flags",), effect=_forget_flags)
    if mnemonic == "movi" and sources and number_of(sources[0].split()[0]) == 0:
        return Operation(text, "none", (), (written,))  # zero, known without waiting
    fma = bool(FMA.match(mnemonic) or NARROW_PRODUCT.match(mnemonic))
    keeps = mnemonic in KEEPING or (mnemonic == "mov" and "[" in destination)
    if keeps:
        reads.append(written)
    return Operation(text, "fma" if fma else "vector", tuple(reads), (written,))


def _forget_flags(state: State) -> None:
    state.flags = None
