"""Rows → comparisons: who ran beside whom, ratios to ours, and the summary over the networks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tvm_mobilenet.provenance import Machine
from tvm_mobilenet.results.schema import Latency, ResultRow, Results
from tvm_mobilenet.results.statistics import (
    Ratio,
    block_medians,
    compare,
    compare_within_states,
    mean_ratio,
    relative_iqr,
)

OURS = "bundle"
WIDE_IQR = 0.10  # the middle half of a quiet engine's runs lies within a few percent
DRIFT = 0.05
UNRESOLVED = 0.03  # a difference that a steady machine shows


@dataclass(frozen=True)
class Line:
    """One row beside ours.

    ``ratio`` is None for ours, where one side has no latency, and where the two were never timed in
    the same state of the core.
    """

    row: ResultRow
    ratio: Ratio | None

    @property
    def label(self) -> str:
        """The engine, and for a bundle whether its schedules were tuned."""
        if not is_ours(self.row):
            return self.row.engine
        return f"{self.row.engine}, {'tuned' if self.row.tuned else 'default schedules'}"


@dataclass(frozen=True)
class Comparison:
    """Rows measured in turns: one network, one thread count, one results file.

    ``baseline`` is the row that the ratios refer to: our first bundle with a latency; where no
    bundle took part, the first engine with a latency; else None.
    """

    title: str
    lines: tuple[Line, ...]
    baseline: ResultRow | None

    @property
    def threads(self) -> int:
        return self.lines[0].row.threads

    def fastest_ours(self) -> ResultRow | None:
        """The fastest bundle; None where none has a latency."""
        ours = [
            (latency.p50, place, line.row)
            for place, line in enumerate(self.lines)
            if is_ours(line.row) and (latency := line.row.latency_ms) is not None
        ]
        return min(ours)[2] if ours else None

    def fastest_peer(self) -> Line | None:
        """The fastest line that is not ours, if ours has a latency to compare it with."""
        if self.baseline is None or not is_ours(self.baseline):
            return None
        peers = [
            (latency.p50, i, line)
            for i, line in enumerate(self.lines)
            if not is_ours(line.row) and (latency := line.row.latency_ms) is not None
        ]
        return min(peers)[2] if peers else None


@dataclass(frozen=True)
class Variant:
    """One network of a summary: ours beside the fastest peer."""

    name: str
    ours: Latency
    peer: str
    peer_latency: Latency
    ratio: Ratio


@dataclass(frozen=True)
class Summary:
    """The networks measured in one precision with one thread count, each beside its fastest peer.

    Batch and how the times were obtained are the same for all of them too.
    """

    threads: int
    precision: str
    variants: tuple[Variant, ...] = field(default=())
    batch: int = 1
    how: str = "native"

    @property
    def ratio(self) -> Ratio:
        """Geometric mean over the networks of (fastest peer ÷ ours), with its interval."""
        return mean_ratio([variant.ratio for variant in self.variants])

    @property
    def geometric_mean(self) -> float:
        """Geometric mean over the networks of (fastest peer ÷ ours)."""
        return self.ratio.value

    @property
    def worst(self) -> Variant:
        return min(self.variants, key=lambda variant: variant.ratio.value)

    @property
    def best(self) -> Variant:
        return max(self.variants, key=lambda variant: variant.ratio.value)

    @property
    def verdicts(self) -> dict[str, int]:
        """How often ours is faster, slower, and not different."""
        words = [variant.ratio.verdict for variant in self.variants]
        return {word: words.count(word) for word in ("faster", "slower", "no difference")}


def is_ours(row: ResultRow) -> bool:
    """Whether a row is a bundle of this project (``bundle``, or ``bundle:NAME`` of several)."""
    return row.engine.split(":")[0] == OURS


def variant_name(row: ResultRow) -> str:
    """The network as in ``mobilenet_v1 1.0-224``."""
    return f"{row.model} {row.resolution if row.alpha is None else short_name(row)}"


def short_name(row: ResultRow) -> str:
    """Alpha and resolution as in ``1.0-224``."""
    return f"{row.alpha}-{row.resolution}"


def _title(row: ResultRow) -> str:
    batch = "" if row.batch == 1 else f", batch {row.batch}"
    threads = "1 thread" if row.threads == 1 else f"{row.threads} threads"
    return f"{variant_name(row)}{batch}, {row.precision}, {threads}, {row.circumstances}"


def comparisons(results: Results) -> list[Comparison]:
    """The comparisons of one file, in the order of their first rows; counted rows are no part."""
    return [compare_rows(rows) for rows in same_network(results.results) if not is_counted(rows)]


def same_network(rows: Iterable[ResultRow]) -> list[list[ResultRow]]:
    """Rows measured beside each other, together."""
    groups: dict[tuple[object, ...], list[ResultRow]] = {}
    for row in rows:
        key = (
            row.model,
            row.alpha,
            row.resolution,
            row.batch,
            row.precision,
            row.threads,
            row.circumstances,
        )
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def is_counted(rows: Iterable[ResultRow]) -> bool:
    """Whether these rows, measured beside each other, hold instructions instead of latencies."""
    return any(row.instructions is not None for row in rows)


def compare_rows(rows: Sequence[ResultRow]) -> Comparison:
    """At least one row, all measured in turns, beside their baseline."""
    baseline = _baseline(rows)
    lines = tuple(Line(row, _ratio(row, baseline)) for row in rows)
    return Comparison(_title(rows[0]), lines, baseline)


def _baseline(rows: Sequence[ResultRow]) -> ResultRow | None:
    candidates = [row for row in rows if is_ours(row)] or rows
    return next((row for row in candidates if row.status == "ok"), None)


def _ratio(row: ResultRow, baseline: ResultRow | None) -> Ratio | None:
    if baseline is None or row is baseline or row.status != "ok":
        return None
    one, other = row.core, baseline.core
    if one is None or other is None or one.states == 1 or other.states == 1:
        return compare(row.samples_ms, baseline.samples_ms)
    return compare_within_states(
        row.samples_ms, one.of_samples, baseline.samples_ms, other.of_samples
    )


def summaries(tables: Iterable[Comparison]) -> list[Summary]:
    """A summary wherever at least two networks have ours and a peer, measured in one way.

    What differs in precision, threads, batch or how it was measured is never in one mean.
    """
    found: dict[tuple[int, str, int, str], list[Variant]] = {}
    for table in tables:
        variant = _variant(table)
        if variant is not None:
            row = table.lines[0].row
            key = (row.threads, row.precision, row.batch, row.circumstances)
            found.setdefault(key, []).append(variant)
    return [
        Summary(threads, precision, tuple(variants), batch, how)
        for (threads, precision, batch, how), variants in sorted(found.items())
        if len(variants) > 1
    ]


def _variant(table: Comparison) -> Variant | None:
    peer = table.fastest_peer()
    if peer is None or peer.ratio is None or table.baseline is None:
        return None
    ours, theirs = table.baseline.latency_ms, peer.row.latency_ms
    if ours is None or theirs is None:
        return None
    return Variant(variant_name(table.baseline), ours, peer.label, theirs, peer.ratio)


def noise(machine: Machine, tables: Iterable[Comparison]) -> list[str]:
    """What makes these figures less certain, one plain sentence each."""
    notes = []
    if machine.device is None and machine.busy:
        notes.append(
            f"The machine was busy at the start: load average {machine.load_average[0]:.2f} "
            f"on {machine.cores} cores."
        )
    for table in tables:
        for line in table.lines:
            notes += [f"{table.title}: {line.label} {note}" for note in _row_noise(line.row)]
            if line.ratio is None and line.row.status == "ok" and line.row is not table.baseline:
                notes.append(
                    f"{table.title}: {line.label} and ours were never timed in the same state of "
                    "the core, and are not compared."
                )
            if (unresolved := _unresolved(line.ratio)) > UNRESOLVED:
                notes.append(
                    f"{table.title}: {line.label} may differ from ours by less than "
                    f"{unresolved:.0%}: the run was too noisy to tell."
                )
    return notes


def _unresolved(ratio: Ratio | None) -> float:
    """How large a difference would have had to be, where none could be told; else 0."""
    if ratio is None or ratio.verdict != "no difference" or ratio.low <= 0:
        return 0.0
    return max(ratio.high, 1 / ratio.low) - 1


def _row_noise(row: ResultRow) -> list[str]:
    if row.status != "ok":
        return []
    notes = []
    width = relative_iqr(row.samples_ms)
    if width > WIDE_IQR:
        notes.append(f"was unsteady: the middle half of its runs spans {width:.0%} of the median.")
    if len(row.samples_ms) >= 4:
        first, *_, last = block_medians(row.samples_ms, 4)
        if abs(last / first - 1) > DRIFT:
            notes.append(f"drifted by {last / first - 1:+.1%} from its first to its last quarter.")
    return notes
