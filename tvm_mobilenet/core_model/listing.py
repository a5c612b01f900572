"""Assembly as LLVM writes it → instructions and labels, without comments and directives."""

from __future__ import annotations

import re
from dataclasses import dataclass

FUNCTION = re.compile(r"^\s*\.type\s+([.\w$]+),\s*[@%]function")
LABEL = re.compile(r"^([.\w$]+):")


@dataclass(frozen=True)
class Listing:
    """``labels`` tell for each label the number of the instruction after it."""

    instructions: tuple[str, ...]
    labels: dict[str, int]
    functions: frozenset[str]


def read(assembly: str, comment: str) -> Listing:
    """The code of ``assembly``; ``comment`` is what its comments start with."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    functions = set()
    for line in assembly.splitlines():
        label = LABEL.match(line)
        if label:
            labels[label[1]] = len(instructions)
            continue
        if (function := FUNCTION.match(line)) is not None:
            functions.add(function[1])
        text = " ".join(line.partition(comment)[0].split())
        if text and not text.startswith("."):
            instructions.append(text)
    return Listing(tuple(instructions), labels, frozenset(functions))


def operands(text: str) -> tuple[str, list[str]]:
    """The mnemonic and its operands, which commas outside brackets separate."""
    mnemonic, _, rest = text.partition(" ")
    found, depth, start = [], 0, 0
    for place, sign in enumerate(rest):
        if sign in "([{":
            depth += 1
        elif sign in ")]}":
            depth -= 1
        elif sign == "," and depth == 0:
            found.append(rest[start:place].strip())
            start = place + 1
    last = rest[start:].strip()
    return mnemonic, [*found, last] if last else found
