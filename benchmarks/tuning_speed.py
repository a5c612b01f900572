"""Candidates per second, built and measured: our workers beside MetaSchedule's own.

    python benchmarks/tuning_speed.py [--candidates 24] [--kernel pointwise_conv2d_14x14x512_512]

Both get the same random schedules of the same kernels of 1.0-224, in batches of 12, one after the
other on the same cores. MetaSchedule's are LocalBuilder and LocalRunner as shipped.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path

import tvm
from tvm.s_tir import meta_schedule as ms

from tvm_mobilenet import cli, pipeline, source, target
from tvm_mobilenet.tuning.local import LocalMeasurer
from tvm_mobilenet.tuning.measurer import Batch, Job
from tvm_mobilenet.tuning.messages import Settings
from tvm_mobilenet.tuning.space import Candidate, KernelSpace, Rejected

BATCH = 12
TIMEOUT_S = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    cli.add_target_flag(parser)
    cli.add_model_flags(parser)
    parser.add_argument("--candidates", type=cli.positive_int, default=24, help="for each kernel")
    parser.add_argument("--kernel", action="append", help="measure these kernels only")
    parser.add_argument("--ours-only", action="store_true")
    args = parser.parse_args()
    spec = target.resolve(args.target)
    network = pipeline.lower_graph(source.from_flags(args).relax_module(), spec.vector_width)
    spaces = [
        KernelSpace(kernel.func, spec.tvm_target())
        for kernel in pipeline.extract_kernels(network)
        if args.kernel is None or kernel.name in args.kernel
    ]
    chosen = [draw(space, args.candidates) for space in spaces]
    count = sum(len(candidates) for candidates in chosen)
    ours = measure_ours(spaces, chosen, Settings(target=dict(spec.target)))
    print(f"ours: {count} candidates in {ours:.1f} s, {count / ours:.2f} a second", flush=True)
    if not args.ours_only:
        theirs, failed = measure_theirs(chosen, spec.tvm_target())
        print(
            f"LocalBuilder + LocalRunner: {count} candidates ({failed} failed) in {theirs:.1f} s, "
            f"{count / theirs:.2f} a second; ours is {theirs / ours:.1f} times as fast"
        )


def draw(space: KernelSpace, count: int) -> list[Candidate]:
    """The default and random others."""
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
    spaces: Sequence[KernelSpace], chosen: Sequence[Sequence[Candidate]], settings: Settings
) -> float:
    """Seconds, with starting the workers."""
    start = time.perf_counter()
    with LocalMeasurer(settings) as measurer:
        batches = []
        for number, (space, candidates) in enumerate(zip(spaces, chosen, strict=True)):
            measurer.add_task(number, space.mod)
            batches += [
                Batch(number, [Job(one.trace_json) for one in candidates[i : i + BATCH]])
                for i in range(0, len(candidates), BATCH)
            ]
        while batches or measurer.pending:
            while batches and measurer.hungry:
                measurer.submit(batches.pop(0))
            measurer.poll(0.5)
        spent = time.perf_counter() - start
        used = measurer.statistics
        print(
            f"  builder {used.build_s:.1f} s and {used.builder_rss >> 20} MiB, "
            f"runner {used.run_s:.1f} s and {used.runner_rss >> 20} MiB, "
            f"{used.restarts} restarts, {used.repeated_batches} batches measured again"
        )
    return spent


def measure_theirs(
    chosen: Sequence[Sequence[Candidate]], tvm_target: tvm.target.Target
) -> tuple[float, int]:
    """Seconds, and how many had no time at the end."""
    start = time.perf_counter()
    failed = 0
    # with their own 30 s limit every build times out on a busy machine, still starting up
    builder = ms.builder.LocalBuilder(max_workers=2, timeout_sec=TIMEOUT_S)
    runner = ms.runner.LocalRunner(timeout_sec=TIMEOUT_S)
    for candidates in chosen:
        for i in range(0, len(candidates), BATCH):
            batch = candidates[i : i + BATCH]
            built = builder.build(
                [ms.builder.BuilderInput(one.schedule.mod, tvm_target) for one in batch]
            )
            inputs = [
                ms.runner.RunnerInput(
                    result.artifact_path,
                    "cpu",
                    one.measure_candidate().args_info,
                )
                for result, one in zip(built, batch, strict=True)
                if result.error_msg is None
            ]
            results = [future.result() for future in runner.run(inputs)]
            failed += len(batch) - sum(result.run_secs is not None for result in results)
            errors = [one.error_msg for one in (*built, *results) if one.error_msg]
            print(f"  {len(batch)} after {time.perf_counter() - start:.1f} s {errors[:1]}")
            for one in inputs:
                Path(one.artifact_path).unlink(missing_ok=True)
    return time.perf_counter() - start, failed


if __name__ == "__main__":
    main()
