"""All that is measured in fp32 on an Intel CPU with AVX-512, one step after the other.

    python benchmarks/intel.py [--dry-run] [--only profile,noise] [--results DIR]

The steps, each into a file of its own, ``NAME-STEP.json`` with the target's name:

- ``profile``: MobileNetV1's layers against what the core can do, default schedules
- ``sweep``: the 16 variants beside the peers on one and two threads, default schedules
- ``noise``: with Strassen's algorithm and without it, beside a busy CPU and the peers
- ``default-and-tuned``: default schedules against records that are made here first

``--dry-run`` prints the commands, on any machine. A step whose file is there is not run again, and
a sweep that was interrupted goes on: run the same command. With everything it takes some two hours
of a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_mobilenet import cli
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware import cpu, cpu_names, target

INTEL_AVX512 = "an Intel CPU with AVX-512"
PEERS = "onnxruntime,openvino,litert,torch-compile"
STUDIES = Path(__file__).parent
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

    def compile(self, name: str, *flags: str) -> Command:
        """Of MobileNetV1, with default schedules where ``flags`` name no records."""
        size = ("--alpha", f"{self.alpha:g}", "--resolution", str(self.resolution))
        records = () if "--tuning-records" in flags else ("--tuning-records", "none")
        where = ("--target", self.target, *size, *records, "--on-untuned", "allow")
        return ("tvm-mobilenet", "compile", *where, *flags, "-o", self.bundle(name))


def profile(options: Options) -> list[Command]:
    default = options.bundle("default")
    flags = ("--profile", default, "--min-runs", "300", "--json", options.file("profile"))
    return [options.compile("default"), ("tvm-mobilenet", "bench", *flags)]


def sweep(options: Options) -> list[Command]:
    what = ("--sweep", "--target", options.target, "--tuning-records", "none")
    how = ("--against", PEERS, "--threads", "1,2", "--min-time", options.min_time)
    file = ("--patience", "10s", "--json", options.file("sweep"), "--resume")
    return [("tvm-mobilenet", "bench", *what, *how, *file)]


def noise(options: Options) -> list[Command]:
    both = (options.bundle("default"), options.bundle("direct"))
    flags = ("--against", "onnxruntime,openvino", "--noise", "memory,fma")
    file = ("--min-time", options.min_time, "--json", options.file("noise"))
    return [
        options.compile("default"),
        options.compile("direct", "--no-strassen"),
        ("tvm-mobilenet", "bench", *both, *flags, *file),
    ]


def default_and_tuned(options: Options) -> list[Command]:
    records = options.bundle("records")
    budget = ("--time-budget", options.tune_time, "--work-dir", records, "--resume")
    both = (options.bundle("default"), options.bundle("tuned"))
    file = ("--seconds", "30", "--json", options.file("default-and-tuned"))
    return [
        ("tvm-mobilenet", "tune", "--sweep", "--target", options.target, *budget),
        options.compile("default"),
        options.compile("tuned", "--tuning-records", records),
        ("python", "benchmarks/bundle_pairs.py", *both, *file),
    ]


STEPS: dict[str, Callable[[Options], list[Command]]] = {
    "profile": profile,
    "sweep": sweep,
    "noise": noise,
    "default-and-tuned": default_and_tuned,
}
GOES_ON = ("sweep",)  # from what its file has


def main() -> int:
    parser = cli.make_parser("intel", "Measure all of fp32 on an Intel CPU with AVX-512.")
    add = parser.add_argument
    add("--dry-run", action="store_true", help="print the commands, run nothing; on any machine")
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
    return cli.run_stage(run, parser.parse_args())


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
        for step in args.only:
            print(f"# {step}")
            print("\n".join(map(shlex.join, STEPS[step](options))))
        return 0
    check_cpu(cpu.read_cpuinfo())
    measure(options, args.only)
    return 0


def check_cpu(cpuinfo: str) -> None:
    """Raise BadInput where the text of a /proc/cpuinfo is of another CPU than these steps want."""
    fields, features = cpu.first_fields(cpuinfo), cpu.parse_features(cpuinfo)
    if fields.get("vendor_id") != cpu_names.INTEL or "avx512f" not in features:
        name = cpu_names.microarchitecture(fields) or cpu.parse_model(cpuinfo) or "none known"
        raise BadInput(f"expected {INTEL_AVX512}, got {name}; --dry-run prints the commands")


def measure(options: Options, steps: Sequence[str]) -> None:
    """Run the steps whose files are not there. Raises RunFailed where a command of one fails."""
    options.results.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    for step in steps:
        file = Path(options.file(step))
        if file.exists() and step not in GOES_ON:
            print(f"{step}: {file} is there; remove it to measure again", flush=True)
            continue
        for command in STEPS[step](options):
            print(f"$ {shlex.join(command)}", flush=True)
            done = subprocess.run(as_run_here(command), check=False)
            if done.returncode:
                raise RunFailed(f"{step}: a command ended with status {done.returncode}, see above")


def as_run_here(command: Command) -> list[str]:
    """By this Python, whatever PATH says."""
    first, second, *rest = command
    if first == "tvm-mobilenet":
        return [sys.executable, "-m", f"tvm_mobilenet.{second}", *rest]
    return [sys.executable, str(STUDIES / Path(second).name), *rest]


if __name__ == "__main__":
    sys.exit(main())
