"""Time random schedules of chosen kernels on this host, for model_correlation.py to compare with.

    python benchmarks/candidate_times.py FILE [--seconds 50]

Adds to FILE (JSON) until every group below is complete or the seconds are over; run it again to go
on, when the machine is idle. The points are drawn with a fixed seed, evenly over those the rules do
not refuse, with the default first; a space that has fewer is taken whole. Nothing is left out:
what fails to build or to run is in FILE with its cause. Every kernel is timed in two processes:
where a candidate's stack or memory happens to lie changes its time by more than noise.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import cli, models
from tvm_mobilenet.files import replace
from tvm_mobilenet.hardware import target
from tvm_mobilenet.provenance import describe_machine, head, now, read_results, this_command

if TYPE_CHECKING:
    from tvm_mobilenet.scheduling.space import Candidate, KernelSpace
    from tvm_mobilenet.tuning.measuring.local import LocalMeasurer
    from tvm_mobilenet.tuning.measuring.measurer import Outcome

CANDIDATES = 40  # of each kernel, where its space has so many
RUNS = 2
SEED = 20
BATCH = 12


@dataclass(frozen=True)
class Group:
    """Kernels of one network on one target.

    ``role``: whether the constants in the core's table were chosen on them. What the model is made
    of was not: two of its parts came of looking at kernels of every group.
    """

    target: str
    alpha: float
    resolution: int
    role: str  # "fit" or "held out"
    kernels: tuple[str, ...]


GROUPS = (
    Group(
        "x86-znver5",
        1.0,
        224,
        "fit",
        (
            "stem_conv2d_112x112x32_s2",
            "depthwise_conv2d_112x112x32",
            "pointwise_conv2d_112x112x32_64",
            "depthwise_conv2d_56x56x64_s2",
            "pointwise_conv2d_28x28x128_256",
            "pointwise_conv2d_14x14x512_512",
            "pointwise_conv2d_7x7x1024_1024",
            "dense_1024_1000",
        ),
    ),
    Group(
        "x86-znver5",
        0.25,
        160,
        "held out",
        (
            "stem_conv2d_80x80x8_s2",
            "depthwise_conv2d_80x80x8",
            "pointwise_conv2d_80x80x8_16",
            "depthwise_conv2d_40x40x16_s2",
            "pointwise_conv2d_40x40x32_32",
            "pointwise_conv2d_20x20x64_64",
            "pointwise_conv2d_10x10x128_128",
            "pointwise_conv2d_5x5x256_256",
        ),
    ),
    # half the vector, half the registers: other code for the same core
    Group(
        "x86-64-v3",
        1.0,
        224,
        "held out",
        (
            "stem_conv2d_112x112x32_s2",
            "depthwise_conv2d_56x56x128",
            "pointwise_conv2d_56x56x128_128",
            "depthwise_conv2d_28x28x128_s2",
            "pointwise_conv2d_14x14x256_512",
            "pointwise_conv2d_7x7x512_1024",
        ),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--seconds", type=cli.duration, default=3600.0, metavar="T")
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    times = read_results(args.file) if args.file.exists() else new_file()
    for run in range(1, RUNS + 1):
        for group in GROUPS:
            missing = [name for name in group.kernels if runs(times, group, name) < run]
            if missing and time.monotonic() < end:
                measure_group(group, missing, times, args.file, end)
    done = sum(len(one["candidates"]) for one in times["workloads"])
    left = sum(RUNS - runs(times, group, name) for group in GROUPS for name in group.kernels)
    print(f"{args.file}: {done} candidates of {len(times['workloads'])} kernels, {left} runs left")


def new_file() -> dict[str, Any]:
    first = head(describe_machine(), this_command(), now())
    return {
        **first,
        "seed": SEED,
        "workloads": [],
    }


def find(times: dict[str, Any], group: Group, name: str) -> dict[str, Any] | None:
    for one in times["workloads"]:
        if (one["target"], one["alpha"], one["resolution"], one["kernel"]) == (
            group.target,
            group.alpha,
            group.resolution,
            name,
        ):
            return one  # type: ignore[no-any-return]
    return None


def runs(times: dict[str, Any], group: Group, name: str) -> int:
    """How often the kernel has been timed."""
    found = find(times, group, name)
    return 0 if found is None else int(found["runs"])


def spaces(group: Group) -> Iterator[tuple[str, KernelSpace]]:
    """The group's kernels, in the group's order."""
    from tvm_mobilenet.compiler import pipeline
    from tvm_mobilenet.compiler.graph.legalize_cpu import CpuKernels, legalize
    from tvm_mobilenet.network import source
    from tvm_mobilenet.scheduling.space import KernelSpace

    spec = target.resolve(group.target)
    config = models.config_from("mobilenet_v1", group.alpha, group.resolution)
    module = source.from_config(config).relax_module()
    lowered = pipeline.lower_graph(module, legalize(CpuKernels(spec.vector_width)))
    kernels = {one.name: one for one in pipeline.extract_kernels(lowered)}
    for name in group.kernels:
        yield name, KernelSpace(kernels[name].func, spec.tvm_target())


def draw(space: KernelSpace) -> list[Candidate]:
    """The default and random others, every one another schedule."""
    from tvm_mobilenet.scheduling.space import Rejected

    points = list(space.points())
    random.Random(SEED).shuffle(points)
    found = {space.default.structure: space.default}
    for point in points:
        if len(found) == CANDIDATES:
            break
        try:
            candidate = space.at(point)
        except Rejected:
            continue
        found.setdefault(candidate.structure, candidate)
    return list(found.values())


def measure_group(
    group: Group, missing: list[str], times: dict[str, Any], file: Path, end: float
) -> None:
    """Time the missing kernels' candidates; FILE is written after each kernel."""
    from tvm_mobilenet.tuning.measuring.local import LocalMeasurer
    from tvm_mobilenet.tuning.workers.messages import Settings

    # never cut off: a slow candidate's time counts here as much as a fast one's
    settings = Settings(target=target.resolve(group.target).tvm_config(), cut_off=float("inf"))
    with LocalMeasurer(settings) as measurer:
        for number, (name, space) in enumerate(spaces(group)):
            if name not in missing or time.monotonic() > end:
                continue
            candidates = draw(space)
            outcomes = measure(measurer, number, space, candidates)
            add(times, group, name, outcomes)
            replace(
                file, json.dumps(times, separators=(",", ":")).replace('{"point"', '\n{"point"')
            )
            print(f"{group.target} {name}: {len(outcomes)} candidates", flush=True)


def measure(
    measurer: LocalMeasurer, number: int, space: KernelSpace, candidates: list[Candidate]
) -> list[Outcome]:
    from tvm_mobilenet.tuning.measuring.measurer import Batch, Job

    measurer.add_task(number, space.mod)
    batches = [
        Batch(number, [Job(one.trace_json, one) for one in candidates[i : i + BATCH]])
        for i in range(0, len(candidates), BATCH)
    ]
    outcomes: list[Outcome] = []
    while batches or measurer.pending:
        while batches and measurer.hungry:
            measurer.submit(batches.pop(0))
        for result in measurer.poll(0.5):
            outcomes += result.outcomes
    return outcomes


def add(times: dict[str, Any], group: Group, name: str, outcomes: list[Outcome]) -> None:
    """One more run of a kernel."""
    found = find(times, group, name)
    if found is None:
        found = {**dataclasses.asdict(group), "kernel": name, "runs": 0}
        del found["kernels"]
        found["candidates"] = [
            {"point": one.job.payload.point, "key": one.job.payload.key, "seconds": []}
            for one in outcomes
        ]
        times["workloads"].append(found)
    by_key = {one["key"]: one for one in found["candidates"]}
    for one in outcomes:
        entry = by_key[one.job.payload.key]
        entry["seconds"].append(one.seconds)
        if one.cause is not None:
            entry["failure"] = f"{one.cause}: {one.detail}"
    found["runs"] += 1


if __name__ == "__main__":
    main()
