"""Reads x86-64 assembly (AT&T syntax, as LLVM writes it) as far as tests ask: the innermost loops.

A loop is what lies between a label and a later jump back to it. An innermost one holds no other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LABEL = re.compile(r"^([.\w$]+):")
JUMP = re.compile(r"^j\w+\s+([.\w$]+)$")
STACK = re.compile(r"\(%rsp\b")
FRAME = re.compile(r"\(%rbp\b")
VECTOR_FMA = re.compile(r"^vfn?m(?:add|sub)\d+ps\b.*%([xyz]mm)\d+$")


@dataclass(frozen=True)
class Loop:
    """The instructions from a label to the jump back to it, in order."""

    label: str
    instructions: tuple[str, ...]
    frame_pointer: bool = False  # %rbp holds the stack frame, not a number as any register may

    @property
    def stack_accesses(self) -> list[str]:
        return [
            line
            for line in self.instructions
            if STACK.search(line) or (self.frame_pointer and FRAME.search(line))
        ]

    @property
    def calls(self) -> list[str]:
        return [line for line in self.instructions if line.startswith("call")]

    @property
    def branches(self) -> list[str]:
        """Jumps other than the last one, which closes the loop."""
        return [line for line in self.instructions[:-1] if JUMP.match(line)]

    def fmas(self, register: str | None = None) -> int:
        """Packed float32 multiply-adds into ``register`` (xmm, ymm or zmm), or into any of them."""
        found = [match[1] for line in self.instructions if (match := VECTOR_FMA.match(line))]
        return len(found) if register is None else found.count(register)


def innermost_loops(assembly: str) -> list[Loop]:
    """Every innermost loop of a module's assembly."""
    instructions, labels = read(assembly)
    spans = []
    for end, instruction in enumerate(instructions):
        jump = JUMP.match(instruction)
        start = labels.get(jump[1]) if jump else None
        if jump and start is not None and start <= end:
            spans.append((start, end, jump[1]))
    return [
        Loop(label, tuple(instructions[start : end + 1]), has_frame(instructions, labels, start))
        for start, end, label in spans
        if not any(
            start <= other_start and other_end <= end
            for other_start, other_end, _ in spans
            if (other_start, other_end) != (start, end)
        )
    ]


def has_frame(instructions: list[str], labels: dict[str, int], inside: int) -> bool:
    """Whether the function around instruction `inside` sets %rbp to its frame."""
    functions = (at for name, at in labels.items() if not name.startswith(".L") and at <= inside)
    return "movq %rsp, %rbp" in instructions[max(functions, default=0) : inside]


def hot_loop(assembly: str) -> Loop:
    """The innermost loop with the most vector FMAs."""
    return max(innermost_loops(assembly), key=Loop.fmas)


def read(assembly: str) -> tuple[list[str], dict[str, int]]:
    """Instructions without comments and directives, and for each label the instruction after it."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    for line in assembly.splitlines():
        label = LABEL.match(line)
        if label:
            labels[label[1]] = len(instructions)
            continue
        text = " ".join(line.partition("#")[0].split())
        if text and not text.startswith("."):
            instructions.append(text)
    return instructions, labels
