"""The results file: its dataclasses, a strict loader and an atomic writer.

This is the one place that knows the format. ``bench`` writes rows, ``report`` reads them, and a
file that departs from the format is refused with the file and the key that is wrong.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tvm_mobilenet import files, strict
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.accuracy import Accuracy
from tvm_mobilenet.provenance import How, Machine, head
from tvm_mobilenet.strict import Amount, Count, Unexpected

FORMAT_VERSION = 1

Precision = Literal["fp32", "tf32", "bf16", "fp16", "int8"]
Status = Literal["ok", "not run"]
# What a process on another CPU did while the engines were timed: move memory, or multiply and add.
Neighbour = Literal["memory", "fma"]


@dataclass(frozen=True)
class Latency:
    """Summary of one row's samples, in ms; ``p99`` only where the number of runs supports it."""

    min: Amount
    p50: Amount
    p90: Amount
    mean: Amount
    std: Amount
    n: Count
    p99: Amount | None = None


@dataclass(frozen=True)
class State:
    """The samples taken in one state of the core: their share of the row's, their median in ms."""

    share: Amount
    p50: Amount


@dataclass(frozen=True)
class CoreUse:
    """Whether something else ran on the other hardware thread of the engine's core, at times.

    ``states`` is 1 where the probe's readings told no two apart; the rest is of 2. ``of_samples``
    has a letter for every sample: ``a`` for alone, ``s`` for shared, ``m`` where the readings
    before and after it differ. A state that no sample was taken in is None.
    """

    states: Count
    alone: State | None = None
    shared: State | None = None
    of_samples: str = ""


@dataclass(frozen=True)
class ResultRow:
    """One engine on one network with one thread count.

    Times are in ms; ``*_mb`` in 10^6 bytes. ``alpha`` is None for a network from an ONNX file.
    ``samples_ms`` keeps the order of measuring, so that two rows can be paired in time.
    ``instructions`` of one inference, all threads together, were counted on an emulated core
    instead of timing it: such a row has neither latency nor samples.
    ``neighbour`` says what kept another CPU busy, where ``bench`` had something do so, ``core``
    whether others used the engine's own: None where that was not probed.
    ``accuracy`` is the network's, where it was measured here; no published figure is in a row.
    A row that was ``not run`` has a ``reason``, no latency and no samples.
    """

    model: str
    alpha: Amount | None
    resolution: Count
    batch: Count
    precision: Precision
    engine: str
    engine_version: str | None
    target: str
    threads: Count
    how: How
    tuned: bool
    latency_ms: Latency | None
    samples_ms: tuple[Amount, ...]
    load_ms: Amount | None
    first_run_ms: Amount | None
    peak_rss_mb: Amount | None
    artifact_mb: Amount | None
    max_abs_diff: Amount | None
    reference: str
    status: Status
    reason: str | None
    instructions: Count | None = None
    accuracy: Accuracy | None = None
    neighbour: Neighbour | None = None
    core: CoreUse | None = None

    @property
    def circumstances(self) -> str:
        """How it was measured, and beside what: rows that differ in it are not compared."""
        return self.how if self.neighbour is None else f"{self.how}, beside {self.neighbour} noise"


@dataclass(frozen=True)
class Results:
    """A whole results file. ``command`` and ``created`` (ISO 8601) may be absent in it."""

    machine: Machine
    results: tuple[ResultRow, ...]
    command: str | None = None
    created: str | None = None
    format_version: int = FORMAT_VERSION


def _check_row(row: ResultRow) -> None:
    """What the types alone do not say."""
    if row.accuracy is not None and (fault := row.accuracy.fault()) is not None:
        raise Unexpected(fault, ".accuracy")
    if row.status == "not run":
        if row.latency_ms is not None or row.samples_ms:
            raise Unexpected("a row that was not run cannot have a latency", ".latency_ms")
        if row.instructions is not None:
            raise Unexpected("a row that was not run cannot have a count", ".instructions")
        if not row.reason:
            raise Unexpected("a row that was not run needs a reason", ".reason")
        return
    if row.max_abs_diff is None:
        raise Unexpected("missing, and no figure counts without verified output", ".max_abs_diff")
    if row.instructions is not None:
        _check_count(row)
    else:
        _check_latency(row)


def _check_count(row: ResultRow) -> None:
    if row.latency_ms is not None or row.samples_ms:
        raise Unexpected("a row of counted instructions cannot have a latency", ".instructions")
    if row.how != "emulated":
        raise Unexpected(f"instructions are counted on an emulated core, got {row.how!r}", ".how")


def _check_latency(row: ResultRow) -> None:
    if row.latency_ms is None:
        raise Unexpected("missing in a row with status ok", ".latency_ms")
    if row.latency_ms.n != len(row.samples_ms):
        raise Unexpected(
            f"{row.latency_ms.n}, but samples_ms holds {len(row.samples_ms)}", ".latency_ms.n"
        )
    if row.core is not None:
        _check_core(row.core, len(row.samples_ms))
    if min(row.samples_ms) <= 0 or row.latency_ms.min <= 0:
        raise Unexpected("expected latencies above 0", ".samples_ms")


def _check_core(core: CoreUse, samples: int) -> None:
    if core.states > 2:
        raise Unexpected(f"a core has one state or two, got {core.states}", ".core.states")
    expected = samples if core.states == 2 else 0
    if len(core.of_samples) != expected or set(core.of_samples) - set("asm"):
        raise Unexpected(
            f"expected {expected} letters of a, s and m, got {strict.shown(core.of_samples)}",
            ".core.of_samples",
        )


def read(document: Any) -> Results:
    """The content of a results file, parsed. Raises strict.Unexpected where it is none."""
    strict.check_version(document, FORMAT_VERSION)
    results = strict.read(Results, document)
    for place, row in enumerate(results.results):
        try:
            _check_row(row)
        except Unexpected as error:
            raise error.within(f"[{place}]").within(".results") from None
    return results


def loads(text: str, source: str) -> Results:
    """Read a results file from its text.

    Raises BadInput that names ``source`` and the key where the text departs from the format.
    """
    try:
        return read(strict.parse_json(text))
    except Unexpected as error:
        raise BadInput(f"{source}: {error}") from None


def load(path: Path) -> Results:
    """Read a results file; BadInput where it cannot be read or departs from the format."""
    return loads(files.read_text(path, str(path)), str(path))


def _row_document(row: ResultRow) -> dict[str, Any]:
    document = dataclasses.asdict(row)
    if row.latency_ms is not None and row.latency_ms.p99 is None:
        del document["latency_ms"]["p99"]
    for name in ("instructions", "accuracy", "neighbour", "core"):
        if document[name] is None:
            del document[name]
    if row.core is not None:
        document["core"] = {key: value for key, value in document["core"].items() if value}
    return document


def dumps(results: Results) -> str:
    """The text of a results file, one row to a line so that two files can be compared."""
    first = head(results.machine, results.command, results.created, results.format_version)
    lines = [
        f"  {json.dumps(key)}: {json.dumps(value, allow_nan=False)},"
        for key, value in first.items()
    ]
    rows = [json.dumps(_row_document(row), allow_nan=False) for row in results.results]
    body = "[\n    " + ",\n    ".join(rows) + "\n  ]" if rows else "[]"
    return "\n".join(["{", *lines, f'  "results": {body}', "}"]) + "\n"


def dump(results: Results, path: Path) -> None:
    """Write a results file atomically; RunFailed where it cannot be written."""
    files.write_text(path, dumps(results))
