"""The hot loops of a network's ARM kernels, as LLVM compiles them for each core.

    python benchmarks/arm_assembly.py [--target arm-rpi4 ...] [--precision fp16|bf16|int8]
                                      [--llvm-mca /usr/bin/llvm-mca-19]

A line for each kernel, with what its hot loop takes: instructions per FMA of a register, in bf16
and int8 per product and what adds it to sums, stack accesses, loads of single floats, and where
llvm-mca is there and has a model of the core the share of the core's products that this starts
(cached data, no branch ever mispredicted). Nothing is run: no board is needed. Kernels are those of
the default schedules. In int8 the network is quantized as ``bench --sweep`` does it.

llvm-mca has to be of LLVM 16 or newer (``apt-get install llvm-19``): older ones give N1 the model
of A57, which starts one FMA a cycle where N1 starts two. A76, whose pipelines are N1's, has no
model of its own to this day and is shown by N1's.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet import cli, network_flags, tvm_runtime
from tvm_mobilenet.compiler import precision
from tvm_mobilenet.errors import BadInput, RunFailed, first_line
from tvm_mobilenet.hardware import target

if TYPE_CHECKING:
    from rich.table import Table

    from tvm_mobilenet.compiler.options import CompileOptions
    from tvm_mobilenet.compiler.precision import Precision
    from tvm_mobilenet.core_model.loops import Loop
    from tvm_mobilenet.hardware.target import TargetSpec
    from tvm_mobilenet.network.source import NetworkSpec, Source

LATER = (
    *("arm-rk3566", "arm-rpi5", "arm-graviton2", "arm-graviton3", "arm-jetson-orin"),
    "arm-apple-m1",
)
TARGETS: dict[Precision, tuple[str, ...]] = {  # by default, by precision
    "fp32": ("arm-rpi3", "arm-rpi4", *LATER),
    "fp16": LATER,
    "bf16": ("arm-graviton3",),
    "int8": ("arm-rpi3", "arm-rpi4", *LATER),
}
MODELS = {  # of llvm-mca, by the target's mcpu
    "cortex-a53": "cortex-a53",
    "cortex-a55": "cortex-a55",
    "cortex-a72": "cortex-a72",
    "cortex-a76": "neoverse-n1",
    "neoverse-n1": "neoverse-n1",
    "neoverse-v1": "neoverse-v1",
}
LEAST_LLVM = 16
NEWEST_LLVM = 30
ITERATIONS = 100
WIDTH = 128  # no kernel name is cut
# what only a linker fills in
RELOCATION = re.compile(r":\w+:[\w.$]+")
NEIGHBOURS = re.compile(r"^sadalp\b")  # adds products up, and multiplies nothing


def main() -> int:
    parser = cli.make_parser("arm_assembly", "The hot loops of ARM kernels, core by core.")
    parser.add_argument("--target", action="append", metavar="T", help="64-bit ARM ones")
    parser.add_argument("--llvm-mca", metavar="FILE", help="(default: the newest on PATH)")
    what = "of the kernels; fp16 and bf16 for cores that have them (default: %(default)s)"
    parser.add_argument("--precision", choices=tuple(TARGETS), default="fp32", help=what)
    network_flags.add_model_flags(parser)
    return cli.run_command(report, parser.parse_args())


def report(args: argparse.Namespace) -> int:
    from rich.console import Console

    from tvm_mobilenet.compiler.options import CompileOptions

    mca = find_mca(args.llvm_mca)
    tvm_runtime.compiler()  # without PyTorch
    specs = [resolve(name, args.precision) for name in args.target or TARGETS[args.precision]]
    given, computed = network_flags.spec_of(args), args.precision
    network = quantized(given) if computed == "int8" else given.open()
    if computed == "int8":
        computed = "fp32"  # the file says by itself what is in int8
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    if mca is None:
        console.print(f"no llvm-mca of LLVM {LEAST_LLVM} or newer: no utilisation; see --help")
    for spec in specs:
        console.print(table(network, CompileOptions(as_elf(spec), computed), mca))
    return 0


def resolve(name: str, asked: Precision) -> TargetSpec:
    """The target. Raises BadInput for one that is none of 64-bit ARM, or lacks the precision."""
    spec = target.resolve(name)
    if spec.family != "arm" or not str(spec.target["mtriple"]).startswith(("aarch64", "arm64")):
        raise BadInput(f"--target {name}: expected one of 64-bit ARM, like arm-rpi3")
    precision.check(asked, spec)
    return spec


def quantized(network: NetworkSpec) -> Source:
    """One of our networks in int8, with random weights and samples; an ONNX file as it is."""
    from tvm_mobilenet.benchmark import cases
    from tvm_mobilenet.network import source

    if network.onnx is not None:
        return network.open()
    with tempfile.TemporaryDirectory(prefix="tvm-mobilenet-") as scratch:
        made = cases.quantized(network.config, 1, (), Path(scratch), "int8")
        assert made.onnx is not None
        return source.from_onnx(made.onnx)


def as_elf(spec: TargetSpec) -> TargetSpec:
    """The target, whose assembly is spelled as Linux has it."""
    return replace(spec, target={**spec.target, "mtriple": "aarch64-linux-gnu"})


def table(network: Source, options: CompileOptions, mca: str | None) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    spec, model = options.spec, None
    mcpu, width = str(spec.target["mcpu"]), spec.facts["fmas"]
    if mca is not None and options.precision != "bf16":
        model = MODELS.get(mcpu)
    modelled = f"; llvm-mca's model of {model}" if model else ""
    title = f"{spec.name}: {mcpu}, {width} FMA{'s' * (width > 1)} a cycle{modelled}"
    result = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    result.add_column("kernel")
    for heading in ("FMAs", "by element", "instructions/FMA", "stack", "scalar loads", "FMA peak"):
        result.add_column(heading, justify="right")
    for name, loop in hot_loops(network, options):
        share = ""
        if mca is not None and model is not None:
            share = f"{utilisation(mca, model, loop, width):.0%}"
        products = loop.fmas + loop.dot_products
        each = f"{len(loop.instructions) / products:.2f}"
        figures = (products, loop.by_element_fmas, each)
        counts = (len(loop.stack_accesses), len(loop.scalar_loads))
        result.add_row(Text(name), *map(str, (*figures, *counts)), share)
    return result


def hot_loops(network: Source, options: CompileOptions) -> Iterator[tuple[str, Loop]]:
    """Every kernel that multiplies, with its hot loop; a fused one with both of its own."""
    from tvm_mobilenet.compiler import pipeline
    from tvm_mobilenet.compiler.cpu.lowering import lower
    from tvm_mobilenet.core_model import loops
    from tvm_mobilenet.scheduling.rules import default_schedule

    machine = options.spec.tvm_target()
    for kernel in pipeline.kernels_of(network.relax_module(), options):
        func = kernel.func.with_attr("global_symbol", "main")
        scheduled = default_schedule(func, machine).mod
        assembly = str(lower(scheduled, machine).inspect_source("asm"))
        loop = loops.hot_loop(assembly, "aarch64")
        if kernel.name.removeprefix("fp16_").startswith("separable"):
            found = loops.innermost_loops(assembly, "aarch64")
            yield f"{kernel.name}, 1x1", max(found, key=lambda one: one.by_element_fmas)
            filters = [one for one in found if not one.by_element_fmas]
            yield f"{kernel.name}, depthwise", max(filters, key=lambda one: one.fmas)
        elif loop.fmas + loop.dot_products:
            yield kernel.name, loop


def find_mca(path: str | None) -> str | None:
    """The llvm-mca to ask; None where there is none new enough. Raises BadInput for a bad path."""
    if path is not None:
        if version_of(path) < LEAST_LLVM:
            raise BadInput(f"--llvm-mca {path}: expected LLVM {LEAST_LLVM} or newer")
        return path
    names = ["llvm-mca", *(f"llvm-mca-{n}" for n in range(LEAST_LLVM, NEWEST_LLVM))]
    found = [name for name in names if shutil.which(name)]
    newest = max(found, key=version_of, default=None)
    return newest if newest is not None and version_of(newest) >= LEAST_LLVM else None


def version_of(mca: str) -> int:
    try:
        said = subprocess.run([mca, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise BadInput(f"--llvm-mca {mca}: does not run: {error}") from None
    found = re.search(r"LLVM version (\d+)", said.stdout)
    if found is None:
        raise BadInput(f"--llvm-mca {mca}: tells no LLVM version")
    return int(found[1])


def utilisation(mca: str, model: str, loop: Loop, width: int) -> float:
    """The loop's products per modelled cycle, as a share of what the core starts at best."""
    products = loop.fmas + loop.dot_products - len(loop.matching(NEIGHBOURS))
    return products / cycles(mca, model, loop) / width


def cycles(mca: str, model: str, loop: Loop) -> float:
    """Cycles of one iteration, many of them in a row. Raises RunFailed where llvm-mca refuses."""
    text = "\n".join(RELOCATION.sub("0", line) for line in loop.instructions)
    command = [mca, "-mtriple=aarch64", f"-mcpu={model}", f"-iterations={ITERATIONS}"]
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    total = re.search(r"^Total Cycles:\s+(\d+)$", result.stdout, re.MULTILINE)
    if total is None:
        raise RunFailed(f"llvm-mca: {first_line(result.stderr)}")
    return int(total[1]) / ITERATIONS


if __name__ == "__main__":
    sys.exit(main())
