"""Programs in C that use a bundle's library: how they are built and run, and what they print."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "c"
FAULTS = ROOT / "tests" / "support" / "faults.c"
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-pedantic")


def output_of(*command: str | Path, **environment: str) -> str:
    """What a program prints that must succeed."""
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


# what faults.c prints
FAULT_LINES = """\
no file: 8: /nowhere/parameters.bin: No such file or directory
a folder: 8: /: not a regular file
truncated weights: 4: .*: expected \\d+ bytes of weights, got \\d+
foreign weights: 4: .*: not the weights of classifier \\(hash .*\\)
weights to NULL: 1: weights is NULL
no memory of weights: 1: data is NULL
create to NULL: 1: context is NULL
no weights: 1: weights is NULL, and classifier holds none itself
no options: 1: weights is NULL, and classifier holds none itself
another version: 2: the options are of version 2, the library of 1
another header: 2: the header is not that of this library of classifier; .*
threads below zero: 1: threads: expected 0 to 800, got -1
more threads than know their numbers: 1: threads: expected 0 to 800, got 801
as many of the caller's: 1: threads: expected 1 to 800, got 801
as many of a pool: 1: threads: expected 0 to 800, got 801
threads of nobody: 1: parallel->run is NULL
a small workspace: 5: expected a workspace of \\d+ bytes, got \\d+
a misaligned workspace: 5: the workspace is not aligned to 64 bytes
a workspace: 0: ok
run without a context: 1: there is no such context
run on NULL: 1: inputs\\[0\\] is NULL
run to NULL: 1: outputs\\[0\\] is NULL
run onto its input: 1: inputs\\[0\\] and outputs\\[0\\] overlap
run on what is not aligned: 0: ok
rounding mode kept: 1
denormals kept: 1
output number 7: 0
threads that refuse: 1
threads one by one: 1
a context at work: 1 9
a pool of its own: 1
a pinned pool: 1
"""


def damaged(weights: Path, folder: Path) -> tuple[Path, Path]:
    """The file cut short, and with one bit changed."""
    data = bytearray(weights.read_bytes())
    (folder / "short").write_bytes(data[:-1])
    data[len(data) // 2] ^= 1
    (folder / "foreign").write_bytes(data)
    return folder / "short", folder / "foreign"


def check_faults(printed: str) -> None:
    lines, expected = printed.splitlines(), FAULT_LINES.splitlines()
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line)
