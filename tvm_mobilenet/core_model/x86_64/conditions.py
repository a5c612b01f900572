"""x86-64 instructions that change what runs next: jumps, branches, calls."""

from __future__ import annotations

from tvm_mobilenet.core_model.operation import Operation
from tvm_mobilenet.core_model.x86_64.operand import find_memory

CONDITION_NAMES = {
    "e": "e", "z": "e", "ne": "ne", "nz": "ne", "l": "l", "nge": "l", "le": "le", "g": "g",
    "ge": "ge", "nl": "ge", "b": "b", "c": "b", "ae": "ae", "nc": "ae", "nb": "ae", "be": "be",
    "a": "a", "s": "s", "ns": "ns",
}  # fmt: skip


def decode_control(text: str, mnemonic: str, arguments: list[str]) -> Operation | None:
    """The operation of a jump, branch, call or return; None for any other."""
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
            memory = find_memory(target[1:], 8)
            if memory is None:
                return Operation(text, "scalar", control="call", target=target[1:].strip("%"))
            # through a pointer in memory: what it points to is known by the pointer's name
            name = memory.symbol or memory.base or ""
            return Operation(text, "scalar", control="call", target=name)
        return Operation(text, "scalar", control="call", target=target.partition("@")[0])
    if mnemonic in ("ret", "retq"):
        return Operation(text, "scalar", control="return")
    return None
