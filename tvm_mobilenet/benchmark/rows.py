"""Who takes part in a measurement, what is found out about each, and its row of the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet.benchmark.engines import OURS, EngineEntry, verify
from tvm_mobilenet.benchmark.engines.networks import Network
from tvm_mobilenet.benchmark.engines.verify import Right
from tvm_mobilenet.models.accuracy import Accuracy
from tvm_mobilenet.provenance import How
from tvm_mobilenet.results.schema import CoreUse, ResultRow
from tvm_mobilenet.results.statistics import summarize

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.engines.protocol import Array

_SAMPLE_DIGITS = 5  # 10 ns; the clock is no finer


@dataclass(frozen=True)
class Candidate:
    """One engine that takes part. ``name`` is what its row is called.

    ``accuracy`` is what its bundle says was measured. ``absent`` says why it cannot take part,
    where that is known beforehand. ``right`` is what is right for it where that is not what is
    right for all, as of networks that were quantized one by one.
    """

    name: str
    entry: EngineEntry
    target: str
    bundle: Path | None = None
    tuned: bool = False
    artifact_mb: float | None = None
    accuracy: Accuracy | None = None
    absent: str | None = None
    right: Right | None = None

    @property
    def ours(self) -> bool:
        return self.name.split(":")[0] == OURS

    def check(self, outputs: Sequence[Array], network: Network) -> float:
        """How far its outputs for ``network`` are from what is right for it, absolutely.

        Raises verify.WrongResult where that is more than is right as well.
        """
        if self.right is not None:
            expected, tolerance = self.right.outputs, self.right.tolerance
            return verify.check(outputs, expected, network.precision, tolerance)
        return verify.check(outputs, network.expected, network.precision, network.tolerance)


@dataclass
class Measured:
    """What was found out about one candidate; ``reason`` says why that is not all."""

    candidate: Candidate
    version: str | None = None
    samples_ms: Sequence[float] = ()
    instructions: int | None = None
    load_ms: float | None = None
    first_run_ms: float | None = None
    peak_rss_mb: float | None = None
    max_abs_diff: float | None = None
    accuracy: Accuracy | None = None
    core: CoreUse | None = None
    reason: str | None = None


def result_row(measured: Measured, network: Network, threads: int, how: How) -> ResultRow:
    """The row: ``not run`` where there is a reason, whatever was measured before it came up."""
    ok = measured.reason is None
    samples = [round(sample, _SAMPLE_DIGITS) for sample in measured.samples_ms] if ok else []
    candidate = measured.candidate
    return ResultRow(
        model=network.model,
        alpha=network.alpha,
        resolution=network.resolution,
        batch=network.batch,
        precision=network.precision,
        engine=candidate.name,
        engine_version=measured.version,
        target=candidate.target,
        threads=threads,
        how=how,
        tuned=candidate.tuned,
        latency_ms=summarize(samples) if samples else None,
        samples_ms=tuple(samples),
        load_ms=_rounded(measured.load_ms),
        first_run_ms=_rounded(measured.first_run_ms),
        peak_rss_mb=_rounded(measured.peak_rss_mb),
        artifact_mb=_rounded(candidate.artifact_mb),
        max_abs_diff=measured.max_abs_diff,
        reference=network.reference,
        status="ok" if ok else "not run",
        reason=measured.reason,
        instructions=measured.instructions if ok else None,
        accuracy=measured.accuracy or candidate.accuracy,
        core=measured.core if ok else None,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
