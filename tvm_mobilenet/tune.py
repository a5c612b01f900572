"""The ``tune`` stage: search schedules for a network's kernels, keep every measurement as a record.

MetaSchedule provides the design spaces (from our rules), the traces, the record format and the
XGBoost cost model; what is searched next, building and measuring are ours (``tuning/``).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import cli, extras
from tvm_mobilenet.errors import BadInput, RunFailed, TvmMobilenetError
from tvm_mobilenet.hardware.toolchain import linker_flags
from tvm_mobilenet.remote.tracker import tracker_address

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.options import CompileOptions
    from tvm_mobilenet.compiler.pipeline import Kernel
    from tvm_mobilenet.database.store import Records
    from tvm_mobilenet.hardware.target import TargetSpec
    from tvm_mobilenet.network.source import NetworkSpec, Source
    from tvm_mobilenet.tuning.measuring.measurer import Measurer
    from tvm_mobilenet.tuning.search.state import State, Task
    from tvm_mobilenet.tuning.workers.messages import Settings

TIME_BUDGET_S = 270.0  # with loading the network, the five minutes a person waits
EARLY_STOPPING = 96
TIMEOUT_S = 10.0
PACE = 4.0  # candidates a second on two busy Zen 5 cores, for the estimate of --dry-run

ALPHAS = (1.0, 0.75, 0.5, 0.25)
RESOLUTIONS = (224, 192, 160, 128)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when tuned, 1 when nothing was measured, 2 for bad input, 130 on Ctrl-C."""
    parser = cli.make_parser("tune", "Search schedules for a network's kernels on a target.")
    cli.add_target_flag(parser)
    cli.add_model_flags(parser)
    cli.add_strassen_flag(parser)
    _add_flags(parser)
    return cli.run_stage(_body, cli.parse(parser, argv))


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sweep", action="store_true", help="tune the 16 published variants of --model together"
    )
    group = parser.add_argument_group("budget")
    group.add_argument("--trials", type=cli.positive_int, metavar="N", help="measure at most N")
    group.add_argument(
        "--trials-per-task",
        type=cli.positive_int,
        metavar="N",
        help="at most N for each kernel (default: the target's [tune] trials_per_task, if any)",
    )
    group.add_argument(
        "--time-budget",
        type=cli.duration,
        default=None,
        metavar="T",
        help=f"stop after 90s, 5m or 1h (default: {TIME_BUDGET_S:.0f}s, none with --trials)",
    )
    group.add_argument(
        "--early-stopping",
        type=cli.positive_int,
        default=EARLY_STOPPING,
        metavar="N",
        help="leave a kernel after N trials without a gain (default: %(default)s)",
    )
    group.add_argument("--seed", type=int, default=0, help="of the search (default: %(default)s)")
    group = parser.add_argument_group("records")
    group.add_argument("--work-dir", type=Path, metavar="DIR", help="default: tuning_logs/<target>")
    group.add_argument(
        "--resume",
        action="store_true",
        help="measure nothing again that the work directory knows; skip lines it cannot read",
    )
    group.add_argument(
        "--tuning-records",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="records of this or a neighbouring target to try first, each measured here",
    )
    group = parser.add_argument_group("measuring")
    group.add_argument(
        "--timeout",
        type=cli.duration,
        metavar="S",
        help="seconds a candidate may take to build, and to run, and that devices over RPC may all "
        f"be away (default: the target's [tune] timeout_s, else {TIMEOUT_S:g})",
    )
    group.add_argument(
        "--threads",
        type=cli.positive_int,
        default=1,
        metavar="N",
        help="threads a kernel is measured on (default: %(default)s)",
    )
    group.add_argument(
        "--warm", action="store_true", help="leave the weights in the cache between calls"
    )
    cli.add_precision_flags(group)
    group.add_argument(
        "--measure",
        choices=("native", "rpc", "model"),
        help="on this machine, on devices over RPC, or by a model of the core, for which no device "
        "is needed (default: rpc with --rpc-tracker, else native)",
    )
    group.add_argument(
        "--rpc-tracker",
        type=tracker_address,
        metavar="HOST[:PORT]",
        help="measure on the devices that this RPC tracker has",
    )
    group.add_argument(
        "--rpc-key",
        metavar="KEY",
        help="the tracker's key of those devices, used all at once (default: the target's rpc_key)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show the tasks and an estimate, measure nothing"
    )


def _body(args: argparse.Namespace) -> int:
    extras.require("compile", "tune")
    from tvm_mobilenet.hardware import target

    spec = target.resolve(args.target)
    fill_in(args, spec)
    _check(args, spec)
    directory = args.work_dir or Path("tuning_logs") / spec.name
    if args.dry_run:
        return _dry_run(args, spec)

    from tvm_mobilenet.database.store import Records

    with ExitStack() as stack:
        records = stack.enter_context(
            Records.open(directory, spec, writable=True, skip_bad_lines=args.resume)
        )
        for problem in records.problems:
            print(f"skipped {problem}", file=sys.stderr)
        transfer = {str(path): Records.open(path, None) for path in args.tuning_records}
        stack.enter_context(_terminated_as_interrupted())
        settings = _settings(args, spec)
        measurer = stack.enter_context(_measurer(args, spec, settings))
        records.check_conditions(settings.threads, settings.cache, measurer.how)
        return _tune(args, spec, records, transfer, settings, measurer)


def fill_in(args: argparse.Namespace, spec: TargetSpec) -> None:
    """What flags do not say, the target's file may."""
    args.trials_per_task = args.trials_per_task or spec.trials_per_task
    args.timeout = args.timeout or spec.timeout_s or TIMEOUT_S
    args.rpc_key = args.rpc_key or (args.rpc_tracker and spec.rpc_key)


def _check(args: argparse.Namespace, spec: TargetSpec) -> None:
    """Refuse what does not exist or cannot be measured here before any work."""
    from tvm_mobilenet.compiler.cuda import nvcc
    from tvm_mobilenet.hardware import cpu
    from tvm_mobilenet.runtime import threads

    _network(args).check()
    if args.sweep and args.onnx is not None:
        raise BadInput("--sweep tunes the variants of --model; it takes no --onnx")
    _options(args, spec)
    if (args.rpc_tracker is None) != (args.rpc_key is None):
        raise BadInput("--rpc-tracker and --rpc-key go together: whose devices, and which of them")
    _check_measure(args, spec)
    if spec.gpu is not None and not args.dry_run:
        nvcc.check(spec.name, spec.gpu.arch)
    if measure_by(args) != "native":
        return  # the device itself is asked what it can, a model can all
    missing = spec.missing_features(cpu.host_features())
    if missing:
        raise BadInput(
            f"target {spec.name} cannot be measured on this machine: this CPU lacks "
            f"{', '.join(missing)}; --rpc-tracker and --rpc-key measure on another, "
            "--measure model on none"
        )
    if spec.gpu is not None and not args.dry_run:
        _check_gpu(spec)
    cores = len(threads.available_cpus())
    if args.threads > cores:
        raise BadInput(f"--threads {args.threads}: this process may use {cores} CPUs")


def _check_gpu(spec: TargetSpec) -> None:
    from tvm_mobilenet.hardware import gpu

    assert spec.gpu is not None
    present = gpu.present_arch()
    if present != spec.gpu.arch:
        came = f"its GPU is {present}" if present else "it has no GPU, or no driver (libcuda)"
        raise BadInput(
            f"target {spec.name} cannot be measured on this machine: {came}; --rpc-tracker and "
            "--rpc-key measure on another"
        )


def measure_by(args: argparse.Namespace) -> str:
    """native, rpc or model."""
    return args.measure or ("native" if args.rpc_tracker is None else "rpc")


def _check_measure(args: argparse.Namespace, spec: TargetSpec) -> None:
    by = measure_by(args)
    if by == "rpc" and args.rpc_tracker is None:
        raise BadInput("--measure rpc needs --rpc-tracker and --rpc-key: whose devices, and which")
    if by != "rpc" and args.rpc_tracker is not None:
        raise BadInput(f"--measure {by} uses no device; leave --rpc-tracker and --rpc-key out")
    if by == "model" and spec.gpu is not None:
        raise BadInput(
            f"target {spec.name} cannot be modelled: --measure model is for CPUs; --rpc-tracker "
            "and --rpc-key measure on a device"
        )
    if by == "model" and spec.core is None:
        raise BadInput(
            f"target {spec.name} cannot be modelled: [core] of its file would have to say "
            f"{', '.join(spec.missing_core_facts())}; "
            "--rpc-tracker and --rpc-key measure on a device"
        )


def _tune(
    args: argparse.Namespace,
    spec: TargetSpec,
    records: Records,
    transfer: dict[str, Records],
    settings: Settings,
    measurer: Measurer,
) -> int:
    from tvm_mobilenet.tuning import loop, progress
    from tvm_mobilenet.tuning.search.state import Budget, State
    from tvm_mobilenet.tuning.search.tasks import make_tasks

    print(f"tuning for {spec.name} into {records.directory}", file=sys.stderr)
    budget = Budget(args.trials, args.trials_per_task, _time_budget(args), args.early_stopping)
    tasks, skipped = make_tasks(
        load_kernels(args, spec),
        spec.tvm_target(),
        records,
        resume=args.resume,
        transfer=transfer,
        seed=args.seed,
        modelled=measure_by(args) == "model",
    )
    state = State(tasks, budget, skipped=skipped)
    for line in skipped:
        print(f"not tuned: {line}", file=sys.stderr)
    ended: KeyboardInterrupt | TvmMobilenetError | None = None
    try:
        with progress.watching() as watcher:
            loop.run(state, records, settings, measurer, watcher)
    except (KeyboardInterrupt, TvmMobilenetError) as error:
        ended = error  # what is known by then is told all the same
    interrupted = isinstance(ended, KeyboardInterrupt)
    if state.records or interrupted:
        _tell(state, records, measurer, interrupted)
    if isinstance(ended, TvmMobilenetError):
        raise ended
    if interrupted:
        print("interrupted; '--resume' goes on from here", file=sys.stderr)
        return cli.INTERRUPTED
    return 0


def _tell(state: State, records: Records, measurer: Measurer, interrupted: bool) -> None:
    """The end of a run, in the log's meta.json and for people."""
    from tvm_mobilenet.tuning import progress

    with contextlib.suppress(RunFailed):  # a full disk has ended the run: that is said already
        records.add_runs([_run_entry(state, interrupted)])
    lines = [*progress.summary(state, measurer.statistics), *_transfer_report(state.tasks)]
    for line in lines:
        print(line)
    print(f"{state.records} records written to {records.directory}")


def _measurer(args: argparse.Namespace, spec: TargetSpec, settings: Settings) -> Measurer:
    by = measure_by(args)
    if by == "model":
        from tvm_mobilenet.tuning.measuring.modelled import ModelMeasurer

        assert spec.core is not None, "checked before"
        return ModelMeasurer(settings, args.timeout, spec.core, spec.device)
    if by == "native":
        from tvm_mobilenet.tuning.measuring.local import LocalMeasurer

        return LocalMeasurer(settings, args.timeout)
    from tvm_mobilenet.tuning.measuring.farm import FarmMeasurer

    return FarmMeasurer(
        settings, args.timeout, args.rpc_tracker, args.rpc_key, spec.cpu_features, spec.triple
    )


def _settings(args: argparse.Namespace, spec: TargetSpec) -> Settings:
    from tvm_mobilenet.compiler import precision
    from tvm_mobilenet.tuning.workers.messages import Settings

    return Settings(
        target=spec.tvm_config(),
        gpu=spec.gpu is not None,
        link=linker(args, spec),
        threads=args.threads,
        cold=not args.warm and spec.gpu is None,
        tolerance=precision.TOLERANCES[_options(args, spec).precision],
        seed=args.seed,
    )


def linker(args: argparse.Namespace, spec: TargetSpec) -> tuple[str, ...]:
    """The compiler that is the target's linker; for this machine its linker itself, which starts
    15 ms sooner."""
    if args.rpc_tracker is None and spec.gpu is not None:
        return ("cc", "-shared")  # which also compiles the host's half, for this machine
    if args.rpc_tracker is None and spec.linker is None and shutil.which("ld"):
        return ("ld", "-shared", "-z", "noexecstack")
    return (spec.cross_compiler or "cc", "-shared", *linker_flags(spec))


def _network(args: argparse.Namespace) -> NetworkSpec:
    from tvm_mobilenet.network.source import NetworkSpec

    return NetworkSpec(args.model, args.alpha, args.resolution, args.batch, args.onnx)


def _options(args: argparse.Namespace, spec: TargetSpec) -> CompileOptions:
    from tvm_mobilenet.compiler import precision
    from tvm_mobilenet.compiler.options import CompileOptions

    chosen = precision.choose(args.precision, spec, allow_tf32=args.allow_tf32)
    return CompileOptions(spec, chosen, strassen=args.strassen)


def load_kernels(args: argparse.Namespace, spec: TargetSpec) -> list[Kernel]:
    """The kernels of the network that the model flags name; of all 16 variants with ``--sweep``."""
    sources = _sweep(args) if args.sweep else [_network(args).open()]
    return kernels_of(sources, _options(args, spec))


def kernels_of(sources: Iterable[Source], options: CompileOptions) -> list[Kernel]:
    """The kernels of networks, those of one after those of the other."""
    from tvm_mobilenet.compiler import pipeline

    return [
        kernel for one in sources for kernel in pipeline.kernels_of(one.relax_module(), options)
    ]


def _sweep(args: argparse.Namespace) -> Iterator[Source]:
    from tvm_mobilenet import models
    from tvm_mobilenet.network import source

    variants = list(itertools.product(ALPHAS, RESOLUTIONS))
    for number, (alpha, resolution) in enumerate(variants, 1):
        what = f"{args.model} {alpha}-{resolution}"
        print(f"loading {what}, {number} of {len(variants)}", file=sys.stderr, flush=True)
        yield source.from_config(models.config_from(args.model, alpha, resolution), args.batch)


def _dry_run(args: argparse.Namespace, spec: TargetSpec) -> int:
    from tvm_mobilenet.tuning.search.tasks import distinct

    found, skipped = distinct(load_kernels(args, spec), spec.tvm_target())
    points = 0
    for one in found:
        size, flops = one.space.size, one.kernel.flops / 1e6
        points += min(size, args.trials_per_task or size)
        print(f"{one.kernel.name}: {one.count} calls, {flops:.1f} MFLOP, {size} points")
    for line in skipped:
        print(f"not tuned: {line}")
    trials = min(points, args.trials or points)
    budget = _time_budget(args)
    within = trials if budget is None else min(trials, int(budget * PACE))
    limit = "" if budget is None else f", of which the time budget of {budget / 60:.1f} min allows"
    limit += "" if budget is None else f" about {within}"
    print(
        f"{len(found)} tasks, at most {trials} trials{limit}: about {within / PACE / 60:.1f} min "
        f"at {PACE:.0f} a second; a task ends {args.early_stopping} trials after its last gain"
    )
    return 0


def _time_budget(args: argparse.Namespace) -> float | None:
    """Seconds; None for no limit."""
    if args.time_budget is None and args.trials is None:
        return TIME_BUDGET_S
    return float(args.time_budget) if args.time_budget is not None else None


def _run_entry(state: State, interrupted: bool) -> dict[str, Any]:
    from tvm_mobilenet.provenance import now

    return {
        "date": now(),
        "seconds": round(state.elapsed, 1),
        "trials": state.trials,
        "records": state.records,
        "failures": dict(state.failures),
        "interrupted": interrupted,
        "curve": [(round(when, 1), round(one * 1e6, 1)) for when, one in _thinned(state.curve)],
    }


def _thinned(curve: list[tuple[float, float]], most: int = 50) -> list[tuple[float, float]]:
    step = -(-len(curve) // most) or 1
    return curve[::step]


def _transfer_report(tasks: Sequence[Task]) -> Iterator[str]:
    """For each layer that records were tried of: whether one of them is the best here too."""
    for task in tasks:
        if not task.seeds or task.best is None or task.best_s is None:
            continue
        tried = f"{task.name}: {len(task.seed_times)} of {len(task.seeds)} records measured here"
        best = task.best_s * 1e6
        if task.best.key in task.seeds:
            yield f"{tried}, kept the one from {task.seeds[task.best.key]}, {best:.1f} us"
            continue
        by = "the default" if task.best.key == task.space.default.key else "a new schedule"
        theirs = min(task.seed_times.values(), default=None)
        known = "" if theirs is None else f" ({theirs * 1e6:.1f} us)"
        yield f"{tried}{known}, beaten by {by}, {best:.1f} us"


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end a run as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
