"""How ``bench`` sees one engine that takes part twice: recordings to hold its statistics against.

    python benchmarks/same_engine.py BUNDLE [--runs 80] [--threads 1,2] [--patience 5s] --json FILE

Every run is one of ``bench`` at its default length: two processes of the same bundle and one of
ONNX Runtime, which take turns. What is kept are the samples, in units of 10 µs, in the order they
were taken: any difference found between the two processes is an error of the statistics. The file
is written after every run, so an interrupted recording holds the runs so far.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

from tvm_mobilenet import cli, provenance
from tvm_mobilenet.benchmark.rounds import make_plan
from tvm_mobilenet.errors import RunFailed

UNIT_MS = 0.01
MOST_A_ROUND = 12  # samples kept of a round: every second of two threads' shorter ones
NAMES = ("first", "second")  # the two processes of the bundle
PEER = "onnxruntime"


def main() -> int:
    parser = cli.make_parser("same_engine", "Record one engine that takes part twice.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("--runs", type=cli.positive_int, default=80, help="(default: 80)")
    parser.add_argument("--threads", type=cli.thread_counts, default=(1, 2), help="in turns")
    parser.add_argument("--patience", type=cli.duration, default=5.0, metavar="S")
    parser.add_argument("--json", type=cli.new_file, metavar="FILE", required=True)
    return cli.run_command(record, parser.parse_args())


def record(args: argparse.Namespace) -> int:
    from rich.console import Console

    from tvm_mobilenet.benchmark import cases
    from tvm_mobilenet.benchmark.places.this_machine import ThisMachine
    from tvm_mobilenet.benchmark.progress import PlainProgress

    plan = make_plan(min_runs=100, min_time_s=3.0, patience_s=args.patience)
    progress = PlainProgress(Console(stderr=True))
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        (case,) = cases.from_bundles([args.bundle], cases.Files(), (PEER,), Path(scratch))
        peer = case.candidates[-1]
        twice = [cases.bundle_candidate(args.bundle, name) for name in NAMES]
        case = cases.Case(case.network, (*twice, peer))
        place = ThisMachine(plan, args.threads, progress)
        for threads in itertools.islice(itertools.cycle(args.threads), args.runs):
            progress.heading(f"run {len(runs) + 1} of {args.runs}, threads: {threads}")
            rows = place.measure(case, threads)
            missing = [row.reason for row in rows if row.status != "ok"]
            if missing:
                raise RunFailed(f"an engine was not measured: {missing[0]}")
            runs.append(
                {
                    "threads": threads,
                    "began": provenance.now(),
                    "samples": {row.engine: kept(row.samples_ms, plan.rounds) for row in rows},
                }
            )
            what = f"samples of one engine that took part twice, and a peer; units of {UNIT_MS} ms"
            provenance.write_results(args.json, {"what": what, "unit_ms": UNIT_MS, "runs": runs})
    return 0


def kept(samples_ms: tuple[float, ...], rounds: int) -> str:
    """The samples in whole units, on one line of the file; of long rounds evenly fewer."""
    step = max(1, len(samples_ms) // (rounds * MOST_A_ROUND))
    return " ".join(str(round(sample / UNIT_MS)) for sample in samples_ms[::step])


if __name__ == "__main__":
    sys.exit(main())
