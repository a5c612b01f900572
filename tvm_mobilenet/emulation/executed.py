"""Which instructions an inference executes on an emulated ARM core, each of them how often.

As instruction_count.py, and by the same plugin, which here says what the blocks are made of that
QEMU translated. The cross compiler's objdump spells the instructions.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import files
from tvm_mobilenet.emulation.instruction_count import RUNS, counter, executed_by, on_files
from tvm_mobilenet.errors import BadInput, RunFailed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tvm_mobilenet.bundle import Bundle
    from tvm_mobilenet.emulation.emulator import Emulator

OBJDUMP = "aarch64-linux-gnu-objdump"
PACKAGE = "binutils-aarch64-linux-gnu"


@dataclass(frozen=True)
class Executed:
    """How often one inference executed each instruction, by its text, and what it computed."""

    instructions: Counter[str]
    outputs: tuple[NDArray[Any], ...]


def count_each(
    bundle: Bundle, inputs: Sequence[NDArray[Any]], device: Emulator, threads: int = 1
) -> Executed:
    """Count an inference of ``inputs`` by a bundle for aarch64, instruction by instruction.

    Raises BadInput where a compiler or objdump is missing, RunFailed where the bundle fails.
    """
    encodings: Counter[int] = Counter()

    def infer(command: Callable[[int], Sequence[str]]) -> None:
        few, many = (execute(device, command(runs)) for runs in RUNS)
        many.subtract(few)
        encodings.update({code: times for code, times in many.items() if times})

    outputs = on_files(bundle, inputs, device, threads, infer)
    codes = list(encodings)
    instructions: Counter[str] = Counter()
    for text, code in zip(disassemble(codes), codes, strict=True):
        instructions[text] += encodings[code] // (RUNS[1] - RUNS[0])
    return Executed(instructions, outputs)


def execute(device: Emulator, command: Sequence[str]) -> Counter[int]:
    """Run an aarch64 program on the device; how often it executed each encoded instruction.

    Raises RunFailed where it fails, or what was counted is not what was executed.
    """
    with files.temporary_folder() as folder:
        blocks = folder / "blocks"
        plugin = f"{counter(device)},blocks={blocks}"
        total = executed_by(device.command(*command, plugin=plugin), device.environment)
        lines = blocks.read_text().splitlines() if blocks.is_file() else []
    encodings: Counter[int] = Counter()
    for times, *codes in map(str.split, lines):
        for code in codes:
            encodings[int(code, 16)] += int(times)
    if encodings.total() != total:
        raise RunFailed(f"{command[0]}: of {total} instructions {encodings.total()} are known")
    return encodings


def disassemble(codes: Sequence[int]) -> list[str]:
    """The text of each instruction, as ``fmla v0.4s, v1.4s, v2.s[3]``.

    Raises BadInput where objdump is missing, RunFailed where it fails.
    """
    if shutil.which(OBJDUMP) is None:
        raise BadInput(f"{OBJDUMP} is not installed; apt-get install {PACKAGE}")
    options = ("-D", "-z", "-b", "binary", "-m", "aarch64", "--no-show-raw-insn")
    with files.temporary_folder() as folder:
        file = folder / "code"
        file.write_bytes(struct.pack(f"<{len(codes)}I", *codes))
        command = [OBJDUMP, *options, str(file)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line.split(":\t", 1) for line in result.stdout.splitlines() if ":\t" in line]
    if result.returncode or len(lines) != len(codes):
        raise RunFailed(f"{OBJDUMP} spelled {len(lines)} of {len(codes)} instructions")
    return [" ".join(text.partition("//")[0].split()) for _, text in lines]
