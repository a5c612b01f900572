"""The ``tune`` stage: search schedules for a network's kernels, keep every measurement as a record.

MetaSchedule provides the design spaces (from our rules), the traces, the record format and the
XGBoost cost model; what is searched next, building and measuring are ours (``search``, ``measure``,
``tuner``).
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import cli
from tvm_mobilenet.errors import BadInput

if TYPE_CHECKING:
    from tvm_mobilenet.measure_messages import Settings
    from tvm_mobilenet.pipeline import Kernel
    from tvm_mobilenet.record_store import Records
    from tvm_mobilenet.source import Source
    from tvm_mobilenet.target import TargetSpec
    from tvm_mobilenet.tuner import State, Task

TIME_BUDGET_S = 270.0  # with loading the network, the five minutes a person waits
EARLY_STOPPING = 96
TIMEOUT_S = 10.0
TOLERANCES = {"fp32": 1e-4, "fp16": 1e-2}  # relative
PACE = 4.0  # candidates a second on two busy Zen 5 cores, for the estimate of --dry-run

ALPHAS = (1.0, 0.75, 0.5, 0.25)
RESOLUTIONS = (224, 192, 160, 128)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when tuned, 1 when nothing was measured, 2 for bad input, 130 on Ctrl-C."""
    parser = cli.make_parser("tune", "Search schedules for a network's kernels on a target.")
    cli.add_target_flag(parser)
    cli.add_model_flags(parser)
    _add_flags(parser)
    return cli.run_stage(_body, cli.parse(parser, argv))


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sweep", action="store_true", help="tune the 16 published variants of --model together"
    )
    group = parser.add_argument_group("budget")
    group.add_argument("--trials", type=cli.positive_int, metavar="N", help="measure at most N")
    group.add_argument(
        "--trials-per-task", type=cli.positive_int, metavar="N", help="at most N for each kernel"
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
        default=TIMEOUT_S,
        metavar="S",
        help="seconds a candidate may take to build, and to run (default: %(default)g)",
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
    group.add_argument(
        "--precision",
        choices=tuple(TOLERANCES),
        default="fp32",
        help="of the kernels; fp16 on GPUs only (default: %(default)s)",
    )
    group.add_argument(
        "--rpc-tracker", metavar="HOST[:PORT]", help="measure on a tracker's devices"
    )
    group.add_argument("--rpc-key", metavar="KEY", help="the tracker's key of those devices")
    parser.add_argument(
        "--dry-run", action="store_true", help="show the tasks and an estimate, measure nothing"
    )


def _body(args: argparse.Namespace) -> int:
    from tvm_mobilenet import target

    spec = target.resolve(args.target)
    _check(args, spec)
    directory = args.work_dir or Path("tuning_logs") / spec.name
    if args.dry_run:
        return _dry_run(args, spec)

    from tvm_mobilenet.record_store import Records

    with ExitStack() as stack:
        records = stack.enter_context(
            Records.open(directory, spec, writable=True, skip_bad_lines=args.resume)
        )
        for problem in records.problems:
            print(f"skipped {problem}", file=sys.stderr)
        transfer = {str(path): Records.open(path, None) for path in args.tuning_records}
        stack.enter_context(_terminated_as_interrupted())
        return _tune(args, spec, records, transfer)


def _check(args: argparse.Namespace, spec: TargetSpec) -> None:
    """Refuse what does not exist or cannot be measured here before any work."""
    from tvm_mobilenet import cpu, models, thread_pool

    if args.onnx is not None:
        cli.existing_file(args.onnx, "ONNX file")
    else:
        models.config_from(args.model, args.alpha, args.resolution)
    if args.sweep and args.onnx is not None:
        raise BadInput("--sweep tunes the variants of --model; it takes no --onnx")
    if args.rpc_tracker or args.rpc_key:
        raise BadInput("measuring over RPC is not supported by this version; tune on the device")
    missing = spec.missing_features(cpu.host_features())
    if missing:
        raise BadInput(
            f"target {spec.name} cannot be measured on this machine: this CPU lacks "
            f"{', '.join(missing)}"
        )
    if spec.gpu is not None and not args.dry_run:
        _check_gpu(spec)
    cores = len(thread_pool.available_cpus())
    if args.threads > cores:
        raise BadInput(f"--threads {args.threads}: this process may use {cores} CPUs")


def _check_gpu(spec: TargetSpec) -> None:
    from tvm_mobilenet import gpu
    from tvm_mobilenet.cuda import nvcc

    assert spec.gpu is not None
    nvcc.check(spec.name, spec.gpu.arch)
    present = gpu.present_arch()
    if present != spec.gpu.arch:
        came = f"its GPU is {present}" if present else "it has no GPU, or no driver (libcuda)"
        raise BadInput(f"target {spec.name} cannot be measured on this machine: {came}")


def _tune(
    args: argparse.Namespace,
    spec: TargetSpec,
    records: Records,
    transfer: dict[str, Records],
) -> int:
    from tvm_mobilenet import progress, tuner

    print(f"tuning for {spec.name} into {records.directory}", file=sys.stderr)
    time_budget = args.time_budget
    if time_budget is None and args.trials is None:
        time_budget = TIME_BUDGET_S
    budget = tuner.Budget(args.trials, args.trials_per_task, time_budget, args.early_stopping)
    tasks, skipped = tuner.make_tasks(
        load_kernels(args, spec),
        spec.tvm_target(),
        records,
        resume=args.resume,
        transfer=transfer,
        seed=args.seed,
    )
    state = tuner.State(tasks, budget, skipped=skipped)
    for line in skipped:
        print(f"not tuned: {line}", file=sys.stderr)
    interrupted = False
    try:
        with progress.watching() as watcher:
            tuner.run(
                state,
                records,
                _settings(args, spec),
                timeout_s=args.timeout,
                progress=watcher,
            )
    except KeyboardInterrupt:
        interrupted = True
    records.add_run(_run_entry(state, interrupted))
    for line in progress.summary(state):
        print(line)
    for line in _transfer_report(tasks):
        print(line)
    print(f"{state.records} records written to {records.directory}")
    if interrupted:
        print("interrupted; '--resume' goes on from here", file=sys.stderr)
        return cli.INTERRUPTED
    return 0


def _settings(args: argparse.Namespace, spec: TargetSpec) -> Settings:
    from tvm_mobilenet.measure_messages import Settings

    return Settings(
        target=dict(spec.target),
        workers="tvm_mobilenet.measure_gpu" if spec.gpu else "tvm_mobilenet.measure_worker",
        compiler=spec.cross_compiler or "cc",
        threads=args.threads,
        cold=not args.warm and spec.gpu is None,
        tolerance=TOLERANCES[args.precision],
        seed=args.seed,
    )


def load_kernels(args: argparse.Namespace, spec: TargetSpec) -> list[Kernel]:
    """The kernels of the network that the model flags name; of all 16 variants with ``--sweep``."""
    from tvm_mobilenet import legalization, pipeline, source

    sources = _sweep(args) if args.sweep else [source.from_flags(args)]
    return [
        kernel
        for one in sources
        for kernel in pipeline.extract_kernels(
            pipeline.lower_graph(
                one.relax_module(),
                spec.vector_width,
                legalization=legalization.for_target(spec, args.precision),
            )
        )
    ]


def _sweep(args: argparse.Namespace) -> Iterator[Source]:
    from tvm_mobilenet import models, source

    for alpha in ALPHAS:
        for resolution in RESOLUTIONS:
            config = models.config_from(args.model, alpha, resolution)
            yield source.from_config(config, args.batch)


def _dry_run(args: argparse.Namespace, spec: TargetSpec) -> int:
    from tvm_mobilenet.space import KernelSpace, NoRule, Rejected

    target = spec.tvm_target()
    budget = TIME_BUDGET_S if args.time_budget is None else args.time_budget
    points = 0
    for kernel in load_kernels(args, spec):
        try:
            size = KernelSpace(kernel.func, target).size
        except (NoRule, Rejected) as error:
            print(f"{kernel.name}: not tuned: {error}")
            continue
        points += min(size, args.trials_per_task or size)
        print(f"{kernel.name}: {kernel.count} calls, {kernel.flops / 1e6:.1f} MFLOP, {size} points")
    trials = min(points, args.trials or points)
    seconds = trials / PACE
    print(
        f"{trials} trials at about {PACE:.0f} a second: {seconds / 60:.1f} min "
        f"for all, stopped after {budget / 60:.1f} min"
    )
    return 0


def _run_entry(state: State, interrupted: bool) -> dict[str, Any]:
    from tvm_mobilenet.record_store import now

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
    """Which schedules that came from records are the best here too."""
    for task in tasks:
        if not task.seeds or task.best is None:
            continue
        origin = task.seeds.get(task.best.key)
        what = f"kept from {origin}" if origin else "a new one is better"
        yield f"{task.name}: records tried {len(task.seeds)}, {what}"


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
