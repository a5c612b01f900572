"""The tuning database: ``tuning_logs/<target>/``.

Three files that only ever grow, one JSON value a line:

- ``database_workload.json`` and ``database_tuning_record.json`` are MetaSchedule's own:
  ``ms.database.JSONDatabase(work_dir=…)`` loads them.
- ``provenance.jsonl`` tells of each record where and how it was measured, and which schedules
  failed and why, so that a resumed run tries none of them again. MetaSchedule's format has no place
  for either, and a failure is never stored as a time.

``meta.json`` says which target the folder is for. Lines are appended a batch at a time and synced
to disk; whoever writes holds a lock.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tvm_mobilenet import tvm_runtime
from tvm_mobilenet.database import meta as record_meta
from tvm_mobilenet.database.lines import (
    Failure,
    RecordInfo,
    line_key,
    parse_provenance,
    parse_record,
    parse_workload,
)
from tvm_mobilenet.database.meta import META, identity
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.files import append_lines, hold_lock, read_lines, replace
from tvm_mobilenet.provenance import now
from tvm_mobilenet.scheduling.traces import canonical_json, trace_key

if TYPE_CHECKING:
    import tvm
    from tvm import s_tir, tirx

    from tvm_mobilenet.hardware.target import TargetSpec

T = TypeVar("T")

WORKLOADS = "database_workload.json"
RECORDS = "database_tuning_record.json"
PROVENANCE = "provenance.jsonl"

NOISE = 0.02  # two measurements of one kernel differ by this much on a quiet machine


@dataclass(frozen=True)
class Record:
    """A line of the record file; ``workload`` counts the workload file's lines from 0."""

    workload: int
    trace_json: str
    trace_key: str
    seconds: float
    target: Mapping[str, Any]
    text: str
    info: RecordInfo


@dataclass(frozen=True)
class Problem:
    """A line that cannot be used; ``number`` counts from 1."""

    path: Path
    number: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}, line {self.number}: {self.reason}"


@dataclass(frozen=True)
class Measured:
    """A new record, for ``Records.append``: a TuningRecord's parts and where its time is from."""

    mod: tvm.IRModule
    trace_json: str
    info: RecordInfo


@dataclass(frozen=True)
class Failed:
    """A new failure, for ``Records.append``."""

    mod: tvm.IRModule
    trace_key: str
    cause: str
    detail: str


@dataclass
class _Contents:
    """What the three files hold; a workload line that is unusable keeps its place as None."""

    workloads: list[tuple[str, str] | None] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class Records:
    """The records of one target. Use ``Records.open``; a writable one must be closed."""

    def __init__(
        self,
        directory: Path,
        spec: TargetSpec | None,
        meta: dict[str, Any],
        contents: _Contents,
        lock: int | None,
    ) -> None:
        self.directory = directory
        self.spec = spec
        self.meta = meta
        self.problems = contents.problems
        self._contents = contents
        self._lock = lock
        self._modules: dict[int, tvm.IRModule] = {}
        self._by_workload: dict[int, list[Record]] = {}
        for record in contents.records:
            self._by_workload.setdefault(record.workload, []).append(record)

    @classmethod
    def open(
        cls,
        directory: Path | str,
        spec: TargetSpec | None,
        *,
        writable: bool = False,
        skip_bad_lines: bool = False,
    ) -> Records:
        """Open ``directory``; where writable it is made, and locked until ``close``.

        ``spec`` None takes the records of whatever target they are. Lines that cannot be used are
        an error, or with ``skip_bad_lines`` listed in ``problems``; a writable folder is then
        cleared of them, the files as they were kept beside it. Raises BadInput for a folder that is
        missing, unwritable, locked, of another target or format, or with unusable lines.
        """
        directory = Path(directory)
        lock = hold_lock(directory) if writable else None
        try:
            meta = record_meta.read(directory, spec, required=not writable)
            if not meta and (directory / RECORDS).exists():
                raise BadInput(f"{directory} has records but no {META}: of which target?")
            contents = _read(directory)
            problems = contents.problems
            if problems and not skip_bad_lines:
                more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
                raise BadInput(f"{problems[0]}{more}; 'tune --resume' skips such lines")
            _check_targets(directory, meta, contents.records)
            if problems and writable:
                _clear_bad_lines(directory, contents)
                contents = _read(directory)
                contents.problems = problems
            if writable:
                assert spec is not None, "a writable database needs its target"
                record_meta.write(directory, meta := record_meta.new(meta, spec))
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise
        return cls(directory, spec, meta, contents, lock)

    def close(self) -> None:
        """Let others write."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- reading

    @property
    def records(self) -> list[Record]:
        """Every record, in the order they were written."""
        return self._contents.records

    @property
    def failures(self) -> list[Failure]:
        return self._contents.failures

    @property
    def workloads(self) -> list[int]:
        """The numbers of the usable workloads."""
        return [i for i, one in enumerate(self._contents.workloads) if one is not None]

    def module(self, workload: int) -> tvm.IRModule:
        """The module of a workload by its number."""
        if workload not in self._modules:
            from tvm.s_tir import meta_schedule as ms

            line = self._contents.workloads[workload]
            assert line is not None, f"workload {workload} is unusable"
            try:
                self._modules[workload] = ms.database.Workload.from_json(list(line)).mod
            except Exception as error:  # whatever TVM's deserializer meets
                path = self.directory / WORKLOADS
                raise BadInput(
                    f"{path}, line {workload + 1}: TVM cannot read the module"
                ) from error
        return self._modules[workload]

    def find(self, mod: tvm.IRModule) -> int | None:
        """The number of the workload equal to ``mod``, None where it is not there."""
        import tvm_ffi

        hashed = str(tvm_ffi.structural_hash(mod))
        same = [i for i in self.workloads if self._hash(i) == hashed]
        others = [] if self._hashes_are_ours else [i for i in self.workloads if i not in same]
        for number in same + others:
            if tvm_ffi.structural_equal(self.module(number), mod):
                return number
        return None

    def _hash(self, workload: int) -> str:
        line = self._contents.workloads[workload]
        assert line is not None, f"workload {workload} is unusable"
        return line[0]

    @cached_property
    def _hashes_are_ours(self) -> bool:
        """Whether this TVM wrote the lines, whose hashes then tell what is not there.

        Another build's may differ for the same module.
        """
        import tvm_ffi

        ours = tvm_runtime.version()
        if not self.workloads or any(one.info.tvm_version != ours for one in self.records):
            return False
        first = self.workloads[0]
        return str(tvm_ffi.structural_hash(self.module(first))) == self._hash(first)

    def ranked(self, workload: int) -> list[Record]:
        """The records of a workload, best first, one for each schedule.

        The last measurement of a schedule is the one that counts. Those that were measured side by
        side when their search had ended keep their order, and what that search had left behind
        comes after them: it was slower in the search, whose times do not compare with theirs.
        What was measured since goes before them only where it was faster by more than noise. What
        a model says comes after all that was measured, and never in the place of a measurement.
        """
        found = self._by_workload.get(workload, [])
        finals = [at for at, one in enumerate(found) if one.info.final and not one.info.modelled]
        decided = max(finals, default=-1)
        by_worth = sorted(enumerate(found), key=lambda one: not one[1].info.modelled)
        latest = {record.trace_key: (at, record) for at, record in by_worth}

        def order(one: tuple[int, Record]) -> tuple[bool, bool, float]:
            at, record = one
            info = record.info
            left_behind = at < decided and not (info.final or info.modelled)
            seconds = record.seconds * (1.0 if info.final else 1.0 + NOISE)
            return info.modelled, left_behind, seconds

        return [record for _, record in sorted(latest.values(), key=order)]

    def schedule_for(
        self, func: tirx.PrimFunc
    ) -> tuple[s_tir.Schedule, RecordInfo] | tuple[None, None]:
        """The best record's schedule of ``func`` and where it comes from; None, None without one.

        A trace that does not apply (the rules of another version wrote it) gives way to the next,
        and so does one made for fewer cores that leaves some of this target's idle.
        """
        from tvm_mobilenet.scheduling.space import (
            KernelSpace,
            Rejected,
            replay,
            workload_module,
        )

        mod = workload_module(func)
        workload = self.find(mod)
        ranked = [] if workload is None else self.ranked(workload)
        check_balance = None
        if ranked and self.spec is not None and not self._same_cores(self.spec):
            check_balance = KernelSpace(func, self.spec.tvm_target()).check_balance
        for record in ranked:
            with contextlib.suppress(Rejected):
                schedule = replay(mod, record.trace_json)
                if check_balance is not None:
                    check_balance(schedule)
                return schedule, record.info
        return None, None

    def _same_cores(self, spec: TargetSpec) -> bool:
        """Whether the records were made for as many cores."""
        return bool(self.meta["target"].get("num-cores") == spec.target.get("num-cores"))

    def check_conditions(self, threads: int, cache: str, how: str) -> None:
        """Raise BadInput where the records' times were not measured like this: they do not compare.

        The threads of a kernel, "cold" or "warm" weights, and how ("native", "rpc", …).
        """
        for record in self.records:
            info = record.info
            theirs = (info.threads, info.cache, info.how)
            if info.how != "unknown" and theirs != (threads, cache, how):
                raise BadInput(
                    f"{self.directory} holds times measured with {_conditions(*theirs)}, not with "
                    f"{_conditions(threads, cache, how)}, which do not compare; name another "
                    "--work-dir"
                )

    # ---- writing

    def append(self, entries: Sequence[Measured | Failed]) -> None:
        """Add a batch, on disk when this returns.

        Provenance goes first: after a kill between the files a line that refers to nothing does no
        harm. Raises RunFailed where the disk is full; the files then end as they were.
        """
        if not entries:
            return
        assert self._lock is not None and self.spec is not None, "not opened for writing"
        numbers = self._workload_numbers([entry.mod for entry in entries])
        records, provenance = [], []
        for entry, number in zip(entries, numbers, strict=True):
            if isinstance(entry, Failed):
                failure = Failure(number, entry.trace_key, entry.cause, entry.detail)
                self._contents.failures.append(failure)
                provenance.append(json.dumps({"failed": asdict(failure)}))
            else:
                record = _new_record(entry, number, self.spec)
                records.append(record)
                provenance.append(
                    json.dumps({"record": line_key(record.text), "info": asdict(record.info)})
                )
        append_lines(self.directory / PROVENANCE, provenance)
        append_lines(self.directory / RECORDS, [record.text for record in records])
        for record in records:
            self._contents.records.append(record)
            self._by_workload.setdefault(record.workload, []).append(record)

    def add_runs(self, runs: Iterable[Mapping[str, Any]]) -> None:
        """Note in ``meta.json`` how tuning runs went, those that it has left out."""
        known = self.meta.get("runs", [])
        self.meta["runs"] = [*known, *(dict(run) for run in runs if dict(run) not in known)]
        self.meta["updated"] = now()
        if self.records:  # a device's, where it was measured over RPC
            self.meta["cpu"] = self.records[-1].info.cpu
        record_meta.write(self.directory, self.meta)

    def _workload_numbers(self, mods: Sequence[tvm.IRModule]) -> list[int]:
        numbers = []
        for mod in mods:
            number = next((n for n, known in self._modules.items() if known.same_as(mod)), None)
            number = self.find(mod) if number is None else number
            if number is None:
                line = _workload_line(mod)
                append_lines(self.directory / WORKLOADS, [json.dumps(line)])
                self._contents.workloads.append(line)
                number = len(self._contents.workloads) - 1
            self._modules[number] = mod
            numbers.append(number)
        return numbers


def _new_record(entry: Measured, workload: int, spec: TargetSpec) -> Record:
    from tvm.s_tir import meta_schedule as ms

    arguments = [info.as_json() for info in ms.arg_info.ArgInfo.from_entry_func(entry.mod)]
    seconds = entry.info.latency_us / 1e6
    trace = json.loads(entry.trace_json)
    target = dict(spec.target)
    text = canonical_json([workload, [trace, [seconds], target, arguments]])
    key = trace_key(entry.trace_json)
    return Record(workload, entry.trace_json, key, seconds, target, text, entry.info)


def _workload_line(mod: tvm.IRModule) -> tuple[str, str]:
    from tvm.s_tir import meta_schedule as ms

    hashed, module = ms.database.Workload(mod).as_json()
    return str(hashed), _without_spaces(str(module))


def _without_spaces(module: str) -> str:
    """A workload's module with half as many bytes: TVM's JSON, base64, is mostly indentation.

    What is encoded is the text's length, eight bytes little-endian, and the text.
    """
    text = json.loads(base64.b64decode(module)[8:])
    dense = json.dumps(text, separators=(",", ":")).encode()
    return base64.b64encode(len(dense).to_bytes(8, "little") + dense).decode()


def _empty_workload() -> str:
    import tvm

    return json.dumps(_workload_line(tvm.IRModule()))


def _conditions(threads: int, cache: str, how: str) -> str:
    return f"{threads} {'thread' if threads == 1 else 'threads'}, weights {cache}, {how}"


def _read(directory: Path) -> _Contents:
    contents = _Contents()
    for number, line, whole in read_lines(directory / WORKLOADS):
        try:
            contents.workloads.append(_use(line, whole, parse_workload))
        except ValueError as error:
            contents.workloads.append(None)
            contents.problems.append(Problem(directory / WORKLOADS, number, str(error)))
    count = len(contents.workloads)
    infos: dict[str, RecordInfo] = {}
    for number, line, whole in read_lines(directory / PROVENANCE):
        try:
            entry = _use(line, whole, lambda text: parse_provenance(text, count))
        except ValueError as error:
            contents.problems.append(Problem(directory / PROVENANCE, number, str(error)))
            continue
        if isinstance(entry, Failure):
            contents.failures.append(entry)
        else:
            infos[entry[0]] = entry[1]
    for number, line, whole in read_lines(directory / RECORDS):
        try:
            parsed = _use(line, whole, lambda text: parse_record(text, count))
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


def _use(line: str, whole: bool, parse: Callable[[str], T]) -> T:
    if not whole:
        raise ValueError("truncated: the last line does not end")
    return parse(line)


def _clear_bad_lines(directory: Path, contents: _Contents) -> None:
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


def _check_targets(directory: Path, meta: Mapping[str, Any], records: Iterable[Record]) -> None:
    for record in records:
        if meta and identity(record.target) != identity(meta["target"]):
            raise BadInput(
                f"{directory / RECORDS}: a record of target {dict(record.target)} "
                f"in a log of {meta['target_name']}"
            )
