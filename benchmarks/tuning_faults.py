"""What goes wrong while tuning, done on purpose, and what survived.

    python benchmarks/tuning_faults.py [--json FILE]

Candidates that fail in every way go between ones that are fine; then the builder, the runner, an
RPC server and the tuner itself are killed with SIGKILL in the middle of their work. Exit status 1
where something good was lost.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet import cli
from tvm_mobilenet.errors import RunFailed

if TYPE_CHECKING:
    from tvm_mobilenet.hardware.target import TargetSpec
    from tvm_mobilenet.scheduling.space import KernelSpace
    from tvm_mobilenet.tuning.measuring.measurer import BatchResult, Measurer
    from tvm_mobilenet.tuning.workers.messages import Settings

TIMEOUT_S = 5.0
PATIENCE_S = 120.0
GOOD = 24  # candidates around a killed process
KEY = "faults"
TRIALS, BEFORE_KILL = 60, 12  # of the tuner
NETWORK = ("--alpha", "0.25", "--resolution", "32")


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
    parser = cli.make_parser("tuning_faults", "What goes wrong while tuning, and what survives.")
    parser.add_argument("--json", type=cli.new_file, metavar="FILE")
    return cli.run_command(body, parser.parse_args())


def body(args: argparse.Namespace) -> int:
    rows = play_faults()
    show(rows)
    if args.json:
        from tvm_mobilenet import provenance

        what = "faults while tuning, and what survived"
        content = {"what": what, "faults": [asdict(row) for row in rows]}
        provenance.write_results(args.json, content)
    return 0 if all(row.survived for row in rows) else 1


def play_faults() -> list[Row]:
    """Every fault, one after the other."""
    import small_kernel

    from tvm_mobilenet.hardware import target
    from tvm_mobilenet.tuning.workers.messages import Settings

    spec = target.resolve("x86")
    space = small_kernel.make_space(spec)
    settings = Settings(
        target=dict(spec.target),
        build_fn=small_kernel.BUILD,
        repeats=2,
        samples=2,
        sample_s=2e-4,
    )
    slow = dataclasses.replace(settings, build_fn=small_kernel.BUILD_SLOWLY, repeats=1)
    return [
        *bad_candidates(space, settings),
        *killed_workers(space, settings),
        killed_server(space, slow),
        killed_tuner(spec),
    ]


def show(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("fault", "told as", "good candidates", "measured", box=None)
    for row in rows:
        table.add_row(row.fault, row.told or "NOT NOTICED", str(row.good), str(row.measured))
    Console().print(table)


def bad_candidates(space: KernelSpace, settings: Settings) -> Iterator[Row]:
    """Each fault between two candidates that are fine."""
    from small_kernel import FAULTS, make_jobs

    from tvm_mobilenet.tuning.measuring.local import LocalMeasurer
    from tvm_mobilenet.tuning.measuring.measurer import Batch

    with LocalMeasurer(settings, TIMEOUT_S) as measurer:
        measurer.add_task(0, space.mod)
        for fault in FAULTS:
            measurer.submit(Batch(0, make_jobs(space, None, fault, None)))
            first, bad, last = (one for result in wait(measurer) for one in result.outcomes)
            measured = sum(one.seconds is not None for one in (first, last))
            told = f"{bad.cause}: {bad.detail}" if bad.seconds is None else ""
            yield Row(f"a candidate: {fault}", told, 2, measured)


def killed_workers(space: KernelSpace, settings: Settings) -> Iterator[Row]:
    from small_kernel import make_jobs

    from tvm_mobilenet.tuning.measuring.local import LocalMeasurer
    from tvm_mobilenet.tuning.measuring.measurer import Batch

    for kind in ("builder", "runner"):
        with LocalMeasurer(settings, TIMEOUT_S) as measurer:
            measurer.add_task(0, space.mod)
            measurer.submit(Batch(0, make_jobs(space, *[None] * GOOD)))
            (worker,) = (one for one in measurer.workers if one.kind == kind)
            while worker.pid is None or not measurer.statistics.run:
                measurer.poll(0.05)
            os.kill(worker.pid, signal.SIGKILL)
            outcomes = [one for result in wait(measurer) for one in result.outcomes]
            lost = [one for one in outcomes if one.seconds is None]
            told = "; ".join(f"{one.cause}: {one.detail}" for one in lost)
            if measurer.statistics.restarts and not told:
                told = "started anew"
        # what it was at when it was killed cannot be told from a candidate that kills it
        yield Row(f"kill -9 of the {kind}", told, GOOD - 1, len(outcomes) - len(lost))


def killed_server(space: KernelSpace, settings: Settings) -> Row:
    """One of two RPC servers, while both measure."""
    from small_kernel import make_jobs

    from tvm_mobilenet.remote import local_farm
    from tvm_mobilenet.tuning.measuring.farm import FarmMeasurer
    from tvm_mobilenet.tuning.measuring.measurer import Batch

    with (
        local_farm.running(2, KEY) as boards,
        FarmMeasurer(settings, TIMEOUT_S, boards.address, KEY) as measurer,
    ):
        measurer.add_task(0, space.mod)
        waiting = make_jobs(space, None, None)
        while not measurer.lanes or not all(lane.sentinels for lane in measurer.lanes):
            while measurer.hungry:
                measurer.submit(Batch(0, waiting))
            measurer.poll(0.1)
        wait(measurer)
        jobs = make_jobs(space, *[None] * GOOD)
        for start in range(0, GOOD, GOOD // 3):
            measurer.submit(Batch(0, jobs[start : start + GOOD // 3]))
        measurer.poll(0.2)
        boards.signal(boards.servers[-1], signal.SIGKILL)
        outcomes = [one for result in wait(measurer) for one in result.outcomes]
        told = next((note for note in measurer.notes if "went" in note), "")
    measured = sum(one.seconds is not None for one in outcomes)
    return Row("kill -9 of an RPC server", told, GOOD, measured)


def killed_tuner(spec: TargetSpec) -> Row:
    """The command as a whole, then resumed: it keeps what it had and measures none of it again."""
    from tvm_mobilenet.database.contents import RECORDS

    with tempfile.TemporaryDirectory(prefix="tuning-faults-") as folder:
        log = Path(folder, "log")
        with tune(log, spec) as process:
            deadline = time.monotonic() + PATIENCE_S
            while lines(log / RECORDS) < BEFORE_KILL:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RunFailed(f"tune made no {BEFORE_KILL} records in {PATIENCE_S:.0f} s")
                time.sleep(0.02)
            process.kill()
        before = searched(log, spec)
        with tune(log, spec, "--resume") as process:
            process.wait()
        after = searched(log, spec)
    kept, again = len(set(before) & set(after)), len(after) - len(set(after))
    told = f"{kept} of {len(before)} records kept, {again} measured again"
    return Row("kill -9 of the tuner, --resume", told, len(before), 0 if again else kept)


@contextmanager
def tune(log: Path, spec: TargetSpec, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command, tuning a small network; it ends with the block."""
    command = [sys.executable, "-m", "tvm_mobilenet.tune", "--target", spec.name, *NETWORK]
    command += ["--work-dir", str(log), "--trials", str(TRIALS), *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def searched(log: Path, spec: TargetSpec) -> list[tuple[int, str]]:
    """The schedules that have a record from the search, as often as they have one."""
    from tvm_mobilenet.database.store import Records

    records = Records.open(log, spec).records
    return [(one.workload, one.trace_key) for one in records if not one.info.final]


def wait(measurer: Measurer) -> list[BatchResult]:
    """All batches submitted, once they are through. Raises RunFailed after some patience."""
    found: list[BatchResult] = []
    deadline = time.monotonic() + PATIENCE_S
    while measurer.pending:
        if time.monotonic() > deadline:
            raise RunFailed(f"nothing ended for {PATIENCE_S:.0f} s: {measurer.notes}")
        found += measurer.poll(0.1)
    return found


if __name__ == "__main__":
    sys.exit(main())
