"""What one instruction is to the model: registers, memory, the unit it needs, its scalar effect.

Only scalars have values, since loops count in them; a vector register is a name that must be ready.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tvm_mobilenet.errors import TvmMobilenetError

WORD = 64  # bits of a scalar register
SYMBOLS_START = 1 << 56  # addresses from here on are of symbols

Unit = Literal["fma", "vector", "scalar", "multiply", "divide", "none"]
Control = Literal["", "branch", "jump", "call", "return"]


class Unmodelled(TvmMobilenetError):
    """The model does not know an instruction, or what a branch depends on."""


@dataclass(frozen=True)
class Memory:
    """An operand in memory: base + index * scale + offset, ``size`` bytes."""

    base: str | None
    index: str | None = None
    scale: int = 1
    offset: int = 0
    size: int = 8
    symbol: str | None = None
    index_bits: int = WORD  # 32: the index's lower half, sign-extended (aarch64's sxtw)


@dataclass(frozen=True)
class Flags:
    """What the last comparison compared: ``left`` with ``right`` in ``bits``.

    An ``addition`` says that they were added, and that their sum is compared with zero.
    """

    left: int
    right: int
    bits: int
    addition: bool = False


# An effect gets and sets registers and flags of the interpreter's state.
Effect = Callable[["State"], None]


@dataclass(frozen=True)
class Operation:
    """An instruction.

    ``reads`` and ``writes`` name whole registers; ``loads`` and ``stores`` count accesses of
    ``memory`` (a pair has two); ``nonlinear`` results do not follow a loop's counter evenly;
    ``condition`` is of a branch or of a choice between two values.
    """

    text: str
    unit: Unit
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    memory: Memory | None = None
    loads: int = 0
    stores: int = 0
    effect: Effect | None = None
    nonlinear: bool = False
    condition: str = ""
    control: Control = ""
    target: str = ""  # a label, a function, or the register that holds one


@dataclass
class State:
    """Scalar registers by name, the words of the stack, and the flags; None where unknown."""

    registers: dict[str, int | None] = field(default_factory=dict)
    narrow: set[str] = field(default_factory=set)  # last written as 32 bits
    words: dict[int, int | None] = field(default_factory=dict)
    flags: Flags | None = None
    symbols: dict[str, int] = field(default_factory=dict)  # a number for each symbol's address

    def get(self, name: str, bits: int = WORD) -> int | None:
        """The unsigned value of the lower ``bits``."""
        value = self.registers.get(name)
        return value if value is None or bits == WORD else value & ((1 << bits) - 1)

    def put(self, name: str, value: int | None, bits: int = WORD) -> None:
        """Set the whole register: the upper half of a 32-bit result is zero."""
        if bits == WORD:
            self.narrow.discard(name)
        else:
            self.narrow.add(name)
        self.registers[name] = None if value is None else value & ((1 << bits) - 1)

    def load(self, memory: Memory) -> int | None:
        """What the program put into memory; None for what it did not: weights, images, tables."""
        address = self.address(memory) if memory.symbol is None else None
        if address is None:
            return None
        if address >= SYMBOLS_START:  # a function's pointer stands for the function
            return address
        value = self.words.get(address)
        return None if value is None else value & ((1 << 8 * memory.size) - 1)

    def store(self, memory: Memory, value: int | None) -> None:
        address = self.address(memory) if memory.symbol is None else None
        if address is not None:
            self.words[address] = value

    def symbol_address(self, name: str) -> int:
        return self.symbols.setdefault(name, SYMBOLS_START + 64 * len(self.symbols))

    def symbol_at(self, address: int | None) -> str | None:
        return next((name for name, at in self.symbols.items() if at == address), None)

    def address(self, memory: Memory) -> int | None:
        total = memory.offset
        if memory.base is not None:
            base = self.registers.get(memory.base)
            if base is None:
                return None
            total += base
        if memory.index is not None:
            index = self.registers.get(memory.index)
            if index is None:
                return None
            if memory.index_bits != WORD:
                index = signed(index, memory.index_bits)
            total += index * memory.scale
        return total & ((1 << WORD) - 1)


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


# Conditions by x86's names; what follows of the sign of ``difference(condition, flags)``.
BELOW = {"l", "b", "s"}
NOT_BELOW = {"ge", "ae", "ns"}
NOT_ABOVE = {"le", "be"}
ABOVE = {"g", "a"}
UNSIGNED = {"b", "ae", "be", "a"}


def difference(condition: str, flags: Flags) -> int:
    """The number whose sign decides the condition; it moves evenly where its operands do."""
    bits = flags.bits
    if flags.addition:
        if condition in UNSIGNED:  # the carry
            mask = (1 << bits) - 1
            # b: there was one. Its sign is the other way round, so is what is returned.
            return (1 << bits) - 1 - (flags.left & mask) - (flags.right & mask)
        return signed(flags.left + flags.right, bits)
    if condition in UNSIGNED:
        mask = (1 << bits) - 1
        return (flags.left & mask) - (flags.right & mask)
    if condition in ("e", "ne", "s", "ns"):
        return signed(flags.left - flags.right, bits)
    return signed(flags.left, bits) - signed(flags.right, bits)


def holds(condition: str, number: int) -> bool:
    """Whether the condition holds for a ``difference`` of so much."""
    if condition in BELOW:
        return number < 0
    if condition in NOT_BELOW:
        return number >= 0
    if condition in NOT_ABOVE:
        return number <= 0
    if condition in ABOVE:
        return number > 0
    return (number == 0) == (condition == "e")
