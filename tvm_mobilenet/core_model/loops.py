"""The innermost loops of a kernel's assembly, and what they hold: FMAs, stack accesses, calls.

A loop is what lies between a label and a later branch back to it. An innermost one holds no other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tvm_mobilenet.core_model import aarch64, listing, x86_64
from tvm_mobilenet.core_model.listing import Listing

Isa = Literal["x86_64", "aarch64"]


@dataclass(frozen=True)
class Syntax:
    """How an instruction set writes what a loop is asked for.

    Group 1 of ``branch`` is the label, group 1 of ``fma`` (a multiply-add of packed float32, on
    aarch64 also of float16) the kind of register that is written.
    """

    comment: str
    branch: re.Pattern[str]
    call: re.Pattern[str]
    stack: re.Pattern[str]
    fma: re.Pattern[str]
    frame: re.Pattern[str] | None = None  # by the frame pointer, where a function keeps one
    sets_frame: re.Pattern[str] | None = None  # what makes a register the frame pointer


SYNTAXES: dict[Isa, Syntax] = {
    "x86_64": Syntax(  # AT&T
        comment=x86_64.COMMENT,
        branch=re.compile(r"^j\w+\s+([.\w$]+)$"),
        call=re.compile(r"^call"),
        stack=re.compile(r"\(%rsp\b"),
        fma=re.compile(r"^vfn?m(?:add|sub)\d+ps\b.*%([xyz]mm)\d+$"),
        frame=re.compile(r"\(%rbp\b"),
        sets_frame=re.compile(r"^movq %rsp, %rbp$"),
    ),
    "aarch64": Syntax(
        comment=aarch64.COMMENT,
        branch=re.compile(r"^(?:b|b\.\w+|cbn?z|tbn?z)\s+(?:.*,\s*)?([.\w$]+)$"),
        call=re.compile(r"^blr?\b"),
        stack=re.compile(r"\[sp\b"),
        fma=re.compile(r"^fml[as]\s+(v)\d+\.(?:4s|8h)"),
        frame=re.compile(r"\[x29\b"),
        sets_frame=re.compile(r"^(?:mov\s+x29, sp|add\s+x29, sp, #\d+)$"),
    ),
}

# Of aarch64 alone: an FMA that takes one factor from a lane of a register, an addition of four
# floats, and a load of one float or half, alone or in a pair, or of one into all lanes.
BY_ELEMENT = re.compile(r"^fml[as]\s+v\d+\.(?:4s, v\d+\.4s, v\d+\.s|8h, v\d+\.8h, v\d+\.h)\[\d\]$")
VECTOR_ADD = re.compile(r"^fadd\s+v\d+\.4s")
SCALAR_LOAD = re.compile(r"^(?:ldr\s+[sh]\d+|ldp\s+s\d+|ld1r|ld1\s+\{ v\d+\.[sh] \})")
# What sums products of bytes, 16-bit integers or bfloat16 into 32 bits: on x86-64 with the register
# last, on aarch64 with it first, and without dot products in three instructions.
DOT_PRODUCT = re.compile(
    r"^(?:\{vex\} )?(?:(vpdpbusd|vpmaddwd|vdpbf16ps)\b.*%([xyz]mm)\d+$"
    r"|(sdot|smmla|smull2?|smlal2?|sadalp|bfdot|bfmmla)\s+(v)\d+\.)"
)


@dataclass(frozen=True)
class Loop:
    """The instructions from a label to the branch back to it, in order.

    ``has_frame``: the function around it keeps a frame pointer, which otherwise is a register like
    any other.
    """

    label: str
    instructions: tuple[str, ...]
    syntax: Syntax
    has_frame: bool = False

    def matching(self, pattern: re.Pattern[str]) -> list[str]:
        """The instructions in which ``pattern`` is found."""
        return [line for line in self.instructions if pattern.search(line)]

    @property
    def stack_accesses(self) -> list[str]:
        patterns = [self.syntax.stack]
        if self.has_frame and self.syntax.frame is not None:
            patterns.append(self.syntax.frame)
        return [line for line in self.instructions if any(one.search(line) for one in patterns)]

    @property
    def calls(self) -> list[str]:
        return self.matching(self.syntax.call)

    @property
    def branches(self) -> list[str]:
        """Those other than the last one, which closes the loop."""
        return [line for line in self.instructions[:-1] if self.syntax.branch.match(line)]

    @property
    def fmas(self) -> int:
        """Multiply-adds of packed floats, whatever the width."""
        return len(self.matching(self.syntax.fma))

    def fmas_into(self, register: str) -> int:
        """Those into registers of a kind: xmm, ymm or zmm; v on aarch64."""
        found = map(self.syntax.fma.match, self.instructions)
        return sum(one is not None and one[1] == register for one in found)

    def dot_products_into(self, register: str) -> dict[str, int]:
        """Those into registers of a kind, by the name of the instruction."""
        found = map(DOT_PRODUCT.match, self.instructions)
        made = [(one[1] or one[3], one[2] or one[4]) for one in found if one is not None]
        return Counter(name for name, kind in made if kind == register)

    @property
    def dot_products(self) -> int:
        """Of bytes, 16-bit integers or bfloat16, whatever the width."""
        return len(self.matching(DOT_PRODUCT))

    @property
    def by_element_fmas(self) -> int:
        return len(self.matching(BY_ELEMENT))

    @property
    def vector_adds(self) -> int:
        return len(self.matching(VECTOR_ADD))

    @property
    def scalar_loads(self) -> list[str]:
        return self.matching(SCALAR_LOAD)

    @property
    def instructions_per_fma(self) -> float:
        return len(self.instructions) / self.fmas


def innermost_loops(assembly: str, isa: Isa) -> list[Loop]:
    """Every innermost loop of a module's assembly as LLVM writes it, in order."""
    syntax = SYNTAXES[isa]
    code = listing.read(assembly, syntax.comment)
    spans = list(_loops(code, syntax.branch))
    return [
        Loop(
            label,
            code.instructions[start : end + 1],
            syntax,
            syntax.sets_frame is not None
            and any(map(syntax.sets_frame.match, _function_until(code, start))),
        )
        for label, start, end in spans
        if not any(_holds((start, end), other[1:]) for other in spans)
    ]


def hot_loop(assembly: str, isa: Isa) -> Loop:
    """The innermost loop with the most vector FMAs, of a kernel over bytes with dot products."""
    return max(innermost_loops(assembly, isa), key=lambda loop: (loop.dot_products, loop.fmas))


def _loops(code: Listing, branch: re.Pattern[str]) -> Iterator[tuple[str, int, int]]:
    """Label, first and last instruction of every loop."""
    for end, instruction in enumerate(code.instructions):
        back = branch.match(instruction)
        start = code.labels.get(back[1]) if back else None
        if back and start is not None and start <= end:
            yield back[1], start, end


def _holds(outer: tuple[int, int], inner: tuple[int, int]) -> bool:
    """Whether another loop lies within this one."""
    return outer != inner and outer[0] <= inner[0] and inner[1] <= outer[1]


def _function_until(code: Listing, place: int) -> tuple[str, ...]:
    """The instructions of the function around ``place`` that come before it."""
    starts = [at for name, at in code.labels.items() if not name.startswith(".L") and at <= place]
    return code.instructions[max(starts, default=0) : place]
