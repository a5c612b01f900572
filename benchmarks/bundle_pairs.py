"""Two bundles of a network in one process, a few runs each in turns: the ratio of their latencies.

    python benchmarks/bundle_pairs.py A B [--threads 1,2] [--seconds 45] [--handover | --cpu-time]
        [--json FILE]

``bench`` gives every engine a process of its own and takes turns of a second; where the machine's
speed changes within seconds, differences of a few percent drown. Here a pair of turns takes a few
inferences of each, so both see the same machine; A over B is the median over the pairs, with a
bootstrap interval. With --handover the pairs are also told apart by how far two CPUs are from each
other at that time (handover.py). With --cpu-time and one thread only the time counts in which that
had a CPU: for a machine on which other work goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from handover import Handover
from numpy.typing import NDArray

from tvm_mobilenet import cli, provenance
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.results import statistics
from tvm_mobilenet.runtime.session import Session, load

WARM_UP_RUNS = 20
RUNS = 6  # of a turn, after one that is not counted
FAR_NS = 220  # seen: 70 to 130 ns where two CPUs share a cache, 360 to 480 ns where not


def main() -> int:
    parser = cli.make_parser("bundle_pairs", "Time two bundles in turns, a few runs each.")
    parser.add_argument("bundles", type=Path, nargs=2, metavar="BUNDLE")
    parser.add_argument("--threads", type=cli.thread_counts, default=(1, 2), help="(default: 1,2)")
    parser.add_argument("--seconds", type=cli.duration, default=45.0, metavar="T")
    parser.add_argument(
        "--handover", action="store_true", help="near and far CPUs apart, by a cache line's way"
    )
    parser.add_argument(
        "--cpu-time", action="store_true", help="count what other work takes for nothing; 1 thread"
    )
    parser.add_argument("--json", type=cli.new_file, metavar="FILE")
    return cli.run_command(report, parser.parse_args())


def report(args: argparse.Namespace) -> int:
    if args.cpu_time and args.threads != (1,):
        raise BadInput("--cpu-time is of one thread; expected --threads 1")
    clock = time.thread_time if args.cpu_time else time.perf_counter
    handover = Handover() if args.handover else None
    rows = []
    for threads in args.threads:
        rows += compare(args.bundles, threads, args.seconds, handover, clock)
    for row in rows:
        low, high = row["interval"]
        plural = "s" if row["threads"] > 1 else ""
        cpus = f", {row['cpus']} CPUs ({row['handover_ns']:.0f} ns)" if "cpus" in row else ""
        print(
            f"{row['threads']} thread{plural}{cpus}: {args.bundles[0]} takes {row['ratio']:.4f} "
            f"[{low:.4f}, {high:.4f}] times as long as {args.bundles[1]}, {row['pairs']} pairs"
        )
    if args.json:
        measured = "CPU time" if args.cpu_time else "latency"
        what = f"{measured} of the first bundle over that of the second, pair by pair"
        provenance.write_results(args.json, {"what": what, "rows": rows})
    return 0


def compare(
    bundles: list[Path],
    threads: int,
    seconds: float,
    handover: Handover | None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[dict[str, Any]]:
    """A row of all pairs, or where handovers are measured one each of near and of far CPUs.

    CPUs that were one at the pair's start and the other at its end count for neither.
    """
    with load(bundles[0], threads) as first, load(bundles[1], threads) as second:
        sessions = (first, second)
        for session in sessions:
            session.input[:] = session.bundle.sample_input()
            for _ in range(WARM_UP_RUNS):
                session.infer_in_place()
        times: list[tuple[float, float]] = []
        handovers: list[float] = []  # one before each pair and one after the last
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            handovers.append(handover.ns() if handover else 0.0)
            pair = [0.0, 0.0]
            for place in (0, 1) if len(times) % 2 else (1, 0):
                pair[place] = turn(sessions[place], clock)
            times.append((pair[0], pair[1]))
        handovers.append(handover.ns() if handover else 0.0)
    pairs = np.array(times)
    if handover is None:
        return [row_of(threads, pairs)]
    sides = np.array([handovers[:-1], handovers[1:]])
    kinds = {"near": (sides < FAR_NS).all(0), "far": (sides >= FAR_NS).all(0)}
    if not any(chosen.sum() >= statistics.MIN_BLOCKS for chosen in kinds.values()):
        raise RunFailed(
            f"of {len(pairs)} pairs too few had CPUs near or far throughout; expected "
            f"{statistics.MIN_BLOCKS}; take more --seconds"
        )
    return [
        {
            **row_of(threads, pairs[chosen]),
            "cpus": cpus,
            "handover_ns": float(np.median(sides[:, chosen])),
        }
        for cpus, chosen in kinds.items()
        if chosen.sum() >= statistics.MIN_BLOCKS
    ]


def row_of(threads: int, pairs: NDArray[np.float64]) -> dict[str, Any]:
    ratio = statistics.compare(pairs[:, 0].tolist(), pairs[:, 1].tolist(), blocks=len(pairs))
    return {
        "threads": threads,
        "pairs": len(pairs),
        "ratio": ratio.value,
        "interval": [ratio.low, ratio.high],
        "median_ms": (np.median(pairs, axis=0) * 1e3).tolist(),
    }


def turn(session: Session, clock: Callable[[], float]) -> float:
    """Median seconds of a few inferences."""
    session.infer_in_place()
    times = []
    for _ in range(RUNS):
        begin = clock()
        session.infer_in_place()
        times.append(clock() - begin)
    return float(np.median(times))


if __name__ == "__main__":
    sys.exit(main())
