"""Spearman's rank correlation between the model of a core and times measured on that core.

    python benchmarks/candidate_times.py TIMES    (on an idle machine; may take several calls)
    python benchmarks/model_correlation.py TIMES [--core x86-znver5] [--json FILE]

Prints rho for each kernel; the mean over the kernels; and pooled: over all candidates, of their
times relative to the median of their kernel, modelled and measured alike. A measured time is the
geometric mean of the candidate's runs; beside each rho is that of the first run with the last,
which says how much of an order there is to know. Every candidate in TIMES is used: one that was not
measured, or cannot be modelled, is an error here.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, geometric_mean, median
from typing import TYPE_CHECKING, Any

import numpy as np
from candidate_times import GROUPS, Group, find, spaces
from numpy.typing import ArrayLike

from tvm_mobilenet import cli, provenance
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import target
from tvm_mobilenet.hardware.core import Core

if TYPE_CHECKING:
    from tvm_mobilenet.scheduling.space import KernelSpace


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("times", type=Path, metavar="TIMES")
    parser.add_argument("--core", default="x86-znver5", metavar="T", help="target whose core it is")
    parser.add_argument("--json", type=cli.new_file, metavar="FILE")
    parser.add_argument("--processes", type=cli.positive_int, default=2, metavar="N")
    parser.add_argument("--debug", action="store_true")
    return cli.run_command(body, parser.parse_args())


def body(args: argparse.Namespace) -> int:
    core = target.resolve(args.core).core
    if core is None:
        raise BadInput(f"target {args.core} cannot be modelled: its [core] says too little")
    times = provenance.read_results(args.times)
    with multiprocessing.get_context("fork").Pool(args.processes) as pool:
        rows = [row for found in pool.imap(model_group, jobs(times, core)) for row in found]
    for row in rows:
        print(
            f"{row['role']:9s} {row['target']:11s} {row['kernel']:32s} "
            f"{len(row['measured_us']):3d} candidates  rho {row['rho']:.3f} "
            f"(two runs: {row['rho_of_runs']:.3f})",
            flush=True,
        )
    summary = {role: summed([row for row in rows if row["role"] == role]) for role in ROLES}
    summary["all"] = summed(rows)
    for role, one in summary.items():
        print(
            f"{role}: {one['candidates']} candidates of {one['kernels']} kernels, mean of the "
            f"kernels' rho {one['mean']:.3f} (two runs: {one['mean_of_runs']:.3f}), "
            f"least {one['least']:.3f}, pooled {one['pooled']:.3f}"
        )
    if args.json:
        result = {
            "measured_on": times["machine"],
            "core": dataclasses.asdict(core),
            "summary": summary,
            "kernels": rows,
        }
        provenance.write_results(args.json, result)
    return 0


ROLES = tuple(dict.fromkeys(group.role for group in GROUPS))


def jobs(times: dict[str, Any], core: Core) -> Iterator[tuple[Group, list[dict[str, Any]], Core]]:
    for group in GROUPS:
        workloads = [find(times, group, name) for name in group.kernels]
        missing = [n for n, one in zip(group.kernels, workloads, strict=True) if one is None]
        if missing:
            raise BadInput(f"not measured yet: {', '.join(missing)}; run candidate_times.py")
        yield group, [one for one in workloads if one], core


def model_group(job: tuple[Group, list[dict[str, Any]], Core]) -> list[dict[str, Any]]:
    group, workloads, core = job
    return [
        model_kernel(group, one, space, core)
        for one, (_, space) in zip(workloads, spaces(group), strict=True)
    ]


def model_kernel(
    group: Group, workload: dict[str, Any], space: KernelSpace, core: Core
) -> dict[str, Any]:
    """The row of one kernel: what was measured and modelled of each candidate."""
    from tvm_mobilenet.core_model.estimate import estimate

    tvm_target = target.resolve(group.target).tvm_target()
    measured, modelled = [], []
    for one in workload["candidates"]:
        candidate = space.at(as_point(one["point"]))
        if None in one["seconds"]:
            raise BadInput(f"{workload['kernel']} {one['point']}: {one['failure']}")
        if candidate.key != one["key"]:
            raise BadInput(f"{workload['kernel']}: the schedules have changed; measure again")
        measured.append(geometric_mean(one["seconds"]) * 1e6)
        modelled.append(estimate(candidate.schedule.mod, tvm_target, core).seconds * 1e6)
    return {
        "role": group.role,
        "target": group.target,
        "alpha": group.alpha,
        "resolution": group.resolution,
        "kernel": workload["kernel"],
        "rho": round(spearman(modelled, measured), 4),
        "rho_of_runs": round(rho_of_runs(workload["candidates"]), 4),
        "measured_us": [round(one, 2) for one in measured],
        "modelled_us": [round(one, 2) for one in modelled],
    }


def rho_of_runs(candidates: list[dict[str, Any]]) -> float:
    """Between the first and the last run."""
    first, last = ([one["seconds"][i] for one in candidates] for i in (0, -1))
    return spearman(first, last)


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation: Pearson's of the ranks."""
    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def ranks(values: ArrayLike) -> np.ndarray[Any, np.dtype[np.float64]]:
    """From 0; equal values share the mean of theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[place]


def as_point(values: list[Any]) -> tuple[Any, ...]:
    return tuple(tuple(one) if isinstance(one, list) else one for one in values)


def summed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    def relative(name: str) -> list[float]:
        return [one / median(row[name]) for row in rows for one in row[name]]

    pooled = spearman(relative("modelled_us"), relative("measured_us"))
    return {
        "kernels": len(rows),
        "candidates": sum(len(row["measured_us"]) for row in rows),
        "mean": round(fmean(row["rho"] for row in rows), 4),
        "mean_of_runs": round(fmean(row["rho_of_runs"] for row in rows), 4),
        "least": min(row["rho"] for row in rows),
        "pooled": round(pooled, 4),
    }


if __name__ == "__main__":
    raise SystemExit(main())
