"""Everything about one board, over RPC, into one results file.

    python benchmarks/board.py --target arm-rpi5 --rpc-tracker desk:9190 [--rpc-key rpi5]
                               [--alpha 1.0] [--resolution 224] [--threads 1,4]
                               [--precision fp16 ...] --json rpi5.json

MobileNetV1 is compiled for the board in each precision that its target has: fp32, fp16 and bf16
where its cores compute with them, int8. Each is measured on every thread count, by the board's
clock and beside ONNX Runtime where that is installed there (in fp32 and int8), and what it computes
is held against its reference. Then its layers are timed, and with them what one core multiplies and
reads at best: the rates that docs/raspberry-pi.md's table of memory-bound layers assumes.

The file has ``benchmark``, a results file as ``bench --json`` writes, and ``profiles``, as ``bench
--profile --json`` has them, with the precision of each.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tvm_mobilenet import cli
from tvm_mobilenet.benchmark.engines import parse_peers
from tvm_mobilenet.benchmark.rounds import make_plan
from tvm_mobilenet.remote.tracker import tracker_address

if TYPE_CHECKING:
    from rich.console import Console

    from tvm_mobilenet.benchmark.request import BenchRequest
    from tvm_mobilenet.benchmark.sweep import Sweep
    from tvm_mobilenet.hardware.target import TargetSpec
    from tvm_mobilenet.results.schema import ResultRow, Results

FORMAT = 1
Precision = Literal["fp32", "fp16", "bf16", "int8"]


def main() -> int:
    parser = cli.make_parser("board", "Measure everything about a board, over RPC.")
    add = parser.add_argument
    add("--target", required=True, metavar="TARGET", help="what the board is, as of `compile`")
    what = "the tracker that has the board"
    add("--rpc-tracker", type=tracker_address, required=True, metavar="HOST[:PORT]", help=what)
    add("--rpc-key", metavar="KEY", help="(default: rpc_key of the target's file)")
    add("--json", type=Path, required=True, metavar="FILE", help="the results file")
    add("--alpha", type=cli.alpha, default=1.0, help="(default: %(default)s)")
    add("--resolution", type=cli.resolution, default=224, help="(default: %(default)s)")
    what = "repeatable (default: each that the target has)"
    add("--precision", action="append", choices=get_args(Precision), help=what)
    add("--threads", type=cli.thread_counts, default=(1, 4), help="(default: 1,4)")
    what = "of onnxruntime; or none (default: onnxruntime)"
    add("--against", type=parse_peers, default=("onnxruntime",), metavar="ENGINES", help=what)
    add("--min-runs", type=cli.positive_int, default=100, metavar="N", help="(default: 100)")
    add("--min-time", type=cli.duration, default=3.0, metavar="S", help="(default: 3s)")
    return cli.run_command(measure, parser.parse_args())


def measure(args: argparse.Namespace) -> int:
    from rich.console import Console

    from tvm_mobilenet import tvm_runtime
    from tvm_mobilenet.benchmark.request import BenchRequest
    from tvm_mobilenet.benchmark.sweep import Sweep
    from tvm_mobilenet.hardware import target

    spec = target.resolve(args.target)
    tvm_runtime.compiler()
    board = BenchRequest(
        (),
        args.against,
        args.threads,
        plan=make_plan(args.min_runs, args.min_time),
        tracker=args.rpc_tracker,
        key=args.rpc_key or spec.rpc_key,
        json=args.json,
        command=shlex.join(["python", "benchmarks/board.py", *sys.argv[1:]]),
    )
    networks = [
        Sweep(args.target, precision=one, only=(args.alpha, args.resolution))
        for one in args.precision or precisions_of(spec)
    ]
    measure_all(board, networks, Console(stderr=True))
    print(f"wrote {args.json}")
    return 0


def precisions_of(spec: TargetSpec) -> list[Precision]:
    """Those that the board's cores compute in."""
    from tvm_mobilenet.compiler.precision import has_bf16, has_fp16

    has = {"fp16": has_fp16(spec), "bf16": has_bf16(spec)}
    return [one for one in get_args(Precision) if has.get(one, True)]


def measure_all(board: BenchRequest, networks: Sequence[Sweep], out: Console) -> None:
    """Write the file, anew after each precision: what was measured is there if the next fails.

    Raises RunFailed where ours was not measured.
    """
    from tvm_mobilenet.benchmark import suite
    from tvm_mobilenet.files import write_text
    from tvm_mobilenet.results import schema

    rows: list[ResultRow] = []
    profiles: list[dict[str, Any]] = []
    for network in networks:
        results, found = measure_one(replace(board, sweep=network), network, out)
        rows += results.results
        profiles += found
        whole = replace(results, results=tuple(rows))
        document = {
            "board_format_version": FORMAT,
            "target": network.target,
            "benchmark": json.loads(schema.dumps(whole)),
            "profiles": profiles,
        }
        assert board.json is not None
        write_text(board.json, json.dumps(document, indent=2) + "\n")
        suite.check_measured(results)


def measure_one(
    request: BenchRequest, network: Sweep, out: Console
) -> tuple[Results, list[dict[str, Any]]]:
    """The rows and the profiles of a network in one precision."""
    import tempfile

    from tvm_mobilenet.benchmark.places.opening import open_place
    from tvm_mobilenet.benchmark.profile.layers import to_json
    from tvm_mobilenet.benchmark.profile.titled import profile_bundle
    from tvm_mobilenet.benchmark.progress import open_progress
    from tvm_mobilenet.provenance import now
    from tvm_mobilenet.results.schema import Results

    with tempfile.TemporaryDirectory(prefix="tvm-mobilenet-board-") as scratch:
        rows: list[ResultRow] = []
        with open_progress(out) as progress, open_place(request, progress) as place:
            (case,) = network.cases(request.against, Path(scratch), progress, place.architecture)
            for threads in request.threads:
                progress.heading(f"{case.title}, threads: {threads}")
                rows += place.measure(case, threads)
            results = Results(place.machine(), tuple(rows), request.command, now())
        (bundle, *_) = (one.bundle for one in case.candidates)
        if bundle is None:  # it did not compile, as its row says
            return results, []
        alone = replace(request, sweep=None, bundles=(bundle,), profile=True)
        timed = list(profile_bundle(alone))
        text = to_json(timed, results.machine, request.command, now())
        profiles = json.loads(text)["profiles"]
    return results, [{"precision": network.precision, **one} for one in profiles]


if __name__ == "__main__":
    sys.exit(main())
