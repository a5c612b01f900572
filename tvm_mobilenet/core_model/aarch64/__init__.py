"""aarch64 instructions, as far as LLVM's code for our kernels has them."""

from __future__ import annotations

from tvm_mobilenet.core_model.aarch64.conditions import decode_control
from tvm_mobilenet.core_model.aarch64.memory import decode_memory
from tvm_mobilenet.core_model.aarch64.operand import find_vector
from tvm_mobilenet.core_model.aarch64.scalars import decode_scalar
from tvm_mobilenet.core_model.aarch64.vectors import decode_vector
from tvm_mobilenet.core_model.listing import operands
from tvm_mobilenet.core_model.operation import Operation

# what the interpreter asks an instruction set for
__all__ = ["ARGUMENTS", "COMMENT", "RESULT", "STACK_POINTER", "decode"]

COMMENT = "//"
STACK_POINTER = "sp"
ARGUMENTS = ("x0", "x1", "x2", "x3", "x4", "x5")
RESULT = "x0"


def decode(text: str) -> Operation:
    """The operation of one instruction. Raises Unmodelled for one that is not known."""
    mnemonic, arguments = operands(text)
    for decode_some in (decode_control, decode_memory):
        if (operation := decode_some(text, mnemonic, arguments)) is not None:
            return operation
    if any(find_vector(one) for one in arguments):
        return decode_vector(text, mnemonic, arguments)
    return decode_scalar(text, mnemonic, arguments)
