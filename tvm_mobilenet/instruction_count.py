"""How many instructions an inference takes on an emulated ARM core: a figure that repeats exactly.

Not a time. It says how much work a bundle leaves to a core, and compares two bundles, or two
engines, for the same core. QEMU runs the bundle's library, without Python, and a plugin counts;
two runs of different length are subtracted, so that loading counts for nothing. The output is
compared with the bundle's expected one: a wrong answer has no count.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet import cli, emulator, toolchain
from tvm_mobilenet.errors import BadInput, RunFailed

if TYPE_CHECKING:
    from tvm_mobilenet.bundle import Bundle
    from tvm_mobilenet.emulator import Emulator

SOURCES = Path(__file__).resolve().parent / "emulation"
CROSS_COMPILER = "aarch64-linux-gnu-gcc"
RUNS = (1, 3)  # inferences of the two runs that are subtracted
TIMEOUT_S = 300
EXECUTED = re.compile(r"^executed (\d+)$", re.MULTILINE)


def count(bundle: str | Path, threads: int = 1, device: Emulator | None = None) -> int:
    """Instructions of one inference, all threads together. With several, waiting counts too.

    Raises BadInput where the emulator or a compiler is missing or the bundle is for another
    architecture, RunFailed where the bundle fails on the device or its output is wrong.
    """
    from tvm_mobilenet import foreign_bundle

    device = device or emulator.find()
    opened = foreign_bundle.open_for("aarch64", bundle)
    try:
        executed = [run(opened, device, threads, runs) for runs in RUNS]
    finally:
        opened.close()
    return (executed[1] - executed[0]) // (RUNS[1] - RUNS[0])


def run(bundle: Bundle, device: Emulator, threads: int, runs: int) -> int:
    """Instructions of a whole process of so many inferences, whose output is checked."""
    import numpy as np

    from tvm_mobilenet.run import relative_difference

    manifest = bundle.manifest
    with tempfile.TemporaryDirectory(prefix="tvm-mobilenet-") as name:
        folder = Path(name)
        np.ascontiguousarray(bundle.sample_input()).tofile(folder / "input")
        tensors = [f"{folder}/input:{shape(manifest.inputs[0].shape)}"]
        for info in manifest.outputs:
            tensors.append(f"{folder}/{info.name}:{shape(info.shape)}")
        library, parameters = str(bundle.library.resolve()), str(bundle.parameters.resolve())
        numbers = (manifest.workspace_bytes, threads, runs)
        executed = execute(
            device.command(
                driver(device),
                *(library, parameters, *map(str, numbers), *tensors),
                plugin=counter(device),
            )
        )
        for info, wanted in zip(manifest.outputs, bundle.expected_outputs(), strict=True):
            came = np.fromfile(folder / info.name, info.dtype).reshape(info.shape)
            difference = relative_difference(came, wanted)
            if not difference <= bundle.tolerance():
                raise RunFailed(
                    f"{bundle.path}: {info.name} differs by {difference:.2g} on the emulated "
                    f"{device.cpu}, at most {bundle.tolerance():.2g} allowed; nothing was counted"
                )
    return executed


def execute(command: list[str]) -> int:
    """Run under the plugin; the instructions it counted. Raises RunFailed where the run fails."""
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise RunFailed(f"{command[0]} did not end in {TIMEOUT_S} s") from None
    executed = EXECUTED.search(result.stderr)
    if result.returncode or executed is None:
        lines = [line for line in result.stderr.splitlines() if not EXECUTED.match(line)]
        reason = lines[-1] if lines else f"status {result.returncode}"
        raise RunFailed(f"{command[0]} failed: {reason}")
    return int(executed[1])


def driver(device: Emulator) -> Path:
    """The aarch64 program that runs a library, compiled on first use."""
    includes = [f"-I{device.packages}/tvm_ffi/include"]
    return compiled(device.folder / "infer", "infer.c", CROSS_COMPILER, [*includes, "-ldl"])


def counter(device: Emulator) -> Path:
    """QEMU's plugin, for this machine, compiled on first use."""
    flags = ["-shared", "-fPIC"]
    return compiled(device.folder / "count_instructions.so", "count_instructions.c", "gcc", flags)


def compiled(program: Path, source: str, compiler: str, flags: list[str]) -> Path:
    path = SOURCES / source
    if program.is_file() and program.stat().st_mtime >= path.stat().st_mtime:
        return program
    if shutil.which(compiler) is None:
        package = toolchain.package_of(compiler)
        raise BadInput(f"{compiler} is not installed; apt-get install {package}")
    unfinished = program.with_suffix(".part")
    command = [compiler, "-O2", "-Wall", "-o", str(unfinished), str(path), *flags]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RunFailed(f"{compiler} cannot compile {source}: {result.stderr.strip()[:500]}")
    unfinished.replace(program)
    return program


def shape(dims: Sequence[int]) -> str:
    return ",".join(map(str, dims))


def main(argv: Sequence[str] | None = None) -> int:
    """Print the count of each bundle."""
    parser = cli.make_parser(
        "instruction_count", "Count a bundle's instructions per inference on an emulated ARM core."
    )
    parser.add_argument("bundle", metavar="BUNDLE", nargs="+", type=Path)
    parser.add_argument(
        "--threads", type=cli.positive_int, default=1, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--cpu", default=emulator.CPU, help="the core, by QEMU's name of it (default: %(default)s)"
    )
    return cli.run_stage(_count, cli.parse(parser, argv))


def _count(args: argparse.Namespace) -> int:
    device = dataclasses.replace(emulator.find(), cpu=args.cpu)
    for bundle in args.bundle:
        executed = count(bundle, args.threads, device)
        print(
            f"{bundle}: {executed / 1e6:.1f} million instructions an inference "
            f"(emulated {device.cpu}, {args.threads} thread{'s' * (args.threads > 1)})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
