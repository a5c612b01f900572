"""Candidates per second, built and measured: our workers beside MetaSchedule's own.

    python benchmarks/tuning_speed.py [--rounds 2] [--kernel NAME ...] [--json FILE]

Both get the same random schedules of the same kernels in batches of 12, turn by turn on the same
cores. MetaSchedule's are LocalBuilder and LocalRunner as shipped; ours start once and stay, which
is in the first round's time.

    python benchmarks/tuning_speed.py --endurance 10000 [--time-budget 1h] [--work-dir DIR]

tunes with that many candidates, or for that long, and tells what the tuner and its workers hold in
memory in MiB, and the best latency so far of the network's kernels. With ``--work-dir`` the records
stay there.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import cli, network_flags
from tvm_mobilenet.errors import BadInput, last_line

if TYPE_CHECKING:
    import tvm

    from tvm_mobilenet.hardware.target import TargetSpec
    from tvm_mobilenet.network.source import NetworkSpec
    from tvm_mobilenet.scheduling.space import Candidate, KernelSpace
    from tvm_mobilenet.tuning.measuring.local import LocalMeasurer
    from tvm_mobilenet.tuning.request import Budget
    from tvm_mobilenet.tuning.search.state import State, Task
    from tvm_mobilenet.tuning.workers.messages import Settings

BATCH = 12
TIMEOUT_S = 300
# one of each kind, of 1.0-224
KERNELS = ("depthwise_conv2d_14x14x512", "pointwise_conv2d_14x14x512_512")


def main() -> int:
    parser = cli.make_parser("tuning_speed", "Candidates per second, beside MetaSchedule's own.")
    cli.add_target_flag(parser)
    network_flags.add_model_flags(parser)
    parser.add_argument("--rounds", type=cli.positive_int, default=2, help="(default: %(default)s)")
    parser.add_argument("--kernel", action="append", help=f"(default: {' '.join(KERNELS)})")
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--endurance", type=cli.positive_int, metavar="N", help="see above")
    parser.add_argument("--time-budget", type=cli.duration, metavar="T", help="of --endurance")
    parser.add_argument("--work-dir", type=Path, metavar="DIR", help="of --endurance")
    parser.add_argument("--json", type=cli.new_file, metavar="FILE")
    return cli.run_command(body, parser.parse_args())


def body(args: argparse.Namespace) -> int:
    from tvm_mobilenet import provenance, tvm_runtime

    tvm_runtime.compiler()  # without PyTorch
    from tvm_mobilenet.hardware import target
    from tvm_mobilenet.tuning.request import Budget
    from tvm_mobilenet.tuning.setup import find_linker
    from tvm_mobilenet.tuning.workers.messages import Settings

    spec = target.resolve(args.target)
    settings = Settings(target=spec.tvm_config(), link=find_linker(spec, here=True))
    network = network_flags.spec_of(args)
    if args.endurance:
        budget = Budget(trials=args.endurance, time_s=args.time_budget)
        result = endurance(network, spec, settings, budget, args.work_dir)
    else:
        race = Race(tuple(args.kernel or KERNELS), args.rounds, ours_only=args.ours_only)
        result = side_by_side(network, spec, settings, race)
    if args.json:
        provenance.write_results(args.json, result)
    return 0


@dataclass(frozen=True)
class Race:
    """Which kernels' candidates are measured, in how many rounds, and by whom."""

    kernels: tuple[str, ...]
    rounds: int
    ours_only: bool


# ---- both sides


def side_by_side(
    network: NetworkSpec, spec: TargetSpec, settings: Settings, race: Race
) -> dict[str, Any]:
    from tvm_mobilenet.compiler.options import CompileOptions
    from tvm_mobilenet.tuning.kernels import extract_kernels
    from tvm_mobilenet.tuning.measuring.local import LocalMeasurer
    from tvm_mobilenet.tuning.search.tasks import distinct

    kernels = extract_kernels([network.open()], CompileOptions(spec, strassen=False))
    found, _ = distinct(kernels, spec.tvm_target())
    spaces = [one.space for one in found if one.kernel.name in race.kernels]
    if len(spaces) < len(race.kernels):
        names = ", ".join(one.kernel.name for one in found)
        raise BadInput(f"expected {', '.join(race.kernels)}; this network has {names}")
    chosen = [draw(space, race.rounds * BATCH) for space in spaces]
    ours = theirs = 0.0
    count = failed = 0
    rounds = []
    with LocalMeasurer(settings, TIMEOUT_S) as measurer:
        for number in range(race.rounds):
            batches = [one[number * BATCH : (number + 1) * BATCH] for one in chosen]
            size = sum(map(len, batches))
            spent = [measure_ours(measurer, spaces, batches, first=number == 0), 0.0]
            if not race.ours_only:
                spent[1], lost = measure_theirs(batches, spec.tvm_target())
                failed += lost
            ours, theirs, count = ours + spent[0], theirs + spent[1], count + size
            rounds.append({"candidates": size, "ours_s": spent[0], "theirs_s": spent[1]})
            print(f"round {number + 1}: {size} candidates, ours {spent[0]:.1f} s", end="")
            print("" if race.ours_only else f", theirs {spent[1]:.1f} s", flush=True)
        used = measurer.statistics
    print(f"ours: {count} candidates in {ours:.1f} s, {count / ours:.2f} a second")
    print(f"  building {used.build_s:.1f} s, running {used.run_s:.1f} s, {used.restarts} restarts")
    result: dict[str, Any] = {
        "what": "candidates a second, built and measured",
        "kernels": list(race.kernels),
        "candidates": count,
        "rounds": rounds,
        "ours_per_second": count / ours,
    }
    if not race.ours_only:
        print(
            f"LocalBuilder + LocalRunner: {count} candidates ({failed} failed) in {theirs:.1f} s, "
            f"{count / theirs:.2f} a second; ours is {theirs / ours:.1f} times as fast"
        )
        result |= {"theirs_per_second": count / theirs, "theirs_failed": failed}
        result["ratio"] = theirs / ours
    return result


def draw(space: KernelSpace, count: int) -> list[Candidate]:
    """The default and random others."""
    from tvm_mobilenet.scheduling.space import Rejected

    points = list(space.points())
    random.Random(0).shuffle(points)
    candidates = [space.default]
    for point in points:
        if len(candidates) >= count:
            break
        try:
            candidates.append(space.at(point))
        except Rejected:
            continue
    return candidates


def measure_ours(
    measurer: LocalMeasurer,
    spaces: Sequence[KernelSpace],
    batches: Sequence[Sequence[Candidate]],
    *,
    first: bool,
) -> float:
    """Seconds, the first time with starting the workers."""
    from tvm_mobilenet.tuning.measuring.measurer import Batch, Job

    start = time.perf_counter()
    waiting = []
    for number, (space, candidates) in enumerate(zip(spaces, batches, strict=True)):
        if first:
            measurer.add_task(number, space.mod)
        waiting.append(Batch(number, [Job(one.trace_json) for one in candidates]))
    while waiting or measurer.pending:
        while waiting and measurer.hungry:
            measurer.submit(waiting.pop(0))
        measurer.poll(0.5)
    return time.perf_counter() - start


def measure_theirs(
    batches: Sequence[Sequence[Candidate]], tvm_target: tvm.target.Target
) -> tuple[float, int]:
    """Seconds, and how many had no time at the end."""
    from tvm.s_tir import meta_schedule as ms

    start = time.perf_counter()
    failed = 0
    # with their own 30 s limit every build times out on a busy machine, still starting up
    builder = ms.builder.LocalBuilder(max_workers=2, timeout_sec=TIMEOUT_S)
    runner = ms.runner.LocalRunner(timeout_sec=TIMEOUT_S)
    for batch in batches:
        built = builder.build(
            [ms.builder.BuilderInput(one.schedule.mod, tvm_target) for one in batch]
        )
        inputs = [
            ms.runner.RunnerInput(result.artifact_path, "cpu", one.measure_candidate().args_info)
            for result, one in zip(built, batch, strict=True)
            if result.error_msg is None
        ]
        results = [future.result() for future in runner.run(inputs)]
        failed += len(batch) - sum(result.run_secs is not None for result in results)
        for error in [one.error_msg for one in (*built, *results) if one.error_msg][:1]:
            print(f"  theirs: {last_line(error)}")
        for one in inputs:
            Path(one.artifact_path).unlink(missing_ok=True)
    return time.perf_counter() - start, failed


# ---- memory


class Watch:
    """Prints and keeps, every so many candidates, what each process holds in MiB."""

    def __init__(self, measurer: LocalMeasurer, every: int) -> None:
        self.rows: list[dict[str, float]] = []
        self._measurer, self._every = measurer, every

    def batch(self, state: State, task: Task, drift: float) -> None:
        if state.trials < self._every * len(self.rows):
            return
        row = {"candidates": state.trials, "seconds": round(state.elapsed, 1)}
        if state.network_s is not None:
            row["kernels_us"] = round(state.network_s * 1e6, 1)
        row["tuner"] = rss_of(os.getpid())
        for worker in self._measurer.workers:
            row[worker.kind] = rss_of(worker.pid) if worker.pid else 0
        row["restarts"] = self._measurer.statistics.restarts
        self.rows.append(row)
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)

    def tick(self, state: State) -> None:
        pass

    def note(self, text: str) -> None:
        print(text)


def rss_of(pid: int) -> int:
    """MiB."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


def endurance(
    network: NetworkSpec,
    spec: TargetSpec,
    settings: Settings,
    budget: Budget,
    work_dir: Path | None,
) -> dict[str, Any]:
    from tvm_mobilenet.compiler.options import CompileOptions
    from tvm_mobilenet.database.store import Records
    from tvm_mobilenet.tuning import loop
    from tvm_mobilenet.tuning.kernels import extract_kernels
    from tvm_mobilenet.tuning.measuring.local import LocalMeasurer
    from tvm_mobilenet.tuning.search.state import State
    from tvm_mobilenet.tuning.search.tasks import make_tasks

    kernels = extract_kernels([network.open()], CompileOptions(spec))
    with tempfile.TemporaryDirectory() as folder, LocalMeasurer(settings) as measurer:
        log = work_dir or Path(folder, "log")
        with Records.open(log, spec, writable=True) as records:
            tasks, _ = make_tasks(kernels, spec.tvm_target(), records)
            state = State(tasks, budget)
            watch = Watch(measurer, max((budget.trials or 0) // 20, 1))
            loop.run(state, records, settings, measurer, watch)
    rate = state.trials / state.elapsed
    print(f"{state.trials} candidates in {state.elapsed:.0f} s, {rate:.2f} a second")
    return {
        "what": "memory in MiB and best latency along a tuning run",
        "rows": watch.rows,
        "per_second": rate,
    }


if __name__ == "__main__":
    sys.exit(main())
