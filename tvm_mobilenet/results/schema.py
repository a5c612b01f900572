"""The results file: its dataclasses, a strict loader and an atomic writer.

This is the one place that knows the format. ``bench`` writes rows, ``report`` reads them, and a
file that departs from the format is refused with the file and the key that is wrong.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.files import replace

FORMAT_VERSION = 1

Precision = Literal["fp32", "tf32", "bf16", "fp16", "int8"]
How = Literal["native", "rpc", "emulated", "modelled"]
Status = Literal["ok", "not run"]


@dataclass(frozen=True)
class Device:
    """The device that ran what was measured, where that was not the machine itself.

    ``temperature_c`` holds its readings before and after, as far as it could be read. An
    ``emulated`` device's instructions are real, its times mean nothing.
    """

    cpu: str
    emulated: bool
    cores: int | None = None
    governor: str | None = None
    temperature_c: tuple[float, ...] = ()
    os: str | None = None
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Machine:
    """Where the rows were measured. ``load_average`` holds the 1, 5 and 15 minute figures.

    ``device`` is None where the machine itself ran what was measured.
    """

    cpu: str
    cores: int
    governor: str | None
    load_average: tuple[float, ...]
    os: str
    python: str
    versions: dict[str, str]
    device: Device | None = None


@dataclass(frozen=True)
class Latency:
    """Summary of one row's samples, in ms; ``p99`` only where the number of runs supports it."""

    min: float
    p50: float
    p90: float
    mean: float
    std: float
    n: int
    p99: float | None = None


@dataclass(frozen=True)
class ResultRow:
    """One engine on one network with one thread count.

    Times are in ms; ``*_mb`` in 10^6 bytes. ``alpha`` is None for a network from an ONNX file.
    ``samples_ms`` keeps the order of measuring, so that two rows can be paired in time.
    ``instructions`` of one inference, all threads together, were counted on an emulated core
    instead of timing it: such a row has neither latency nor samples.
    A row that was ``not run`` has a ``reason``, no latency and no samples.
    """

    model: str
    alpha: float | None
    resolution: int
    batch: int
    precision: Precision
    engine: str
    engine_version: str | None
    target: str
    threads: int
    how: How
    tuned: bool
    latency_ms: Latency | None
    samples_ms: tuple[float, ...]
    load_ms: float | None
    first_run_ms: float | None
    peak_rss_mb: float | None
    artifact_mb: float | None
    max_abs_diff: float | None
    reference: str
    status: Status
    reason: str | None
    instructions: int | None = None


@dataclass(frozen=True)
class Results:
    """A whole results file. ``command`` and ``created`` (ISO 8601) may be absent in it."""

    machine: Machine
    results: tuple[ResultRow, ...]
    command: str | None = None
    created: str | None = None


class _Wrong(Exception):
    """A value that departs from the format; the text starts with the path of its key."""


# Checkers: each takes a JSON value and the path of its key, and returns the value to keep.

_Check = Callable[[Any, str], Any]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"{key}: expected a string, got {_shown(value)}")
    return value


def _flag(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(f"{key}: expected true or false, got {_shown(value)}")
    return value


def _count(value: Any, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _Wrong(f"{key}: expected a whole number of at least 1, got {_shown(value)}")
    return value


def _amount(value: Any, key: str) -> float:
    """A finite number of at least 0."""
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise _Wrong(f"{key}: expected a number of at least 0, got {_shown(value)}")
    return number


def _or_null(check: _Check) -> _Check:
    return lambda value, key: None if value is None else check(value, key)


def _one_of(*choices: str) -> _Check:
    def check(value: Any, key: str) -> str:
        if not isinstance(value, str) or value not in choices:
            raise _Wrong(f"{key}: expected one of {', '.join(choices)}, got {_shown(value)}")
        return value

    return check


def _list_of(check: _Check) -> _Check:
    def check_list(value: Any, key: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _Wrong(f"{key}: expected a list, got {_shown(value)}")
        return tuple(check(item, f"{key}[{i}]") for i, item in enumerate(value))

    return check_list


def _texts_by_name(value: Any, key: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _Wrong(f"{key}: expected an object, got {_shown(value)}")
    return {name: _text(text, f"{key}.{name}") for name, text in value.items()}


def _object(
    value: Any, key: str, checks: Mapping[str, _Check], optional: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """The checked members of an object that has every key of ``checks`` and no other."""
    path = f"{key}." if key else ""
    if not isinstance(value, dict):
        raise _Wrong(f"{key or 'top level'}: expected an object, got {_shown(value)}")
    for name in value:
        if name not in checks:
            raise _Wrong(f"{path}{name}: unknown key")
    for name in checks:
        if name not in value and name not in optional:
            raise _Wrong(f"{path}{name}: missing")
    return {
        name: check(value[name], path + name) for name, check in checks.items() if name in value
    }


_DEVICE: dict[str, _Check] = {
    "cpu": _text,
    "emulated": _flag,
    "cores": _or_null(_count),
    "governor": _or_null(_text),
    "temperature_c": _list_of(_amount),
    "os": _or_null(_text),
    "versions": _texts_by_name,
}


def _device(value: Any, key: str) -> Device:
    return Device(**_object(value, key, _DEVICE))


_MACHINE: dict[str, _Check] = {
    "cpu": _text,
    "cores": _count,
    "governor": _or_null(_text),
    "load_average": _list_of(_amount),
    "os": _text,
    "python": _text,
    "versions": _texts_by_name,
    "device": _device,
}


def _machine(value: Any, key: str) -> Machine:
    return Machine(**_object(value, key, _MACHINE, optional=frozenset({"device"})))


_LATENCY: dict[str, _Check] = {
    "min": _amount,
    "p50": _amount,
    "p90": _amount,
    "mean": _amount,
    "std": _amount,
    "n": _count,
    "p99": _amount,
}


def _latency(value: Any, key: str) -> Latency:
    return Latency(**_object(value, key, _LATENCY, optional=frozenset({"p99"})))


_ROW: dict[str, _Check] = {
    "model": _text,
    "alpha": _or_null(_amount),
    "resolution": _count,
    "batch": _count,
    "precision": _one_of(*get_args(Precision)),
    "engine": _text,
    "engine_version": _or_null(_text),
    "target": _text,
    "threads": _count,
    "how": _one_of("native", "rpc", "emulated", "modelled"),
    "tuned": _flag,
    "latency_ms": _or_null(_latency),
    "samples_ms": _list_of(_amount),
    "load_ms": _or_null(_amount),
    "first_run_ms": _or_null(_amount),
    "peak_rss_mb": _or_null(_amount),
    "artifact_mb": _or_null(_amount),
    "max_abs_diff": _or_null(_amount),
    "reference": _text,
    "status": _one_of("ok", "not run"),
    "reason": _or_null(_text),
    "instructions": _count,
}


def _row(value: Any, key: str) -> ResultRow:
    row = ResultRow(**_object(value, key, _ROW, optional=frozenset({"instructions"})))
    if row.status == "not run":
        if row.latency_ms is not None or row.samples_ms:
            raise _Wrong(f"{key}.latency_ms: a row that was not run cannot have a latency")
        if row.instructions is not None:
            raise _Wrong(f"{key}.instructions: a row that was not run cannot have a count")
        if not row.reason:
            raise _Wrong(f"{key}.reason: a row that was not run needs a reason")
        return row
    if row.max_abs_diff is None:
        raise _Wrong(f"{key}.max_abs_diff: missing, and no figure counts without verified output")
    if row.instructions is not None:
        _check_count(row, key)
    else:
        _check_latency(row, key)
    return row


def _check_count(row: ResultRow, key: str) -> None:
    if row.latency_ms is not None or row.samples_ms:
        raise _Wrong(f"{key}.instructions: a row of counted instructions cannot have a latency")
    if row.how != "emulated":
        raise _Wrong(f"{key}.how: instructions are counted on an emulated core, got {row.how!r}")


def _check_latency(row: ResultRow, key: str) -> None:
    if row.latency_ms is None:
        raise _Wrong(f"{key}.latency_ms: missing in a row with status ok")
    if row.latency_ms.n != len(row.samples_ms):
        raise _Wrong(
            f"{key}.latency_ms.n: {row.latency_ms.n}, but samples_ms holds {len(row.samples_ms)}"
        )
    if min(row.samples_ms) <= 0 or row.latency_ms.min <= 0:
        raise _Wrong(f"{key}.samples_ms: a latency must be greater than 0")


def _version(value: Any, key: str) -> int:
    if value != FORMAT_VERSION or isinstance(value, bool):
        raise _Wrong(f"{key}: this version reads {FORMAT_VERSION}, got {_shown(value)}")
    return FORMAT_VERSION


def _results(document: Any) -> Results:
    # The version first: in a file of another format every other key may differ.
    if isinstance(document, dict) and "format_version" in document:
        _version(document["format_version"], "format_version")
    members = _object(
        document,
        "",
        {
            "format_version": _version,
            "command": _or_null(_text),
            "created": _or_null(_text),
            "machine": _machine,
            "results": _list_of(_row),
        },
        optional=frozenset({"command", "created"}),
    )
    del members["format_version"]
    return Results(**members)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def loads(text: str, source: str) -> Results:
    """Read a results file from its text.

    Raises BadInput that names ``source`` and the key where the text departs from the format.
    """
    try:
        document = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{source}: not a results file: {error}") from None
    try:
        return _results(document)
    except _Wrong as wrong:
        raise BadInput(f"{source}: {wrong}") from None


def load(path: Path) -> Results:
    """Read a results file; BadInput where it cannot be read or departs from the format."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{path}: cannot read it: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not a results file: not UTF-8 text") from None
    return loads(text, str(path))


def _row_document(row: ResultRow) -> dict[str, Any]:
    document = dataclasses.asdict(row)
    if row.latency_ms is not None and row.latency_ms.p99 is None:
        del document["latency_ms"]["p99"]
    if row.instructions is None:
        del document["instructions"]
    return document


def _machine_document(machine: Machine) -> dict[str, Any]:
    document = dataclasses.asdict(machine)
    if machine.device is None:
        del document["device"]
    return document


def dumps(results: Results) -> str:
    """The text of a results file, one row to a line so that two files can be compared."""
    head = {
        "format_version": FORMAT_VERSION,
        "command": results.command,
        "created": results.created,
        "machine": _machine_document(results.machine),
    }
    lines = [
        f"  {json.dumps(key)}: {json.dumps(value, allow_nan=False)},"
        for key, value in head.items()
        if value is not None
    ]
    rows = [json.dumps(_row_document(row), allow_nan=False) for row in results.results]
    body = "[\n    " + ",\n    ".join(rows) + "\n  ]" if rows else "[]"
    return "\n".join(["{", *lines, f'  "results": {body}', "}"]) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as ``files.replace`` does; RunFailed where it cannot be written."""
    try:
        replace(path, text)
    except OSError as error:
        raise RunFailed(f"cannot write {path}: {error.strerror}") from None


def dump(results: Results, path: Path) -> None:
    """Write a results file atomically; RunFailed where it cannot be written."""
    write_text(path, dumps(results))
