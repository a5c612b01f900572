"""What goes wrong while tuning, done on purpose, and what survived.

    python benchmarks/tuning_faults.py [--json FILE]

Candidates that fail in every way go between ones that are fine; then the builder, the runner, an
RPC server and the tuner itself are killed with SIGKILL in the middle of their work.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from rich.console import Console
from rich.table import Table
from support import rpc_farm, tuning_kernels
from support.tuning_kernels import FAULTS, SETTINGS, SPEC, jobs, matmul

from tvm_mobilenet import tvm_runtime
from tvm_mobilenet.database.store import RECORDS, Records
from tvm_mobilenet.hardware import cpu
from tvm_mobilenet.provenance import now
from tvm_mobilenet.scheduling.space import KernelSpace
from tvm_mobilenet.tuning.measuring.farm import FarmMeasurer
from tvm_mobilenet.tuning.measuring.local import LocalMeasurer
from tvm_mobilenet.tuning.measuring.measurer import Batch, BatchResult, Measurer

SLOW = replace(SETTINGS, build_fn=tuning_kernels.BUILD_SLOW, repeats=1)
TIMEOUT_S = 5.0
PATIENCE_S = 120.0
GOOD = 24  # candidates around a killed process
KEY = "faults"

TUNE = """
import sys
from pathlib import Path
import test_tuner
from support.tuning_kernels import matmul
test_tuner.tune_into(Path(sys.argv[1]), [matmul(8, 32, 16)], resume=len(sys.argv) > 2)
"""


@dataclass(frozen=True)
class Row:
    """At least ``good`` candidates were to be measured beside the fault, ``measured`` were.

    ``told`` is what the tuner says of the fault; empty where it passed unnoticed.
    """

    fault: str
    told: str
    good: int
    measured: int

    @property
    def survived(self) -> bool:
        return bool(self.told) and self.measured >= self.good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    tuning_kernels.register()
    space = KernelSpace(matmul(16, 96, 32, "faulty_matmul").func, SPEC.tvm_target())
    rows = [*bad_candidates(space), *killed_workers(space), killed_server(space), killed_tuner()]
    table = Table("fault", "told as", "good candidates", "measured", box=None)
    for row in rows:
        table.add_row(row.fault, row.told or "NOT NOTICED", str(row.good), str(row.measured))
    Console().print(table)
    if args.json:
        result = {
            "format_version": 1,
            "what": "faults while tuning, and what survived",
            "command": " ".join(["python", *sys.argv]),
            "date": now(),
            "cpu": cpu.host_model(),
            "tvm_version": tvm_runtime.version(),
            "faults": [asdict(row) for row in rows],
        }
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if all(row.survived for row in rows) else 1


def bad_candidates(space: KernelSpace) -> Iterator[Row]:
    """Each fault between two candidates that are fine."""
    with LocalMeasurer(SETTINGS, TIMEOUT_S) as measurer:
        measurer.add_task(0, space.mod)
        for fault in FAULTS[1:]:
            measurer.submit(Batch(0, jobs(space, "none", fault, "none")))
            first, bad, last = (one for result in ended(measurer) for one in result.outcomes)
            measured = sum(one.seconds is not None for one in (first, last))
            told = f"{bad.cause}: {bad.detail}" if bad.seconds is None else ""
            yield Row(f"a candidate: {fault}", told, 2, measured)


def killed_workers(space: KernelSpace) -> Iterator[Row]:
    for kind in ("builder", "runner"):
        with LocalMeasurer(SETTINGS, TIMEOUT_S) as measurer:
            measurer.add_task(0, space.mod)
            measurer.submit(Batch(0, jobs(space, *["none"] * GOOD)))
            (worker,) = (one for one in measurer.workers if one.kind == kind)
            while worker.pid is None or not measurer.statistics.run:
                measurer.poll(0.05)
            os.kill(worker.pid, signal.SIGKILL)
            outcomes = [one for result in ended(measurer) for one in result.outcomes]
            lost = [one for one in outcomes if one.seconds is None]
            told = "; ".join(f"{one.cause}: {one.detail}" for one in lost)
            if measurer.statistics.restarts and not told:
                told = "started anew"
        # what it was at when it was killed cannot be told from a candidate that kills it
        yield Row(f"kill -9 of the {kind}", told, GOOD - 1, len(outcomes) - len(lost))


def killed_server(space: KernelSpace) -> Row:
    """One of two RPC servers, while both measure."""
    with (
        rpc_farm.running(2, KEY) as boards,
        FarmMeasurer(SLOW, TIMEOUT_S, boards.address, KEY) as measurer,
    ):
        measurer.add_task(0, space.mod)
        waiting = jobs(space, *["none"] * 2)
        while not all(lane.sentinels for lane in measurer.lanes) or not measurer.lanes:
            while measurer.hungry:
                measurer.submit(Batch(0, waiting))
            measurer.poll(0.1)
        ended(measurer)
        for _ in range(3):
            measurer.submit(Batch(0, jobs(space, *["none"] * (GOOD // 3))))
        measurer.poll(0.2)
        boards.signal(boards.servers[-1], signal.SIGKILL)
        outcomes = [one for result in ended(measurer) for one in result.outcomes]
        told = next((note for note in measurer.notes if "went" in note), "")
    measured = sum(one.seconds is not None for one in outcomes)
    return Row("kill -9 of an RPC server", told, GOOD, measured)


def killed_tuner() -> Row:
    """The tuner as a whole, then resumed: every one of the 30 schedules has a record at the end."""
    with tempfile.TemporaryDirectory(prefix="tuning-faults-") as folder:
        log = Path(folder, "log")
        with tuner(log) as process:
            records = log / RECORDS
            rpc_farm.wait_for(lambda: records.exists() and records.read_bytes().count(b"\n") >= 12)
            process.kill()
        before = keys(log)
        with tuner(log, "resume") as process:
            process.wait(PATIENCE_S)
        searched = [one for one in Records.open(log, SPEC).records if not one.info.final]
        after = {one.trace_key for one in searched}
        kept, again = len(before & after), len(searched) - len(after)
        told = f"{kept} of {len(before)} records kept, {again} measured again"
        return Row("kill -9 of the tuner, --resume", told, 30, 0 if again else len(after))


@contextmanager
def tuner(log: Path, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    paths = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-c", TUNE, str(log), *flags]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def keys(log: Path) -> set[str]:
    return {one.trace_key for one in Records.open(log, SPEC).records}


def ended(measurer: Measurer) -> Sequence[BatchResult]:
    found: list[BatchResult] = []
    deadline = time.monotonic() + PATIENCE_S
    while measurer.pending:
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing ended for {PATIENCE_S:.0f} s: {measurer.notes}")
        found += measurer.poll(0.1)
    return found


if __name__ == "__main__":
    sys.exit(main())
