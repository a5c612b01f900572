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

from tvm_mobilenet import cpu, tvm_runtime
from tvm_mobilenet.run import load
from tvm_mobilenet.session import Session
from tvm_mobilenet.tuning.record_store import now

WARM_UP_RUNS = 20
RUNS = 6  # of a turn, after one that is not counted
RESAMPLES = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bundles", type=Path, nargs=2, metavar="BUNDLE")
    parser.add_argument("--threads", default="1,2", help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=45.0, help="(default: %(default)g)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    rows = [compare(args.bundles, int(one), args.seconds) for one in args.threads.split(",")]
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
            session.input[:] = np.load(session.bundle.path / "sample_input.npy")
            for _ in range(WARM_UP_RUNS):
                session.infer_in_place()
        ratios, medians = [], []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            order = (0, 1) if len(ratios) % 2 else (1, 0)
            took = {place: turn(sessions[place]) for place in order}
            ratios.append(took[0] / took[1])
            medians.append((took[0], took[1]))
    drawn = np.random.default_rng(0).choice(ratios, (RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return {
        "threads": threads,
        "pairs": len(ratios),
        "ratio": float(np.median(ratios)),
        "interval": [float(low), float(high)],
        "median_ms": [float(one) * 1e3 for one in np.median(medians, axis=0)],
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
