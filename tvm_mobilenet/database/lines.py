"""The lines of a tuning log: what they say, and how one that says nothing usable is recognised.

Only the standard library is imported here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm_mobilenet import strict
from tvm_mobilenet.scheduling.traces import check_trace, trace_key

NEVER_SECONDS = 1e10  # what MetaSchedule writes as the time of a failure


@dataclass(frozen=True)
class RecordInfo:
    """Where a record's time comes from. ``spread`` is (slowest - fastest) / fastest repeat."""

    latency_us: float
    how: str = "unknown"
    cpu: str = "unknown"
    date: str = "unknown"
    tvm_version: str = "unknown"
    spread: float = 0.0
    threads: int = 1
    cache: str = "unknown"  # "cold": weights from beyond L2; "warm": everything where it was
    task: str = ""
    final: bool = False  # measured again beside its rivals when the search had ended
    default: bool = False  # the schedule that needs no tuning

    reference: str = "unknown"  # what its outputs were held against: "numpy" or "unscheduled"
    precision: str = ""  # the narrowest of the kernel's tensors; empty in older records

    @property
    def modelled(self) -> bool:
        """Whether no device was asked: any measured record is worth more."""
        return self.how == "modelled"


@dataclass(frozen=True)
class Failure:
    """A schedule that did not get a time: ``cause`` as in messages.CAUSES."""

    workload: int
    trace_key: str
    cause: str
    detail: str


@dataclass(frozen=True)
class _Measured:
    """A line of the provenance file about a record, named by its key."""

    record: str
    info: RecordInfo


@dataclass(frozen=True)
class _Failed:
    """One about a schedule without a record."""

    failed: Failure


def parse_workload(text: str) -> tuple[str, str]:
    """A line of the workload file: TVM's hash and the module, base64. Raises ValueError."""
    value = _json(text)
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)):
        raise ValueError("not a workload: expected [hash, module]")
    return value[0], value[1]


def parse_record(text: str, workloads: int) -> tuple[int, str, float, Mapping[str, Any]]:
    """A line of the record file: workload, trace in canonical JSON, seconds, target.

    ``workloads`` is how many workloads there are to refer to. Raises ValueError, saying why.
    """
    value = _json(text)
    if not (isinstance(value, list) and len(value) == 2):
        raise ValueError("not a tuning record: expected [workload, record]")
    workload, record = value
    if not (type(workload) is int and 0 <= workload < workloads):
        raise ValueError(f"workload {workload!r} is not among the {workloads} known")
    if not (isinstance(record, list) and len(record) == 4):
        raise ValueError("not a tuning record: expected [trace, seconds, target, arguments]")
    trace, seconds, target, _ = record
    check_trace(trace)
    if not (isinstance(seconds, list) and seconds and all(_is_time(one) for one in seconds)):
        raise ValueError(f"no usable run time: {json.dumps(seconds)[:60]}")
    if not isinstance(target, dict):
        raise ValueError("the target is missing")
    trace_json = json.dumps(trace, separators=(",", ":"))
    return workload, trace_json, sum(seconds) / len(seconds), target


def parse_provenance(text: str, workloads: int) -> tuple[str, RecordInfo] | Failure:
    """A line of the provenance file: a record's key and its info, or a failure.

    Raises ValueError, saying why.
    """
    value = _json(text)
    try:
        if isinstance(value, dict) and "failed" in value:
            failure = strict.read(_Failed, value).failed
            if not 0 <= failure.workload < workloads:
                raise ValueError(f"workload {failure.workload} is not among the {workloads}")
            return failure
        entry = strict.read(_Measured, value)
    except strict.Unexpected as error:
        raise ValueError(f"not provenance: {error}") from None
    if not _is_time(entry.info.latency_us):
        raise ValueError(f"no usable latency: {entry.info.latency_us!r}")
    return entry.record, entry.info


def line_key(text: str) -> str:
    """By what provenance refers to a record: a hash of its line."""
    return trace_key(text)


def _json(text: str) -> Any:
    try:
        return strict.parse_json(text)
    except strict.Unexpected as error:
        raise ValueError(str(error)) from None


def _is_time(value: Any) -> bool:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return good and 0 < value < NEVER_SECONDS and math.isfinite(value)
