"""Reads assembly as LLVM writes it, for any instruction set: its innermost loops.

A loop is what lies between a label and a later branch back to it. An innermost one holds no other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LABEL = re.compile(r"^([.\w$]+):")


@dataclass(frozen=True)
class Span:
    """A loop: its label, and its first and last instruction."""

    label: str
    start: int
    end: int


@dataclass(frozen=True)
class Listing:
    """Instructions without comments and directives, and for each label the instruction after it."""

    instructions: tuple[str, ...]
    labels: dict[str, int]

    def innermost_loops(self, branch: re.Pattern[str]) -> list[Span]:
        """Those that instructions matching `branch` close; its group 1 is the label."""
        spans = []
        for end, instruction in enumerate(self.instructions):
            back = branch.match(instruction)
            start = self.labels.get(back[1]) if back else None
            if back and start is not None and start <= end:
                spans.append(Span(back[1], start, end))
        return [one for one in spans if not any(holds(one, other) for other in spans)]

    def of(self, span: Span) -> tuple[str, ...]:
        return self.instructions[span.start : span.end + 1]


def holds(outer: Span, inner: Span) -> bool:
    """Whether another loop lies within this one."""
    different = (outer.start, outer.end) != (inner.start, inner.end)
    return different and outer.start <= inner.start and inner.end <= outer.end


def read(assembly: str, comment: str) -> Listing:
    """The listing of a module; `comment` begins a comment."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    for line in assembly.splitlines():
        label = LABEL.match(line)
        if label:
            labels[label[1]] = len(instructions)
            continue
        text = " ".join(line.partition(comment)[0].split())
        if text and not text.startswith("."):
            instructions.append(text)
    return Listing(tuple(instructions), labels)
