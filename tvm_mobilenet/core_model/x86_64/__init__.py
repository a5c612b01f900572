"""x86-64 instructions (AT&T syntax), as far as LLVM's code for our kernels has them."""

from __future__ import annotations

import re

from tvm_mobilenet.core_model.listing import operands
from tvm_mobilenet.core_model.operation import Operation
from tvm_mobilenet.core_model.x86_64.conditions import decode_control
from tvm_mobilenet.core_model.x86_64.operand import STACK_POINTER, is_vector
from tvm_mobilenet.core_model.x86_64.scalars import decode_scalar
from tvm_mobilenet.core_model.x86_64.vectors import decode_vector

# what the interpreter asks an instruction set for
__all__ = ["ARGUMENTS", "COMMENT", "RESULT", "STACK_POINTER", "decode"]

COMMENT = "#"
ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
RESULT = "rax"
PREFIX = re.compile(r"^(?:rep |lock |\{vex\} )")


def decode(text: str) -> Operation:
    """The operation of one instruction. Raises Unmodelled for one that is not known."""
    mnemonic, arguments = operands(PREFIX.sub("", text))
    if mnemonic.startswith(("v", "k", "prefetch")) or any(is_vector(one) for one in arguments):
        return decode_vector(text, mnemonic, arguments)
    control = decode_control(text, mnemonic, arguments)
    return control or decode_scalar(text, mnemonic, arguments)
