"""The ``records`` stage: list, verify and merge tuning logs, export the best of one.

The database itself, ``Records``, is in ``tuning.record_store``; it is imported from here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tvm_mobilenet import cli
from tvm_mobilenet.database.lines import Failure, RecordInfo
from tvm_mobilenet.database.meta import META, identity
from tvm_mobilenet.database.store import Failed, Measured, Record, Records
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware.target import TargetSpec

__all__ = ["RecordInfo", "Records", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when done, 1 where ``verify`` found something, 2 for bad input."""
    parser = cli.make_parser("records", "List, check, merge or export tuning records.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, command in COMMANDS.items():
        action = actions.add_parser(name, help=command.summary, description=command.summary)
        command.add_flags(action)

    def body(args: argparse.Namespace) -> int:
        return COMMANDS[args.action].run(args)

    return cli.run_stage(body, cli.parse(parser, argv))


class Command(NamedTuple):
    summary: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def list_records(args: argparse.Namespace) -> int:
    """A line for each workload: how many schedules, the best, the default, where from."""
    records = Records.open(args.directory, None, skip_bad_lines=True)
    meta = records.meta
    print(f"target {meta.get('target_name')}, TVM {meta.get('tvm_version')}, {meta.get('cpu')}")
    for workload in records.workloads:
        ranked = records.ranked(workload)
        if not ranked:
            continue
        best = ranked[0]
        default = next((one for one in ranked if one.info.default), None)
        failed = sum(one.workload == workload for one in records.failures)
        gain = f", default {default.seconds * 1e6:.1f} us" if default else ""
        print(
            f"{best.info.task or f'workload {workload}'}: {len(ranked)} schedules, "
            f"best {best.seconds * 1e6:.1f} us (spread {best.info.spread:.1%}){gain}, "
            f"{failed} failed; {best.info.how}, {best.info.cache}, {best.info.cpu}, "
            f"{best.info.date}"
        )
    _print_problems(records)
    return 0


def verify(args: argparse.Namespace) -> int:
    """Read every line and apply every trace to its workload; 1 where something is unusable."""
    from tvm_mobilenet.scheduling.space import Rejected, replay

    records = Records.open(args.directory, None, skip_bad_lines=True)
    bad = _print_problems(records)
    unknown = 0
    for record in records.records:
        unknown += record.info.date == "unknown"
        try:
            replay(records.module(record.workload), record.trace_json)
        except (Rejected, BadInput) as error:
            bad += 1
            task = record.info.task or f"workload {record.workload}"
            print(f"{task}: trace {record.trace_key} does not apply: {error}")
    if unknown:
        print(f"{unknown} records without provenance")
    print(f"{len(records.records)} records, {len(records.failures)} failures, {bad} unusable")
    return 1 if bad else 0


def merge(args: argparse.Namespace) -> int:
    """Add to a log what others have and it lacks. BadInput where targets differ."""
    sources = [Records.open(path, None) for path in args.sources]
    spec = _spec_of(sources)
    with Records.open(args.directory, spec, writable=True) as records:
        added = sum(_add(records, source, source.records) for source in sources)
        records.add_runs(run for source in sources for run in source.meta.get("runs", []))
    print(f"{added} records added to {args.directory}")
    return 0


def best(args: argparse.Namespace) -> int:
    """Write a log with the best record of each workload alone."""
    source = Records.open(args.directory, None)
    if (args.output / META).exists():
        raise BadInput(f"{args.output} has records already; name a new folder with -o")
    winners = [source.ranked(workload)[:1] for workload in source.workloads]
    with Records.open(args.output, _spec_of([source]), writable=True) as records:
        added = _add(records, source, [record for one in winners for record in one])
        records.add_runs(source.meta.get("runs", []))
    print(f"{added} records written to {args.output}")
    return 0


def _directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="a tuning log")


def _merge_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="INTO", help="the log that grows")
    parser.add_argument("sources", type=Path, nargs="+", metavar="FROM", help="logs to take from")


def _best_flags(parser: argparse.ArgumentParser) -> None:
    _directory(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")


def _print_problems(records: Records) -> int:
    for problem in records.problems:
        print(problem)
    return len(records.problems)


def _spec_of(sources: Sequence[Records]) -> TargetSpec:
    """The target that all logs are of, as their meta.json has it."""
    first = sources[0].meta
    for other in sources[1:]:
        if identity(other.meta["target"]) != identity(first["target"]):
            raise BadInput(
                f"{sources[0].directory} is of target {first['target_name']}, "
                f"{other.directory} of {other.meta['target_name']}: records of one target only"
            )
    return TargetSpec(
        name=first["target_name"],
        family="x86",
        target=first["target"],
        device=first.get("device", first["target_name"]),
        num_cores=1,
        vector_width=1,
    )


def _add(records: Records, source: Records, chosen: Sequence[Record]) -> int:
    """Append of ``source``'s records those that ``records`` lacks, with its failures."""
    here = {number: records.find(source.module(number)) for number in source.workloads}
    known = {(one.workload, one.trace_key, one.info) for one in records.records}
    new = [
        Measured(source.module(one.workload), one.trace_json, one.info)
        for one in chosen
        if (here[one.workload], one.trace_key, one.info) not in known
    ]
    failed = {(one.workload, one.trace_key) for one in records.failures}
    failures = [
        _failed(source, one)
        for one in source.failures
        if here.get(one.workload) is not None and (here[one.workload], one.trace_key) not in failed
    ]
    records.append([*new, *failures])
    return len(new)


def _failed(source: Records, one: Failure) -> Failed:
    return Failed(source.module(one.workload), one.trace_key, one.cause, one.detail)


COMMANDS = {
    "list": Command("show what a tuning log holds", _directory, list_records),
    "verify": Command("check every line of a tuning log", _directory, verify),
    "merge": Command("add the records of other logs", _merge_flags, merge),
    "best": Command("export the best records alone", _best_flags, best),
}


if __name__ == "__main__":
    sys.exit(main())
