"""Reads aarch64 assembly, as LLVM writes it, as far as we ask: what the innermost loops hold."""

from __future__ import annotations

import re
from dataclasses import dataclass

import assembly_listing

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
    listing = assembly_listing.read(assembly, "//")
    return [Loop(span.label, listing.of(span)) for span in listing.innermost_loops(BRANCH)]


def hot_loop(assembly: str) -> Loop:
    """The innermost loop with the most vector FMAs."""
    return max(innermost_loops(assembly), key=lambda loop: loop.fmas)
