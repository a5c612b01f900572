"""Reads aarch64 assembly, as LLVM writes it, as far as we ask: the innermost loops.

A loop is what lies between a label and a later branch back to it. An innermost one holds no other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LABEL = re.compile(r"^([.\w$]+):")
BRANCH = re.compile(r"^(?:b|b\.\w+|cbn?z|tbn?z)\s+(?:.*,\s*)?([.\w$]+)$")
CALL = re.compile(r"^blr?\b")
STACK = re.compile(r"\[(?:sp|x29)\b")
VECTOR_FMA = re.compile(r"^fml[as]\s+v\d+\.4s")
VECTOR_ADD = re.compile(r"^fadd\s+v\d+\.4s")
BY_ELEMENT = re.compile(r"^fml[as]\s+v\d+\.4s, v\d+\.4s, v\d+\.s\[\d\]$")
# one float, alone or in a pair, or one float into all lanes
SCALAR_LOAD = re.compile(r"^(?:ldr\s+s\d+|ldp\s+s\d+|ld1r|ld1\s+\{ v\d+\.s \})")


@dataclass(frozen=True)
class Loop:
    """The instructions from a label to the branch back to it, in order."""

    label: str
    instructions: tuple[str, ...]

    def matching(self, pattern: re.Pattern[str]) -> list[str]:
        return [line for line in self.instructions if pattern.search(line)]

    @property
    def stack_accesses(self) -> list[str]:
        return self.matching(STACK)

    @property
    def calls(self) -> list[str]:
        return self.matching(CALL)

    @property
    def scalar_loads(self) -> list[str]:
        return self.matching(SCALAR_LOAD)

    @property
    def fmas(self) -> int:
        """Multiply-adds of four floats."""
        return len(self.matching(VECTOR_FMA))

    @property
    def by_element_fmas(self) -> int:
        """Those that take one factor from a lane of a register."""
        return len(self.matching(BY_ELEMENT))

    @property
    def vector_adds(self) -> int:
        """Additions of four floats."""
        return len(self.matching(VECTOR_ADD))

    @property
    def instructions_per_fma(self) -> float:
        return len(self.instructions) / self.fmas


def innermost_loops(assembly: str) -> list[Loop]:
    """Every innermost loop of a module's assembly."""
    instructions, labels = read(assembly)
    spans = []
    for end, instruction in enumerate(instructions):
        branch = BRANCH.match(instruction)
        start = labels.get(branch[1]) if branch else None
        if branch and start is not None and start <= end:
            spans.append((start, end, branch[1]))
    return [
        Loop(label, tuple(instructions[start : end + 1]))
        for start, end, label in spans
        if not any(
            start <= other_start and other_end <= end
            for other_start, other_end, _ in spans
            if (other_start, other_end) != (start, end)
        )
    ]


def hot_loop(assembly: str) -> Loop:
    """The innermost loop with the most vector FMAs."""
    return max(innermost_loops(assembly), key=lambda loop: loop.fmas)


def read(assembly: str) -> tuple[list[str], dict[str, int]]:
    """Instructions without comments and directives, and for each label the instruction after it."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    for line in assembly.splitlines():
        label = LABEL.match(line)
        if label:
            labels[label[1]] = len(instructions)
            continue
        text = " ".join(line.partition("//")[0].split())
        if text and not text.startswith("."):
            instructions.append(text)
    return instructions, labels
