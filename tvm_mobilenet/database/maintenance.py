"""What keeps tuning logs in order: summaries, checks, merging, the best records alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_mobilenet.database.entries import Failed, Measured, Record
from tvm_mobilenet.database.lines import Failure
from tvm_mobilenet.database.meta import LogTarget, identity
from tvm_mobilenet.database.meta_file import META
from tvm_mobilenet.database.store import Records
from tvm_mobilenet.errors import BadInput


@dataclass(frozen=True)
class WorkloadSummary:
    """The schedules of one workload: the best, the default where it was measured, the failures."""

    name: str
    schedules: int
    best: Record
    default: Record | None
    failed: int


@dataclass(frozen=True)
class Verified:
    """What ``verify`` found; ``problems`` has a line for each record or line of no use."""

    records: int
    failures: int
    without_provenance: int
    problems: tuple[str, ...]


def summarize(log: Records) -> Iterator[WorkloadSummary]:
    """One summary for each workload that has records."""
    for workload in log.workloads:
        ranked = log.ranked(workload)
        if not ranked:
            continue
        yield WorkloadSummary(
            name=ranked[0].info.task or f"workload {workload}",
            schedules=len(ranked),
            best=ranked[0],
            default=next((one for one in ranked if one.info.default), None),
            failed=sum(one.workload == workload for one in log.failures),
        )


def verify(directory: Path) -> Verified:
    """Read every line of a log, apply every trace. Raises BadInput where there is no log."""
    from tvm_mobilenet.scheduling.space import Rejected, replay

    log = Records.open(directory, None, skip_bad_lines=True)
    problems = [str(problem) for problem in log.problems]
    for record in log.records:
        try:
            replay(log.module(record.workload), record.trace_json, None)
        except (Rejected, BadInput) as error:
            task = record.info.task or f"workload {record.workload}"
            problems.append(f"{task}: trace {record.trace_key} does not apply: {error}")
    unknown = sum(record.info.date == "unknown" for record in log.records)
    return Verified(len(log.records), len(log.failures), unknown, tuple(problems))


def merge(directory: Path, sources: Sequence[Path]) -> int:
    """Add to the log in ``directory`` what ``sources`` have and it lacks; how many records.

    Raises BadInput for a log that cannot be read, and where the logs are of different targets.
    """
    logs = [Records.open(path, None) for path in sources]
    with Records.open(directory, _common_target(logs), writable=True) as into:
        added = sum(_add(into, log, log.records) for log in logs)
        into.add_runs(run for log in logs for run in log.meta.get("runs", []))
    return added


def export_best(directory: Path, output: Path) -> int:
    """Write a new log, ``output``, with the best record of each workload; how many records.

    Raises BadInput where ``output`` has records already.
    """
    log = Records.open(directory, None)
    if (output / META).exists():
        raise BadInput(f"{output} has records already; name a new folder with -o")
    best = [record for workload in log.workloads for record in log.ranked(workload)[:1]]
    with Records.open(output, LogTarget.from_meta(log.meta), writable=True) as into:
        added = _add(into, log, best)
        into.add_runs(log.meta.get("runs", []))
    return added


def _common_target(logs: Sequence[Records]) -> LogTarget:
    """The target that all logs are of."""
    first = LogTarget.from_meta(logs[0].meta)
    for log in logs[1:]:
        other = LogTarget.from_meta(log.meta)
        if identity(other.target) != identity(first.target):
            raise BadInput(
                f"{logs[0].directory} is of target {first.name}, {log.directory} of {other.name}: "
                "records of one target only"
            )
    return first


def _add(into: Records, source: Records, chosen: Sequence[Record]) -> int:
    """Append of ``source``'s records those that ``into`` lacks, with its failures."""
    here = {number: into.find(source.module(number)) for number in source.workloads}
    known = {(one.workload, one.trace_key, one.info) for one in into.records}
    new = [
        Measured(source.module(one.workload), one.trace_json, one.info)
        for one in chosen
        if (here[one.workload], one.trace_key, one.info) not in known
    ]
    failed = {(one.workload, one.trace_key) for one in into.failures}
    failures = [
        _describe_failure(source, one)
        for one in source.failures
        if here.get(one.workload) is not None and (here[one.workload], one.trace_key) not in failed
    ]
    into.append([*new, *failures])
    return len(new)


def _describe_failure(source: Records, one: Failure) -> Failed:
    return Failed(source.module(one.workload), one.trace_key, one.cause, one.detail)
