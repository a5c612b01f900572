"""The tuning database: one folder for each target (``lookup`` says which).

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

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import tvm_runtime
from tvm_mobilenet.database import meta as record_meta
from tvm_mobilenet.database.contents import (
    PROVENANCE,
    RECORDS,
    WORKLOADS,
    Contents,
    check_targets,
    clear_bad_lines,
    read_contents,
)
from tvm_mobilenet.database.entries import (
    Failed,
    Measured,
    Record,
    new_record,
    workload_line,
)
from tvm_mobilenet.database.lines import Failure, RecordInfo, line_key
from tvm_mobilenet.database.meta import LogTarget
from tvm_mobilenet.database.meta_file import META
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.files import append_lines, hold_lock
from tvm_mobilenet.provenance import now

if TYPE_CHECKING:
    import tvm
    from tvm import s_tir, tirx

    from tvm_mobilenet.hardware.target import TargetSpec

NOISE = 0.02  # two measurements of one kernel differ by this much on a quiet machine


class Records:
    """The records of one target. Use ``Records.open``; a writable one must be closed."""

    def __init__(
        self,
        directory: Path,
        target: LogTarget | None,
        meta: dict[str, Any],
        contents: Contents,
        lock: int | None = None,
        fallback: Records | None = None,
    ) -> None:
        self.directory = directory
        self.target = target
        self.meta = meta
        self.problems = contents.problems
        self._contents = contents
        self._lock = lock
        self._fallback = fallback
        self._modules: dict[int, tvm.IRModule] = {}
        self._by_workload: dict[int, list[Record]] = {}
        for record in contents.records:
            self._by_workload.setdefault(record.workload, []).append(record)

    @classmethod
    def open(
        cls,
        directory: Path | str,
        spec: TargetSpec | LogTarget | None,
        *,
        writable: bool = False,
        skip_bad_lines: bool = False,
        fallback: Records | None = None,
    ) -> Records:
        """Open ``directory``; where writable it is made, and locked until ``close``.

        ``spec`` None takes the records of whatever target they are. Lines that cannot be used are
        an error, or with ``skip_bad_lines`` listed in ``problems``; a writable folder is then
        cleared of them, the files as they were kept beside it. ``fallback`` has the schedules of
        kernels that this log has none for. Raises BadInput for a folder that is
        missing, unwritable, locked, of another target or format, or with unusable lines.
        """
        directory = Path(directory)
        target = None if spec is None else LogTarget.of(spec)
        lock = hold_lock(directory) if writable else None
        try:
            meta = record_meta.read(directory, target, required=not writable)
            if not meta and (directory / RECORDS).exists():
                raise BadInput(f"{directory} has records but no {META}: of which target?")
            contents = read_contents(directory)
            problems = contents.problems
            if problems and not skip_bad_lines:
                more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
                raise BadInput(f"{problems[0]}{more}; 'tune --resume' skips such lines")
            check_targets(directory, meta, contents.records)
            if problems and writable:
                clear_bad_lines(contents)
                contents = read_contents(directory)
                contents.problems = problems
            if writable:
                assert target is not None, "a writable database needs its target"
                record_meta.write(directory, meta := record_meta.new(meta, target))
        except BaseException:
            if lock is not None:
                os.close(lock)
            raise
        return cls(directory, target, meta, contents, lock, fallback)

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

        Where this log has none, or none but a model's, its fallback may have a better one.
        """
        own = self._own_schedule_for(func)
        if self._fallback is None or (own[1] is not None and not own[1].modelled):
            return own
        other = self._fallback.schedule_for(func)
        if own[1] is None or (other[1] is not None and not other[1].modelled):
            return other
        return own

    def _own_schedule_for(
        self, func: tirx.PrimFunc
    ) -> tuple[s_tir.Schedule, RecordInfo] | tuple[None, None]:
        """As ``schedule_for``, of this log alone.

        A trace that does not apply (the rules of another version wrote it) gives way to the next,
        and so does one made for fewer cores that leaves some of this target's idle.
        """
        from tvm.target import Target

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
        tvm_target = None if self.target is None else Target(dict(self.target.target))
        if ranked and self.target is not None and not self._same_cores(self.target):
            check_balance = KernelSpace(func, tvm_target).check_balance
        for record in ranked:
            with contextlib.suppress(Rejected):
                schedule = replay(mod, record.trace_json, tvm_target)
                if check_balance is not None:
                    check_balance(schedule)
                return schedule, record.info
        return None, None

    def _same_cores(self, target: LogTarget) -> bool:
        """Whether the records were made for as many cores."""
        return bool(self.meta["target"].get("num-cores") == target.target.get("num-cores"))

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
        assert self._lock is not None and self.target is not None, "not opened for writing"
        numbers = self._workload_numbers([entry.mod for entry in entries])
        records, provenance = [], []
        for entry, number in zip(entries, numbers, strict=True):
            if isinstance(entry, Failed):
                failure = Failure(number, entry.trace_key, entry.cause, entry.detail)
                self._contents.failures.append(failure)
                provenance.append(json.dumps({"failed": asdict(failure)}))
            else:
                record = new_record(entry, number, self.target)
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
                line = workload_line(mod)
                append_lines(self.directory / WORKLOADS, [json.dumps(line)])
                self._contents.workloads.append(line)
                number = len(self._contents.workloads) - 1
            self._modules[number] = mod
            numbers.append(number)
        return numbers


def _conditions(threads: int, cache: str, how: str) -> str:
    return f"{threads} {'thread' if threads == 1 else 'threads'}, weights {cache}, {how}"
