"""Candidates per second over RPC: several devices under one key beside one of them.

    python benchmarks/farm_scaling.py [--devices 4] [--candidates 96] [--json FILE]

A tracker and the servers run here, on loopback. Since they share this machine's cores, every
kernel pauses for a fixed time on top of what it computes: a device that takes as long as a board
would, and no core. What is shown is how well the farm keeps its devices busy.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import cli

if TYPE_CHECKING:
    from tvm_mobilenet.remote.tracker import TrackerAddress
    from tvm_mobilenet.scheduling.space import KernelSpace
    from tvm_mobilenet.tuning.measuring.farm import FarmMeasurer
    from tvm_mobilenet.tuning.workers.messages import Settings

BATCH = 8
TIMEOUT_S = 60.0


def main() -> int:
    parser = cli.make_parser("farm_scaling", "Candidates per second by the number of devices.")
    parser.add_argument("--devices", type=cli.positive_int, default=4)
    parser.add_argument("--candidates", type=cli.positive_int, default=96, help="for each device")
    parser.add_argument("--json", type=cli.new_file, metavar="FILE")
    return cli.run_command(body, parser.parse_args())


def body(args: argparse.Namespace) -> int:
    compare(args.devices, args.candidates, args.json)
    return 0


def compare(devices: int, candidates: int, json_file: Path | None) -> None:
    """Measure ``candidates`` for each device, on one and on ``devices``, and tell the ratio."""
    import small_kernel

    from tvm_mobilenet import provenance
    from tvm_mobilenet.hardware import target
    from tvm_mobilenet.remote import local_farm
    from tvm_mobilenet.tuning.workers.messages import Settings

    spec = target.resolve("x86")
    space = small_kernel.make_space(spec)
    settings = Settings(target=dict(spec.target), build_fn=small_kernel.BUILD_SLOWLY)
    with local_farm.running(1, "one") as farm:
        farm.add_servers(devices, "many")
        rates = {
            1: measure(farm.address, "one", settings, space, candidates),
            devices: measure(farm.address, "many", settings, space, candidates * devices),
        }
    ratio = rates[devices]["per_second"] / rates[1]["per_second"]
    print(f"{devices} devices are {ratio:.2f} times as fast as 1")
    if json_file is not None:
        content = {
            "what": "tuning over RPC, candidates a second by the number of local servers",
            "pause_s_per_call": small_kernel.PAUSE_S,
            "devices": {str(count): one for count, one in rates.items()},
            "ratio": ratio,
        }
        provenance.write_results(json_file, content)


def measure(
    address: TrackerAddress, key: str, settings: Settings, space: KernelSpace, count: int
) -> dict[str, Any]:
    """Candidates a second once all devices are there: the first batches only start the workers."""
    from small_kernel import make_jobs

    from tvm_mobilenet.tuning.measuring.farm import FarmMeasurer
    from tvm_mobilenet.tuning.measuring.measurer import Batch

    jobs = make_jobs(space, *[None] * BATCH)

    def keep_busy(measurer: FarmMeasurer) -> None:
        while measurer.hungry:
            measurer.submit(Batch(0, jobs))
        measurer.poll(0.1)

    with FarmMeasurer(settings, TIMEOUT_S, address, key) as measurer:
        measurer.add_task(0, space.mod)
        keep_busy(measurer)
        # each device has the task's arguments once it has a sentinel
        while not all(lane.sentinels for lane in measurer.lanes):
            keep_busy(measurer)
        done = 0
        before, start = measurer.statistics.run, time.perf_counter()
        while done < count:
            keep_busy(measurer)
            done = measurer.statistics.run - before
        seconds = time.perf_counter() - start
        devices = len(measurer.lanes)
    rate = done / seconds
    print(f"{devices} device(s): {done} candidates in {seconds:.1f} s, {rate:.2f} a second")
    return {"candidates": done, "seconds": seconds, "per_second": rate}


if __name__ == "__main__":
    sys.exit(main())
