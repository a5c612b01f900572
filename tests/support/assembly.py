"""Reads x86-64 assembly (AT&T syntax, as LLVM writes it) as far as tests ask: innermost loops."""

from __future__ import annotations

import re
from dataclasses import dataclass

import assembly_listing
from assembly_listing import Listing

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
    listing = assembly_listing.read(assembly, "#")
    return [
        Loop(span.label, listing.of(span), has_frame(listing, span.start))
        for span in listing.innermost_loops(JUMP)
    ]


def has_frame(listing: Listing, inside: int) -> bool:
    """Whether the function around instruction `inside` sets %rbp to its frame."""
    functions = (
        at for name, at in listing.labels.items() if not name.startswith(".L") and at <= inside
    )
    return "movq %rsp, %rbp" in listing.instructions[max(functions, default=0) : inside]


def hot_loop(assembly: str) -> Loop:
    """The innermost loop with the most vector FMAs."""
    return max(innermost_loops(assembly), key=Loop.fmas)
