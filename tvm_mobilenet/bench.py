"""The ``bench`` stage: time bundles beside the runtimes people use today → results JSON.

Every engine runs in a process of its own, on the same input with the same number of threads, and
only after its output was verified; they take turns, round by round (``benchmark.rounds``).
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet import cli
from tvm_mobilenet.engines import PEERS
from tvm_mobilenet.errors import BadInput, RunFailed

if TYPE_CHECKING:
    from rich.console import Console

    from tvm_mobilenet.benchmark.cases import Case
    from tvm_mobilenet.benchmark.progress import PlainProgress
    from tvm_mobilenet.results.schema import Machine, ResultRow, Results

DEFAULT_PEERS = "pytorch,torch-compile,onnxruntime,openvino"


def main(argv: Sequence[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    args = cli.parse(_parser(), argv)
    args.command = shlex.join(["tvm-mobilenet", "bench", *argv])
    return cli.run_stage(_body, args)


def _parser() -> argparse.ArgumentParser:
    parser = cli.make_parser("bench", "Time bundles side by side with other runtimes.")
    parser.add_argument("bundles", nargs="*", type=Path, metavar="BUNDLE", help="from `compile`")
    parser.add_argument(
        "--against",
        type=peer_names,
        default=peer_names(DEFAULT_PEERS),
        metavar="ENGINES",
        help=f"comma-separated, of {', '.join(PEERS)}; or none (default: {DEFAULT_PEERS})",
    )
    parser.add_argument(
        "--threads",
        type=cli.thread_counts,
        default=(1,),
        metavar="N,...",
        help="thread counts, each measured by itself (default: 1)",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="time the layers of one BUNDLE against what a core can do at best; no peers",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here")
    parser.add_argument(
        "--onnx", type=Path, metavar="FILE", help="the network of a bundle compiled from ONNX"
    )
    parser.add_argument(
        "--min-time", type=cli.duration, default=3.0, metavar="S", help="per engine (default: 3s)"
    )
    parser.add_argument(
        "--min-runs", type=cli.positive_int, default=100, metavar="N", help="(default: 100)"
    )
    cli.add_target_flag(parser)
    _add_sweep_flags(parser)
    return parser


def _add_sweep_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sweep")
    group.add_argument(
        "--sweep",
        action="store_true",
        help="compile and time all 16 variants: alpha 1, 0.75, 0.5, 0.25 by 224, 192, 160, 128",
    )
    group.add_argument("--batch", type=cli.positive_int, default=1, help="(default: %(default)s)")
    group.add_argument(
        "--tuning-records",
        type=Path,
        metavar="DIR",
        help="compile with these records instead of those that ship",
    )


def peer_names(text: str) -> tuple[str, ...]:
    """Engine names as in ``onnxruntime,openvino``, each once; ``none`` for no peer."""
    names = () if text == "none" else tuple(dict.fromkeys(text.split(",")))
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown engine {unknown[0]!r}; known: {', '.join(PEERS)}, or none"
        )
    return names


def _body(args: argparse.Namespace) -> int:
    _check(args)
    from rich.console import Console

    if args.profile:
        return _profile(args, Console())

    from tvm_mobilenet.benchmark.progress import open_progress
    from tvm_mobilenet.results import machine, terminal

    here = machine.describe()
    out = Console()
    with open_progress(Console(stderr=True)) as progress:
        _warn(args, here, progress)
        results = _measure_all(args, here, progress, out)
    terminal.print_conclusions(out, results)
    if args.json:
        print(f"wrote {args.json}")
    _raise_for_failures(results)
    return 0


def _profile(args: argparse.Namespace, out: Console) -> int:
    from tvm_mobilenet.profile import print_profile, profile
    from tvm_mobilenet.session import load

    for threads in args.threads:
        with load(args.bundles[0], threads) as session:
            session.input[...] = session.bundle.sample_input()
            print_profile(out, f"{args.bundles[0]}, threads: {threads}", profile(session))
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot work, before any work."""
    if args.profile and (args.sweep or args.json or len(args.bundles) != 1):
        raise BadInput("--profile takes one BUNDLE, and neither --sweep nor --json")
    if args.sweep and (args.bundles or args.onnx):
        raise BadInput("--sweep compiles its own bundles; drop BUNDLE and --onnx")
    if not args.sweep and not args.bundles:
        raise BadInput("nothing to measure: pass a BUNDLE (from tvm-mobilenet compile), or --sweep")
    if args.onnx:
        cli.existing_file(args.onnx, "--onnx")
    if args.json and (args.json.is_dir() or not os.access(args.json.absolute().parent, os.W_OK)):
        raise BadInput(f"--json {args.json}: not a file that can be written")


def _warn(args: argparse.Namespace, here: Machine, progress: PlainProgress) -> None:
    """Say beforehand what will disturb the measurement."""
    from tvm_mobilenet.results.machine import busy

    if busy(here):
        progress.note(
            f"the machine is busy (load average {here.load_average[0]:.2f} on {here.cores} cores)"
        )
    if max(args.threads) > here.cores:
        progress.note(f"{max(args.threads)} threads share {here.cores} cores")


def _measure_all(
    args: argparse.Namespace, here: Machine, progress: PlainProgress, out: Console
) -> Results:
    """Measure case after case; the results file holds every finished one at any time."""
    from tvm_mobilenet.results import schema, tables, terminal

    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    results = schema.Results(here, (), args.command, created)
    with tempfile.TemporaryDirectory(prefix="tvm-mobilenet-bench-") as scratch:
        try:
            for case in _cases(args, Path(scratch), progress):
                for threads in args.threads:
                    rows = _measure(case, threads, args, progress)
                    results = dataclasses.replace(results, results=(*results.results, *rows))
                    if args.json:
                        schema.dump(results, args.json)
                    terminal.print_comparison(out, tables.compare_rows(rows))
        except KeyboardInterrupt:
            if args.json and results.results:
                progress.note(f"{args.json} holds the {len(results.results)} rows finished so far")
            raise
    return results


def _cases(args: argparse.Namespace, scratch: Path, progress: PlainProgress) -> Iterator[Case]:
    from tvm_mobilenet.benchmark import cases, sweep

    if args.sweep:
        return sweep.sweep(
            args.target, args.batch, args.tuning_records, args.against, scratch, progress
        )
    return cases.from_bundles(args.bundles, args.onnx, args.against, scratch)


def _measure(
    case: Case, threads: int, args: argparse.Namespace, progress: PlainProgress
) -> list[ResultRow]:
    from tvm_mobilenet.benchmark.rounds import Plan
    from tvm_mobilenet.benchmark.side_by_side import SideBySide

    progress.heading(f"{case.title}, {threads} thread{'s' if threads > 1 else ''}")
    plan = Plan(args.min_runs, args.min_time, chunk_s=args.min_time / 10)
    return SideBySide(case.candidates, case.network, threads, progress, plan).measure()


def _raise_for_failures(results: Results) -> None:
    """RunFailed where ours has no latency, or nobody has."""
    from tvm_mobilenet.results.tables import is_ours

    failed = [row for row in results.results if is_ours(row) and row.status != "ok"]
    if failed:
        raise RunFailed(f"{failed[0].engine} was not measured: {failed[0].reason}")
    if not any(row.status == "ok" for row in results.results):
        raise RunFailed("no engine could be measured")


if __name__ == "__main__":
    sys.exit(main())
