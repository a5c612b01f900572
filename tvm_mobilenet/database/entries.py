"""The entries of a tuning log: records and failures, as they are read and as they are written."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet.database.lines import RecordInfo
from tvm_mobilenet.database.meta import LogTarget
from tvm_mobilenet.scheduling.traces import canonical_json, trace_key

if TYPE_CHECKING:
    import tvm


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


def new_record(entry: Measured, workload: int, log_target: LogTarget) -> Record:
    from tvm.s_tir import meta_schedule as ms

    arguments = [info.as_json() for info in ms.arg_info.ArgInfo.from_entry_func(entry.mod)]
    seconds = entry.info.latency_us / 1e6
    trace = json.loads(entry.trace_json)
    target = dict(log_target.target)
    text = canonical_json([workload, [trace, [seconds], target, arguments]])
    key = trace_key(entry.trace_json)
    return Record(workload, entry.trace_json, key, seconds, target, text, entry.info)


def workload_line(mod: tvm.IRModule) -> tuple[str, str]:
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
