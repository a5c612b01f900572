"""How long ``compile`` takes in two checkouts of this project, and in which phases.

    python benchmarks/compile_times.py --before DIR --after DIR [--onnx FILE ...] [--pairs 7]
        [--target T] [--json FILE]

Whole processes are timed, in turns: ``python -m tvm_mobilenet.compile`` of 1.0-224 with the shipped
records, and of each --onnx (mobilenet_v3.py writes one). Then each checkout compiles three times
more with a clock around the functions named below. A phase's time is its own, without those of the
phases it calls, in the main thread: what other threads and processes do meanwhile shows as the wait
for it.
"""

from __future__ import annotations

import argparse
import builtins
import functools
import importlib
import itertools
import json
import os
import statistics as medians
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

# phase → functions, each where it lies in this checkout or lay in an earlier one
PHASES: dict[str, tuple[str, ...]] = {
    "PyTorch: build the network": ("models:build",),
    "PyTorch: export": ("network.onnx_export:export", "onnx_export:export"),
    "PyTorch: verify the export": ("network.onnx_export:verify", "onnx_export:verify"),
    "read and keep the export": ("network.export_cache:read",),
    "wait for PyTorch's process": ("network.torch_process:TorchProcess.receive",),
    "read and check the ONNX file": ("network.onnx_export:load", "onnx_export:load"),
    "reference run": ("network.onnx_export:evaluate", "onnx_export:evaluate"),
    "import into Relax": ("network.relax_import:import_onnx", "relax_import:import_onnx"),
    "graph passes": ("compiler.pipeline:lower_graph", "pipeline:lower_graph"),
    "open the records": ("database.lookup:open_records", "compile:open_records"),
    "find records": ("database.store:Records.find", "tuning.record_store:Records.find"),
    "schedule": ("compiler.pipeline:schedule_kernels", "pipeline:schedule_kernels"),
    "static program": ("compiler.cpu.static_program:make_static", "pipeline:make_static"),
    "lower": ("compiler.cpu.lowering:lower_module", "lowering:lower"),
    "LLVM: optimize": ("compiler.cpu.native_code:generate",),
    "write objects; C library": ("library.package:write_package", "compiler.linking:link"),
    "write and hash the bundle": ("bundle.writing:write", "bundle:write"),
    "check the bundle": ("building.bundles:check_bundle", "api:check_bundle", "compile:check"),
    "print": ("reporting.layers:print_layers", "compile:print_layers"),
}
IMPORTS = {"torch", "tvm", "tvm_ffi", "onnx", "onnxscript", "onnxruntime", "numpy", "rich"}
OTHER = "interpreter, our own modules, the rest"
PHASE_RUNS = 3
FIRST_TIME = "mobilenet_v1 1.0-224, no export kept"

Caches = Iterator[Path]  # a folder for each process to keep exports in


class Clock:
    """Seconds by phase, each without the phases within it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner: list[float] = []  # for every phase that is open, the time of those within

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        self._inner.append(0.0)
        try:
            yield
        finally:
            whole = time.perf_counter() - start
            own = whole - self._inner.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + own
            if self._inner:
                self._inner[-1] += whole

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any, **options: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return function(*args, **options)
            with self.phase(name):
                return function(*args, **options)

        return wrapped


class Instruments:
    """Puts a clock around imports, and around functions as soon as their modules are there."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.import_ = builtins.__import__
        places = [(phase, place) for phase, found in PHASES.items() for place in found]
        self.waiting = {f"tvm_mobilenet.{place}": phase for phase, place in places}
        self.waiting["tvm:get_global_func"] = ""

    def timed_import(self, name: str, *rest: Any, **options: Any) -> ModuleType:
        top = name.partition(".")[0]
        if top in IMPORTS and name not in sys.modules:
            with self.clock.phase(f"import {top}"):
                module = self.import_(name, *rest, **options)
        else:
            module = self.import_(name, *rest, **options)
        for place in [place for place in self.waiting if self.is_there(place)]:
            self.put(place, self.waiting.pop(place))
        return module

    def is_there(self, place: str) -> bool:
        module, _, path = place.partition(":")
        return hasattr(sys.modules.get(module), path.partition(".")[0])

    def put(self, place: str, phase: str) -> None:
        module, _, path = place.partition(":")
        *classes, name = path.split(".")
        owner: Any = functools.reduce(getattr, classes, sys.modules[module])
        function = getattr(owner, name)
        setattr(owner, name, self.clock.timed(phase, function) if phase else self.finder(function))

    def finder(self, find: Callable[..., Any]) -> Callable[..., Any]:
        """TVM's finder of functions, which gives out a timed LLVM."""

        def found(name: str, *rest: Any, **options: Any) -> Any:
            function = find(name, *rest, **options)
            if name == "target.build.llvm":
                return self.clock.timed("LLVM: optimize", function)
            return function

        return found


def compile_timed(arguments: list[str]) -> int:
    """Run ``compile`` here, and write its phases as JSON to the file that comes first."""
    report, *command = arguments
    clock = Clock()
    instruments = Instruments(clock)
    builtins.__import__ = instruments.timed_import
    with clock.phase(OTHER):
        from tvm_mobilenet import compile as stage

        status: int = stage.main(command)
    Path(report).write_text(json.dumps(clock.seconds))
    return status


def run(checkout: Path, python: list[str], cache: Path) -> float:
    """Seconds that a Python process in a checkout takes; ``cache`` is where it may keep exports."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "XDG_CACHE_HOME": str(cache)}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *python], cwd=checkout, env=environment, capture_output=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{checkout}: {done.stderr.decode(errors='replace').strip()}")
    return seconds


def phases(checkout: Path, command: list[str], scratch: Path, caches: Caches) -> dict[str, float]:
    """Medians of each phase's seconds over a few runs."""
    report, found = scratch / "phases.json", []
    for _ in range(PHASE_RUNS):
        whole = run(
            checkout,
            [str(Path(__file__).resolve()), "--timed", str(report), *command],
            next(caches),
        )
        seconds: dict[str, float] = json.loads(report.read_text())
        seconds[OTHER] += whole - sum(seconds.values())
        found.append(seconds)
    names = {name: None for seconds in found for name in seconds}
    return {name: medians.median(one.get(name, 0.0) for one in found) for name in names}


def measure(
    checkouts: dict[str, Path], command: list[str], pairs: int, scratch: Path, caches: Caches
) -> dict[str, Any]:
    """Both checkouts' times of one command, pair by pair, and their phases."""
    command = [*command, "-o", str(scratch / "bundle")]
    seconds: dict[str, list[float]] = {side: [] for side in checkouts}
    for turn in range(pairs):
        for side in checkouts if turn % 2 else reversed(checkouts):
            seconds[side].append(
                run(checkouts[side], ["-m", "tvm_mobilenet.compile", *command], next(caches))
            )
    return {
        "seconds": seconds,
        "ratio": medians.median(
            after / before for before, after in zip(*seconds.values(), strict=True)
        ),
        "phases": {
            side: phases(path, command, scratch, caches) for side, path in checkouts.items()
        },
    }


def print_row(name: str, row: dict[str, Any]) -> None:
    before, after = row["phases"]["before"], row["phases"]["after"]
    print(f"\n{name:44}{'before':>8}{'after':>8}  seconds")
    for phase in sorted({**before, **after}, key=lambda one: -before.get(one, 0.0)):
        times = [side.get(phase, 0.0) for side in (before, after)]
        if max(times) >= 0.01:
            print(f"  {phase:42}" + "".join(f"{one:8.2f}" for one in times))
    whole = [medians.median(row["seconds"][side]) for side in ("before", "after")]
    print(f"  {'whole process, median':42}{whole[0]:8.2f}{whole[1]:8.2f}  ratio {row['ratio']:.3f}")


def check_phases() -> int:
    """Exit status 1, and the names, where a phase's function is not in the checkout at hand."""
    missing = []
    for name, (place, *_) in PHASES.items():
        module, _, path = place.partition(":")
        try:
            functools.reduce(
                getattr, path.split("."), importlib.import_module(f"tvm_mobilenet.{module}")
            )
        except (ImportError, AttributeError):
            missing.append(f"{name}: {place}")
    print("\n".join(missing) or f"{len(PHASES)} phases have their functions")
    return 1 if missing else 0


def main() -> int:
    if sys.argv[1:2] == ["--timed"]:
        return compile_timed(sys.argv[2:])
    if sys.argv[1:] == ["--check-phases"]:
        return check_phases()
    parser = argparse.ArgumentParser(description="Time compile in two checkouts, in turns.")
    parser.add_argument("--before", type=Path, required=True, metavar="DIR")
    parser.add_argument("--after", type=Path, required=True, metavar="DIR")
    parser.add_argument("--onnx", type=Path, nargs="*", default=[], metavar="FILE")
    parser.add_argument("--target", default="x86", metavar="T", help="(default: x86)")
    parser.add_argument("--pairs", type=int, default=7, metavar="N", help="(default: 7)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    checkouts = {"before": args.before.resolve(), "after": args.after.resolve()}
    networks: dict[str, list[str]] = {"mobilenet_v1 1.0-224": [], FIRST_TIME: []} | {
        path.name: ["--onnx", str(path.resolve())] for path in args.onnx
    }
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="tvm-mobilenet-") as scratch:
        for name, flags in networks.items():
            command = ["--target", args.target, *flags]
            folders = (Path(scratch, f"cache{i}") for i in itertools.count())
            caches = folders if name == FIRST_TIME else itertools.repeat(Path(scratch, "cache"))
            if name != FIRST_TIME:  # what may be kept is kept before anything is timed
                run(
                    checkouts["after"],
                    ["-m", "tvm_mobilenet.compile", *command, "-o", f"{scratch}/first"],
                    next(caches),
                )
            rows[name] = measure(checkouts, command, args.pairs, Path(scratch), caches)
            print_row(name, rows[name])
    if args.json:
        write(args.json, checkouts, rows)
    return 0


def write(path: Path, checkouts: dict[str, Path], rows: dict[str, Any]) -> None:
    from tvm_mobilenet import provenance

    what = (
        "seconds of whole processes in turns; ratio: median of after / before, pair by pair; "
        "phases: medians of each phase's own seconds, in the main thread"
    )
    commits = {side: commit(checkout) for side, checkout in checkouts.items()}
    provenance.write_results(path, {"commits": commits, "what": what, "networks": rows})


def commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
