"""All that is measured on an Intel CPU with AVX-512, in every precision, one step after the other.

    python benchmarks/intel.py [--dry-run] [--only profile,int8-sweep] [--results DIR]

The steps, each into a file of its own, ``NAME-STEP.json`` with the target's name. First, where
there is AMX, ``amx-tests`` runs the tests of it, by the CPU's own tiles. In fp32:

- ``profile``: MobileNetV1's layers against what the core can do, default schedules
- ``sweep``: the 16 variants beside the peers on one and two threads, default schedules
- ``noise``: with Strassen's algorithm and without it, beside a busy CPU and the peers
- ``default-and-tuned``: default schedules against records that are made here first

In int8 and in bf16, with ``int8-`` or ``bf16-`` before them, ``profile``, ``sweep``,
``default-and-tuned``, and beside these:

- ``zoo``: the networks people ship beside the peers, as in ``sweep``
- ``layers``: the kernels by AMX's tiles beside those without, layer by layer in turns: by VNNI in
  int8; in bf16 by AVX512_BF16, and in float32
- ``expected``: a profile's layers beside what was expected of AMX before it had run (docs/amx.md)

bf16 and the last two need AMX; without it they are left out, in a line each. ``--dry-run`` prints
the commands and about how long each step takes, on any machine; all of it takes some four hours of
a machine that does nothing else. A step whose file is there is not run again, and a sweep that was
interrupted goes on: run the same command.
"""

from __future__ import annotations

import argparse
import functools
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tvm_mobilenet import cli
from tvm_mobilenet.benchmark.pace import about
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware import cpu, cpu_names, target

INTEL_AVX512 = "an Intel CPU with AVX-512"
Precision = Literal["fp32", "int8", "bf16"]
PEERS: dict[Precision, str] = {
    "fp32": "onnxruntime,openvino,litert,torch-compile",
    "int8": "onnxruntime,openvino,litert",
    "bf16": "openvino,torch-compile",  # the others have none
}
# what emulated tiles run elsewhere
TESTS = (
    "tests/emulation/test_tile_unit.py",
    "tests/kernels/test_probes.py",
    "tests/schedules/test_tiles.py",
    "tests/compiler/test_tile_networks.py",
    "tests/commands/test_amx.py",
)
STUDIES = Path(__file__).parent
WITHOUT_TILES = "x86-icelake"
# as the target with AMX, whose bf16 is by AVX512_BF16
WITHOUT_AMX = "benchmarks/x86-sapphirerapids-without-amx.toml"
TUNE_ONE = "10m"  # for 1.0-224 alone
SAMPLES = (
    "import numpy as np; np.save({!r}, np.random.default_rng(0).standard_normal({}, np.float32))"
)
SAMPLE_COUNT = 16
Command = tuple[str, ...]


@dataclass(frozen=True)
class Options:
    """What is measured, and where files go: ``results`` in the end, bundles into ``work``."""

    target: str
    alpha: float
    resolution: int
    min_time: str
    tune_time: str
    results: Path
    work: Path

    def file(self, step: str) -> str:
        return str(self.results / f"{target.resolve(self.target).name}-{step}.json")

    def bundle(self, name: str) -> str:
        return str(self.work / name)

    def size(self) -> Command:
        return ("--alpha", f"{self.alpha:g}", "--resolution", str(self.resolution))

    def precision(self, precision: Precision) -> Command:
        """The flags of ``compile`` and ``tune``; int8's samples are those of ``samples``."""
        if precision == "fp32":
            return ()
        calibrate = ("--calibrate", self.bundle("samples.npy")) if precision == "int8" else ()
        return ("--precision", precision, *calibrate)

    def samples(self, precision: Precision) -> list[Command]:
        """Of random numbers, as the weights are: for how long it takes, they make no difference."""
        if precision != "int8":
            return []
        shape = (SAMPLE_COUNT, 3, self.resolution, self.resolution)
        return [("python", "-c", SAMPLES.format(self.bundle("samples.npy"), shape))]

    def compile(self, name: str, *flags: str, to: str | None = None) -> Command:
        """Of MobileNetV1, with default schedules where ``flags`` name no records."""
        records = () if "--tuning-records" in flags else ("--tuning-records", "none")
        where = ("--target", to or self.target, *self.size(), *records, "--on-untuned", "allow")
        return ("tvm-mobilenet", "compile", *where, *flags, "-o", self.bundle(name))

    def compile_default(self, precision: Precision) -> list[Command]:
        """To ``default-PRECISION``, with what it needs before."""
        flags = self.precision(precision)
        return [*self.samples(precision), self.compile(f"default-{precision}", *flags)]


def tests(_options: Options, _precision: Precision, _step: str) -> list[Command]:
    return [("python", "-m", "pytest", "-q", *TESTS)]


def profile(options: Options, precision: Precision, step: str) -> list[Command]:
    default = options.bundle(f"default-{precision}")
    flags = ("--profile", default, "--min-runs", "300", "--json", options.file(step))
    return [*options.compile_default(precision), ("tvm-mobilenet", "bench", *flags)]


def sweep(
    options: Options, precision: Precision, step: str, *, which: str = "--sweep"
) -> list[Command]:
    of = () if precision == "fp32" else ("--precision", precision)
    what = (which, *of, "--target", options.target, "--tuning-records", "none")
    how = ("--against", PEERS[precision], "--threads", "1,2", "--min-time", options.min_time)
    file = ("--patience", "10s", "--json", options.file(step), "--resume")
    return [("tvm-mobilenet", "bench", *what, *how, *file)]


zoo = functools.partial(sweep, which="--zoo")


def noise(options: Options, precision: Precision, step: str) -> list[Command]:
    both = (options.bundle("default-fp32"), options.bundle("direct"))
    flags = ("--against", "onnxruntime,openvino", "--noise", "memory,fma")
    file = ("--min-time", options.min_time, "--json", options.file(step))
    return [
        *options.compile_default(precision),
        options.compile("direct", "--no-strassen"),
        ("tvm-mobilenet", "bench", *both, *flags, *file),
    ]


def default_and_tuned(options: Options, precision: Precision, step: str) -> list[Command]:
    """In fp32 all 16 variants are tuned together."""
    records, flags = options.bundle(f"records-{precision}"), options.precision(precision)
    many = precision == "fp32"
    of = ("--sweep",) if many else (*options.size(), *flags)
    budget = ("--time-budget", options.tune_time if many else TUNE_ONE)
    where = ("--target", options.target, *budget, "--work-dir", records, "--resume")
    both = (options.bundle(f"default-{precision}"), options.bundle(f"tuned-{precision}"))
    file = ("--seconds", "30", "--json", options.file(step))
    return [
        *options.compile_default(precision),
        ("tvm-mobilenet", "tune", *of, *where),
        options.compile(f"tuned-{precision}", *flags, "--tuning-records", records),
        ("python", "benchmarks/bundle_pairs.py", *both, *file),
    ]


def layers(options: Options, precision: Precision, step: str) -> list[Command]:
    """The last bundle is the one whose kernels the target chose."""
    flags = options.precision(precision)
    others = {"int8": {"vnni": WITHOUT_TILES}, "bf16": {"pairs": WITHOUT_AMX}}[precision]
    made = [options.compile(name, *flags, to=to) for name, to in others.items()]
    names = [*others]
    if precision == "bf16":
        made.append(options.compile("fp32", to=WITHOUT_TILES))
        names.append("fp32")
    bundles = map(options.bundle, [*names, f"default-{precision}"])
    compare = ("python", "benchmarks/layer_pairs.py", *bundles, "--json", options.file(step))
    return [*options.compile_default(precision), *made, compare]


def expected(options: Options, precision: Precision, step: str) -> list[Command]:
    """Prints; what is written is the profile, where that is not there yet."""
    of = f"{precision}-profile"
    compare = ("python", "benchmarks/amx_cycles.py", "--profile", options.file(of))
    return [(*compare, "--json", options.file(step))]


@dataclass(frozen=True)
class Step:
    """What it runs, and about how long that takes on two CPUs. Some need ``amx``.

    One that ``goes_on`` takes up what its file has.
    """

    commands: Callable[[Options, Precision, str], list[Command]]
    precision: Precision
    minutes: int
    amx: bool = False
    goes_on: bool = False


def narrow_steps(precision: Precision) -> Iterator[tuple[str, Step]]:
    """Those of int8 or bf16. On Intel bf16 without AMX is half as fast as float32."""
    amx = precision == "bf16"
    yield f"{precision}-profile", Step(profile, precision, 2, amx)
    yield f"{precision}-expected", Step(expected, precision, 1, amx=True)
    yield f"{precision}-layers", Step(layers, precision, 3, amx=True)
    yield f"{precision}-sweep", Step(sweep, precision, 20, amx, goes_on=True)
    yield f"{precision}-zoo", Step(zoo, precision, 20, amx, goes_on=True)
    yield f"{precision}-default-and-tuned", Step(default_and_tuned, precision, 13, amx)


STEPS: dict[str, Step] = {
    "amx-tests": Step(tests, "int8", 3, amx=True),
    "profile": Step(profile, "fp32", 2),
    "sweep": Step(sweep, "fp32", 60, goes_on=True),
    "noise": Step(noise, "fp32", 6),
    "default-and-tuned": Step(default_and_tuned, "fp32", 55),
    **dict(narrow_steps("int8")),
    **dict(narrow_steps("bf16")),
}


def main() -> int:
    parser = cli.make_parser("intel", "Measure everything on an Intel CPU with AVX-512.")
    add = parser.add_argument
    what = "print the commands and how long they take, run nothing; on any machine"
    add("--dry-run", action="store_true", help=what)
    what = f"comma-separated, of {', '.join(STEPS)} (default: all)"
    add("--only", type=parse_steps, default=tuple(STEPS), metavar="STEP,...", help=what)
    add("--target", default="x86", metavar="T", help="as of `compile` (default: this host's)")
    what = "for the files (default: benchmarks/results)"
    add("--results", type=Path, default=Path("benchmarks/results"), metavar="DIR", help=what)
    what = "for bundles and records (default: build/intel)"
    add("--work", type=Path, default=Path("build/intel"), metavar="DIR", help=what)
    add("--alpha", type=cli.alpha, default=1.0, help="but in the sweep (default: %(default)s)")
    add("--resolution", type=cli.resolution, default=224, help="likewise (default: %(default)s)")
    add("--min-time", default="0.5s", metavar="S", help="for each engine (default: %(default)s)")
    add("--tune-time", default="45m", metavar="T", help="for the 16 variants (default: 45m)")
    return cli.run_command(run, parser.parse_args())


def parse_steps(text: str) -> tuple[str, ...]:
    for name in (names := tuple(text.split(","))):
        if name not in STEPS:
            raise argparse.ArgumentTypeError(f"expected some of {', '.join(STEPS)}, got {name!r}")
    return names


def run(args: argparse.Namespace) -> int:
    options = Options(
        args.target,
        args.alpha,
        args.resolution,
        args.min_time,
        args.tune_time,
        args.results,
        args.work,
    )
    if args.dry_run:
        for name in args.only:
            print(heading(name))
            print("\n".join(map(shlex.join, commands_of(options, name))))
        return 0
    check_cpu(cpu.read_cpuinfo())
    measure(options, args.only)
    return 0


def heading(name: str) -> str:
    step = STEPS[name]
    return f"# {name}: {about(60 * step.minutes)}{', needs AMX' if step.amx else ''}"


def commands_of(options: Options, name: str) -> list[Command]:
    step = STEPS[name]
    return step.commands(options, step.precision, name)


def check_cpu(cpuinfo: str) -> None:
    """Raise BadInput where the text of a /proc/cpuinfo is of another CPU than these steps want."""
    fields, features = cpu.first_fields(cpuinfo), cpu.parse_features(cpuinfo)
    if fields.get("vendor_id") != cpu_names.INTEL or "avx512f" not in features:
        name = cpu_names.microarchitecture(fields) or cpu.parse_model(cpuinfo) or "none known"
        raise BadInput(f"expected {INTEL_AVX512}, got {name}; --dry-run prints the commands")


def measure(options: Options, names: Sequence[str]) -> None:
    """Run the steps whose files are not there. Raises RunFailed where a command of one fails."""
    options.results.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    found = target.resolve(options.target)
    tiles = cpu.TILES in found.cpu_features
    left = [name for name in names if not skipped(options, name, tiles=tiles)]
    for name in names:
        if name not in left:
            print(skipped(options, name, tiles=tiles), flush=True)
    if left:
        minutes = sum(STEPS[name].minutes for name in left)
        print(f"{len(left)} steps for {found.name}: {about(60 * minutes)}", flush=True)
    for name in left:
        print(heading(name), flush=True)
        for command in commands_of(options, name):
            print(f"$ {shlex.join(command)}", flush=True)
            done = subprocess.run(as_run_here(command), check=False)
            if done.returncode:
                raise RunFailed(f"{name}: a command ended with status {done.returncode}, see above")


def skipped(options: Options, name: str, *, tiles: bool) -> str:
    """Why a step is not run, in a line; empty where it is."""
    step, file = STEPS[name], Path(options.file(name))
    if step.amx and not tiles:
        return f"{name}: left out, {target.resolve(options.target).name} has no AMX"
    if file.exists() and not step.goes_on:
        return f"{name}: {file} is there; remove it to measure again"
    return ""


def as_run_here(command: Command) -> list[str]:
    """By this Python, whatever PATH says."""
    first, second, *rest = command
    if first == "tvm-mobilenet":
        return [sys.executable, "-m", f"tvm_mobilenet.{second}", *rest]
    if not second.startswith("-"):
        second = str(STUDIES / Path(second).name)
    return [sys.executable, second, *rest]


if __name__ == "__main__":
    sys.exit(main())
