"""Candidates per second over RPC: several devices under one key beside one of them.

    python benchmarks/farm_scaling.py [--devices 4] [--candidates 96] [--json FILE]

A tracker and the servers run here, on loopback. Since they share this machine's cores, every
kernel pauses for a fixed time on top of what it computes: a device that takes as long as a board
would, and no core. What is shown is how well the farm keeps its devices busy.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support import rpc_farm, tuning_kernels
from support.tuning_kernels import FIXED_COST_S, SPEC, matmul

from tvm_mobilenet import cli, tvm_runtime
from tvm_mobilenet.devices import TrackerAddress
from tvm_mobilenet.hardware import cpu
from tvm_mobilenet.provenance import now
from tvm_mobilenet.scheduling.space import KernelSpace
from tvm_mobilenet.tuning.measuring.farm import FarmMeasurer
from tvm_mobilenet.tuning.measuring.measurer import Batch, Job
from tvm_mobilenet.tuning.workers.messages import Settings

BATCH = 8
TIMEOUT_S = 60.0
SETTINGS = Settings(target=SPEC.target, build_fn="support.tuning_kernels:build_slow")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", type=cli.positive_int, default=4)
    parser.add_argument("--candidates", type=cli.positive_int, default=96, help="for each device")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    tuning_kernels.register()
    space = KernelSpace(matmul(16, 96, 32, "matmul").func, SPEC.tvm_target())
    with rpc_farm.running(1, "one") as farm:
        farm.add_servers(args.devices, "many")
        rates = {
            1: measure(farm.address, "one", space, args.candidates),
            args.devices: measure(farm.address, "many", space, args.candidates * args.devices),
        }
    ratio = rates[args.devices]["per_second"] / rates[1]["per_second"]
    print(f"{args.devices} devices are {ratio:.2f} times as fast as 1")
    if args.json:
        args.json.write_text(json.dumps(results(rates, ratio), indent=2) + "\n")
    return 0


def measure(address: TrackerAddress, key: str, space: KernelSpace, count: int) -> dict[str, Any]:
    """Candidates a second once all devices are there: the first batches only start the workers."""
    jobs = [Job(space.at(point).trace_json) for point in list(space.points())[:BATCH]]
    with FarmMeasurer(SETTINGS, TIMEOUT_S, address, key) as measurer:
        measurer.add_task(0, space.mod)
        while True:  # each device has the task's arguments once it has a sentinel
            while measurer.hungry:
                measurer.submit(Batch(0, jobs))
            measurer.poll(0.1)
            if all(lane.sentinels for lane in measurer.lanes):
                break
        done, wanted = 0, count
        before, start = measurer.statistics.run, time.perf_counter()
        while done < wanted:
            while measurer.hungry:
                measurer.submit(Batch(0, jobs))
            measurer.poll(0.1)
            done = measurer.statistics.run - before
        seconds = time.perf_counter() - start
        devices = len(measurer.lanes)
    rate = done / seconds
    print(f"{devices} device(s): {done} candidates in {seconds:.1f} s, {rate:.2f} a second")
    return {"candidates": done, "seconds": seconds, "per_second": rate}


def results(rates: dict[int, dict[str, Any]], ratio: float) -> dict[str, Any]:
    return {
        "format_version": 1,
        "what": "tuning over RPC, candidates a second by the number of local servers",
        "command": " ".join(["python", *sys.argv]),
        "date": now(),
        "cpu": cpu.host_model(),
        "tvm_version": tvm_runtime.version(),
        "fixed_cost_s_per_call": FIXED_COST_S,
        "devices": {str(count): one for count, one in rates.items()},
        "ratio": ratio,
    }


if __name__ == "__main__":
    sys.exit(main())
