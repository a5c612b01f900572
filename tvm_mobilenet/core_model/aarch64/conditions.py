"""aarch64 conditions and control flow."""

from __future__ import annotations

from tvm_mobilenet.core_model.aarch64.operand import (
    find_register,
    getter,
    number_of,
    registers_read,
)
from tvm_mobilenet.core_model.operation import Flags, Operation, State, Unmodelled

CONDITION_NAMES = {
    "eq": "e", "ne": "ne", "lt": "l", "le": "le", "gt": "g", "ge": "ge", "lo": "b", "cc": "b",
    "ls": "be", "hi": "a", "hs": "ae", "cs": "ae", "mi": "s", "pl": "ns",
}  # fmt: skip


def decode_control(text: str, mnemonic: str, arguments: list[str]) -> Operation | None:
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
    bit = number_of(arguments[1]) if mnemonic.startswith("t") else None
    get = getter(arguments[0])
    bits = (find_register(arguments[0]) or ("", 64))[1]

    def test(state: State) -> None:
        value = get(state)
        if value is None:
            state.flags = None
        else:
            state.flags = Flags(value if bit is None else value >> bit & 1, 0, bits)

    return Operation(
        text,
        "scalar",
        registers_read(arguments[0]),
        effect=test,
        nonlinear=bit is not None,
        condition="ne" if "n" in mnemonic else "e",
        control="branch",
        target=arguments[-1],
    )
