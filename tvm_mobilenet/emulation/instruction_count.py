"""How many instructions an inference takes on an emulated ARM core: a figure that repeats exactly.

Not a time. It says how much work a bundle leaves to a core, and compares two bundles, or two
engines, for the same core. QEMU runs the bundle's library, without Python, and a plugin counts;
two runs of different length are subtracted, so that loading counts for nothing. What was computed
comes back with the count: one of a wrong answer means nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import files
from tvm_mobilenet.emulation.emulator import SYSTEMS
from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.hardware.toolchain import compile_c
from tvm_mobilenet.library.description import NATIVE as LIBRARY_SOURCES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tvm_mobilenet.bundle import Bundle
    from tvm_mobilenet.emulation.emulator import Emulator

NATIVE = Path(__file__).resolve().parent / "native"
RUNS = (1, 2)  # inferences of the two runs that are subtracted
TIMEOUT_S = 300
EXECUTED = re.compile(r"^executed (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Count:
    """Instructions of one inference, all threads together, and what it computed.

    With several threads their waiting for each other counts too.
    """

    instructions: int
    outputs: tuple[NDArray[Any], ...]


def count(
    bundle: Bundle, inputs: Sequence[NDArray[Any]], device: Emulator, threads: int = 1
) -> Count:
    """Count an inference of ``inputs`` by a bundle for the device's architecture.

    Raises BadInput where a compiler is missing, RunFailed where the bundle fails on the device.
    """
    instructions = 0

    def infer(command: Callable[[int], Sequence[str]]) -> None:
        nonlocal instructions
        instructions = of_one_inference(lambda runs: execute(device, command(runs)))

    outputs = on_files(bundle, inputs, device, threads, infer)
    return Count(instructions, outputs)


def compute(
    bundle: Bundle, inputs: Sequence[NDArray[Any]], device: Emulator
) -> tuple[NDArray[Any], ...]:
    """What a bundle makes of ``inputs`` on one thread, uncounted: one run, in the place of three.

    Raises as ``count`` does.
    """

    def infer(command: Callable[[int], Sequence[str]]) -> None:
        run(device.command(*command(1)), device.environment)

    return on_files(bundle, inputs, device, 1, infer)


def on_files(
    bundle: Bundle,
    inputs: Sequence[NDArray[Any]],
    device: Emulator,
    threads: int,
    infer: Callable[[Callable[[int], Sequence[str]]], None],
) -> tuple[NDArray[Any], ...]:
    """The outputs that ``infer`` leaves, given the command of so many inferences of ``inputs``."""
    import numpy as np

    manifest = bundle.manifest
    with files.temporary_folder() as folder:
        for info, x in zip(manifest.inputs, inputs, strict=True):
            np.ascontiguousarray(x).tofile(folder / info.name)
        tensors = [f"{folder}/{info.name}" for info in (*manifest.inputs, *manifest.outputs)]
        parameters = "-" if manifest.embedded_weights else str(bundle.parameters.resolve())
        network = (str(bundle.library.resolve()), manifest.name, parameters)
        program = str(driver(device))
        infer(lambda runs: [program, *network, str(threads), str(runs), *tensors])
        return tuple(
            np.fromfile(folder / info.name, info.dtype).reshape(info.shape)
            for info in manifest.outputs
        )


def of_one_inference(execute_runs: Callable[[int], int], runs: tuple[int, int] = RUNS) -> int:
    """From the counts of two whole processes, which infer ``runs`` times each."""
    few, many = map(execute_runs, runs)
    return (many - few) // (runs[1] - runs[0])


def execute(device: Emulator, command: Sequence[str], stdin: str = "") -> int:
    """Run a program of its architecture on the device; the instructions it took.

    Raises RunFailed where it fails or does not end.
    """
    return executed_by(device.command(*command, plugin=counter(device)), device.environment, stdin)


def executed_by(command: Sequence[str], environment: dict[str, str], stdin: str = "") -> int:
    """What the plugin says of a command that loads it. Raises as ``execute`` does."""
    executed = EXECUTED.search(run(command, environment, stdin))
    if executed is None:
        raise RunFailed(f"{command[0]} failed: the plugin counted nothing")
    return int(executed[1])


def run(command: Sequence[str], environment: dict[str, str], stdin: str = "") -> str:
    """Run a command of the emulator; what it says on stderr. Raises as ``execute`` does."""
    try:
        result = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env={**os.environ, **environment},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RunFailed(f"{command[0]} did not end in {TIMEOUT_S} s") from None
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if not EXECUTED.match(line)]
        lines = lines or result.stdout.splitlines()
        raise RunFailed(f"{command[0]} failed: {lines[-1] if lines else result.returncode}")
    return result.stderr


def driver(device: Emulator) -> Path:
    """The program of the device's architecture that runs a library, compiled on first use."""
    flags = [f"-I{LIBRARY_SOURCES}", "-ldl"]
    program = device.folder / f"infer-{device.architecture}"
    compiler = SYSTEMS[device.architecture].compiler
    return compile_c(NATIVE / "infer.c", program, compiler, flags)


def counter(device: Emulator) -> Path:
    """QEMU's plugin, for this machine, compiled on first use."""
    program = device.folder / "count_instructions.so"
    return compile_c(NATIVE / "count_instructions.c", program, "gcc", ["-shared", "-fPIC"])
