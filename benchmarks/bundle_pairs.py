"""Two bundles of a network in one process, a few runs each in turns: the ratio of their latencies.

    python benchmarks/bundle_pairs.py A B [--threads 1,2] [--seconds 45] [--json FILE]

`bench` gives every engine a process of its own and takes turns of a second; where the machine's
speed changes within seconds, differences of a few percent drown. Here a pair of turns takes a few
inferences of each, so both see the same machine; A over B is the median over the pairs, with a
bootstrap interval.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tvm_mobilenet import cli, cpu, tvm_runtime
from tvm_mobilenet.results import statistics
from tvm_mobilenet.run import load
from tvm_mobilenet.session import Session
from tvm_mobilenet.timestamp import now

WARM_UP_RUNS = 20
RUNS = 6  # of a turn, after one that is not counted


def main() -> int:
    parser = cli.make_parser("bundle_pairs", "Time two bundles in turns, a few runs each.")
    parser.add_argument("bundles", type=Path, nargs=2, metavar="BUNDLE")
    parser.add_argument("--threads", type=cli.thread_counts, default=(1, 2), help="(default: 1,2)")
    parser.add_argument("--seconds", type=cli.duration, default=45.0, metavar="T")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return cli.run_stage(report, parser.parse_args())


def report(args: argparse.Namespace) -> int:
    rows = [compare(args.bundles, threads, args.seconds) for threads in args.threads]
    for row in rows:
        low, high = row["interval"]
        plural = "s" if row["threads"] > 1 else ""
        print(
            f"{row['threads']} thread{plural}: {args.bundles[0]} takes {row['ratio']:.4f} "
            f"[{low:.4f}, {high:.4f}] times as long as {args.bundles[1]}, {row['pairs']} pairs"
        )
    if args.json:
        about = {
            "format_version": 1,
            "command": " ".join(["python", *sys.argv]),
            "date": now(),
            "cpu": cpu.host_model(),
            "tvm_version": tvm_runtime.version(),
            "what": "latency of the first bundle over that of the second, pair by pair",
        }
        args.json.write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n")
    return 0


def compare(bundles: list[Path], threads: int, seconds: float) -> dict[str, Any]:
    with load(bundles[0], threads) as first, load(bundles[1], threads) as second:
        sessions = (first, second)
        for session in sessions:
            session.input[:] = session.bundle.sample_input()
            for _ in range(WARM_UP_RUNS):
                session.infer_in_place()
        times: tuple[list[float], list[float]] = ([], [])
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for place in (0, 1) if len(times[0]) % 2 else (1, 0):
                times[place].append(turn(sessions[place]))
    pairs = len(times[0])
    ratio = statistics.compare(*times, blocks=pairs)
    return {
        "threads": threads,
        "pairs": pairs,
        "ratio": ratio.value,
        "interval": [ratio.low, ratio.high],
        "median_ms": [float(np.median(one)) * 1e3 for one in times],
    }


def turn(session: Session) -> float:
    """Median seconds of a few inferences."""
    session.infer_in_place()
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        session.infer_in_place()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


if __name__ == "__main__":
    sys.exit(main())
