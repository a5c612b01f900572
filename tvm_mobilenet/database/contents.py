"""What the files of a tuning log hold, with the lines of them that cannot be used."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tvm_mobilenet.database.entries import Problem, Record, workload_line
from tvm_mobilenet.database.lines import (
    Failure,
    RecordInfo,
    line_key,
    parse_provenance,
    parse_record,
    parse_workload,
)
from tvm_mobilenet.database.meta import identity
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.files import read_lines, replace
from tvm_mobilenet.scheduling.traces import trace_key

T = TypeVar("T")

WORKLOADS = "database_workload.json"
RECORDS = "database_tuning_record.json"
PROVENANCE = "provenance.jsonl"


@dataclass
class Contents:
    """What the three files hold; a workload line that is unusable keeps its place as None."""

    workloads: list[tuple[str, str] | None] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read_contents(directory: Path) -> Contents:
    contents = Contents()
    for number, line, whole in read_lines(directory / WORKLOADS):
        try:
            contents.workloads.append(_use(line, parse_workload, whole=whole))
        except ValueError as error:
            contents.workloads.append(None)
            contents.problems.append(Problem(directory / WORKLOADS, number, str(error)))
    count = len(contents.workloads)
    infos: dict[str, RecordInfo] = {}
    for number, line, whole in read_lines(directory / PROVENANCE):
        try:
            entry = _use(line, lambda text: parse_provenance(text, count), whole=whole)
        except ValueError as error:
            contents.problems.append(Problem(directory / PROVENANCE, number, str(error)))
            continue
        if isinstance(entry, Failure):
            contents.failures.append(entry)
        else:
            infos[entry[0]] = entry[1]
    for number, line, whole in read_lines(directory / RECORDS):
        try:
            parsed = _use(line, lambda text: parse_record(text, count), whole=whole)
            if contents.workloads[parsed[0]] is None:
                raise ValueError(f"its workload, line {parsed[0] + 1} of {WORKLOADS}, is unusable")
        except ValueError as error:
            contents.problems.append(Problem(directory / RECORDS, number, str(error)))
            continue
        workload, trace_json, seconds, target = parsed
        info = infos.get(line_key(line)) or RecordInfo(latency_us=seconds * 1e6)
        key = trace_key(trace_json)
        contents.records.append(Record(workload, trace_json, key, seconds, target, line, info))
    return contents


def _use(line: str, parse: Callable[[str], T], *, whole: bool) -> T:
    if not whole:
        raise ValueError("truncated: the last line does not end")
    return parse(line)


def clear_bad_lines(contents: Contents) -> None:
    """Rewrite the files that have problems without them, keeping a copy of each as it was.

    A bad workload line keeps its place, since records count workloads by line; an empty module,
    which is no kernel, stands in for it.
    """
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    for path in sorted({problem.path for problem in contents.problems}):
        bad = {problem.number for problem in contents.problems if problem.path == path}
        backup = path.with_name(f"{path.name}.{stamp}.bak")
        good = {number: line for number, line, _ in read_lines(path) if number not in bad}
        try:
            shutil.copy2(path, backup)
            if path.name == WORKLOADS and good:
                lines = [good.get(i) or _empty_workload() for i in range(1, max(good) + 1)]
            else:
                lines = list(good.values())
            replace(path, "".join(line + "\n" for line in lines))
        except OSError as error:
            raise RunFailed(f"{path} cannot be rewritten: {error.strerror}") from None


def check_targets(directory: Path, meta: Mapping[str, Any], records: Iterable[Record]) -> None:
    for record in records:
        if meta and identity(record.target) != identity(meta["target"]):
            raise BadInput(
                f"{directory / RECORDS}: a record of target {dict(record.target)} "
                f"in a log of {meta['target_name']}"
            )


def _empty_workload() -> str:
    import tvm

    return json.dumps(workload_line(tvm.IRModule()))
