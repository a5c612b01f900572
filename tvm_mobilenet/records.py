"""The command ``records``: list, verify and merge tuning logs, export the best of one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tvm_mobilenet import cli
from tvm_mobilenet.database import maintenance
from tvm_mobilenet.database.maintenance import WorkloadSummary
from tvm_mobilenet.database.store import Records


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 when done, 1 where ``verify`` found something, 2 for bad input."""
    parser = cli.make_parser("records", "List, check, merge or export tuning records.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=summary, description=summary)

    for name, summary in (
        ("list", "show what a tuning log holds"),
        ("verify", "check every line of a tuning log"),
    ):
        add(name, summary).add_argument("directory", type=Path, metavar="DIR", help="a tuning log")
    action = add("merge", "add the records of other logs")
    action.add_argument("directory", type=Path, metavar="INTO", help="the log that grows")
    action.add_argument("sources", type=Path, nargs="+", metavar="FROM", help="logs to take from")
    action = add("best", "export the best records alone")
    action.add_argument("directory", type=Path, metavar="DIR", help="a tuning log")
    action.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    return cli.run_command(_run, cli.parse(parser, argv))


def _run(args: argparse.Namespace) -> int:
    if args.action == "verify":
        return print_verified(args.directory)
    if args.action == "list":
        print_list(args.directory)
    elif args.action == "merge":
        added = maintenance.merge(args.directory, args.sources)
        print(f"{added} records added to {args.directory}")
    else:
        written = maintenance.export_best(args.directory, args.output)
        print(f"{written} records written to {args.output}")
    return 0


def print_list(directory: Path) -> None:
    """A line for each workload: how many schedules, the best, the default, where from."""
    log = Records.open(directory, None, skip_bad_lines=True)
    meta = log.meta
    print(f"target {meta.get('target_name')}, TVM {meta.get('tvm_version')}, {meta.get('cpu')}")
    for summary in maintenance.summarize(log):
        print(_line(summary))
    for problem in log.problems:
        print(problem)


def _line(summary: WorkloadSummary) -> str:
    best, default = summary.best, summary.default
    of = f"{best.info.precision}, " if best.info.precision else ""
    known = f", default {default.seconds * 1e6:.1f} us" if default else ""
    return (
        f"{summary.name}: {summary.schedules} schedules, best {best.seconds * 1e6:.1f} us "
        f"(spread {best.info.spread:.1%}){known}, {summary.failed} failed; {of}{best.info.how}, "
        f"{best.info.cache}, {best.info.cpu}, {best.info.date}"
    )


def print_verified(directory: Path) -> int:
    """What of a log cannot be used, and how much; 1 where there is any of it."""
    found = maintenance.verify(directory)
    for problem in found.problems:
        print(problem)
    if found.without_provenance:
        print(f"{found.without_provenance} records without provenance")
    bad = len(found.problems)
    print(f"{found.records} records, {found.failures} failures, {bad} unusable")
    return 1 if bad else 0


if __name__ == "__main__":
    cli.leave(main())
