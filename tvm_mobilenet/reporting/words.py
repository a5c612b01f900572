"""The words and figures that a terminal, a Markdown and an HTML table share."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Sequence

from tvm_mobilenet.hardware.core_facts import CoreFacts
from tvm_mobilenet.kernels.arithmetic import Arithmetic
from tvm_mobilenet.provenance import Machine, MeasuredDevice
from tvm_mobilenet.results.choice import MOST_LOSS, ChoiceTable
from tvm_mobilenet.results.core_use import CoreUseTable
from tvm_mobilenet.results.counts import Counted, CountTable
from tvm_mobilenet.results.profiles import Profiles
from tvm_mobilenet.results.schema import ResultRow, Results, State
from tvm_mobilenet.results.slowdowns import SlowdownTable
from tvm_mobilenet.results.statistics import P90_RUNS, Ratio
from tvm_mobilenet.results.tables import Comparison, Line, Summary, is_ours

# what bounds a layer, and the unit of its peak, by what it is made of
ARITHMETIC: dict[Arithmetic, str] = {
    "fma": "arithmetic",
    "bytes": "int8 arithmetic",
    "bf16": "bf16 arithmetic",
    "fp16": "fp16 arithmetic",
    "bytes_tiles": "int8 tiles",
    "bf16_tiles": "bf16 tiles",
}
_PEAKS: dict[Arithmetic, str] = {
    "fma": "GFLOP/s",
    "bytes": "GOP/s in int8",
    "bf16": "GFLOP/s in bf16",
    "fp16": "GFLOP/s in fp16",
    "bytes_tiles": "GOP/s by int8 tiles",
    "bf16_tiles": "GFLOP/s by bf16 tiles",
}
QUIET = "Nothing was found that disturbed the measurement."
NONE = "–"  # noqa: RUF001  (a dash stands in a cell that has no figure)


def milliseconds(value: float | None) -> str:
    """A time with three or four significant digits, as a reader of latencies wants them."""
    if value is None:
        return NONE
    digits = 3 if value < 1 else 2 if value < 100 else 0
    return f"{value:.{digits}f}"


def peak(arithmetic: Arithmetic, per_s: float) -> str:
    """A core's peak in its unit, as in ``118 GFLOP/s`` or ``620 GOP/s in int8``."""
    return f"{per_s / 1e9:.0f} {_PEAKS[arithmetic]}"


def speed_heading(kinds: Collection[Arithmetic]) -> str:
    """Of a column with the speeds of layers of these kinds."""
    return "GOP/s" if "bytes" in kinds or "bytes_tiles" in kinds else "GFLOP/s"


def megabytes(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"


def difference(value: float | None) -> str:
    return NONE if value is None else f"{value:.1e}"


def ratio(value: Ratio | None) -> str:
    """The ratio with its interval, as in ``1.22 [1.20, 1.24]``."""
    if value is None:
        return NONE
    if math.isinf(value.high):
        return f"{value.value:.2f} (too few runs)"
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


def name_of_row(row: ResultRow) -> str:
    """The engine for a chart: ours by that word, several of ours by their names."""
    if not is_ours(row):
        return row.engine
    of_several = row.engine.partition(":")[2]
    return f"ours: {of_several}" if of_several else "ours"


def short_networks(names: Sequence[str]) -> list[str]:
    """Names for the axis of a chart: without what all of them share."""
    if all(name.startswith("mobilenet_v1 ") for name in names):
        return [name.removeprefix("mobilenet_v1 ") for name in names]
    plain = [name.removesuffix(" 224").removesuffix(" 1.0-224") for name in names]
    short = plain if len(set(plain)) == len(names) else list(names)
    return [name.removeprefix("mobilenet_").replace("_full_conv", "_full conv") for name in short]


def reference_name(table: Comparison) -> str:
    """What the ratios of a comparison refer to."""
    if table.baseline is None or is_ours(table.baseline):
        return "ours"
    return table.baseline.engine


def latency_header(table: Comparison) -> list[str]:
    name = reference_name(table)
    return ["engine", "p50 ms", "p90 ms", "min ms", "runs", f"÷ {name} [95 %]", f"{name} is"]


def latency_cells(table: Comparison, line: Line) -> list[str]:
    """The cells under ``latency_header``."""
    latency = line.row.latency_ms
    if latency is None:
        return [line.label, NONE, NONE, NONE, NONE, NONE, line.row.status]
    verdict = NONE if line.ratio is None else line.ratio.verdict
    shown = "1" if line.row is table.baseline else ratio(line.ratio)
    p90 = latency.p90 if latency.n >= P90_RUNS else None
    times = [milliseconds(time) for time in (latency.p50, p90, latency.min)]
    return [line.label, *times, str(latency.n), shown, verdict]


def remarks(table: Comparison) -> list[str]:
    """How accurate networks are where that was measured, and why rows were not run."""
    measured = [
        f"{line.label}: accuracy {line.row.accuracy}, measured here"
        for line in table.lines
        if line.row.accuracy is not None
    ]
    missing = [
        f"{line.label} was not run: {line.row.reason}"
        for line in table.lines
        if line.row.status == "not run"
    ]
    return measured + missing


COST_HEADER = [
    "engine",
    "load ms",
    "first run ms",
    "peak RSS MB",
    "artifact MB",
    "max abs diff",
    "version",
]


def cost_cells(line: Line) -> list[str]:
    """The cells under ``COST_HEADER``: what else an engine costs, and how far its output is."""
    row = line.row
    return [
        line.label,
        milliseconds(row.load_ms),
        milliseconds(row.first_run_ms),
        megabytes(row.peak_rss_mb),
        megabytes(row.artifact_mb),
        difference(row.max_abs_diff),
        row.engine_version or NONE,
    ]


SUMMARY_HEADER = [
    "network",
    "ours ms",
    "fastest peer",
    "its ms",
    "fastest peer ÷ ours [95 %]",
    "ours is",
]


def summary_cells(summary: Summary) -> list[list[str]]:
    """The rows under ``SUMMARY_HEADER``."""
    return [
        [
            variant.name,
            milliseconds(variant.ours.p50),
            variant.peer,
            milliseconds(variant.peer_latency.p50),
            ratio(variant.ratio),
            variant.ratio.verdict,
        ]
        for variant in summary.variants
    ]


def count_header(table: CountTable) -> list[str]:
    return ["network", *table.engines, "fewest peer ÷ ours"]


def count_cells(table: CountTable) -> list[list[str]]:
    """The rows under ``count_header``."""
    return [
        [
            network.name,
            *(millions(_row_of(network, engine)) for engine in table.engines),
            NONE if network.ratio is None else f"{network.ratio:.2f}",
        ]
        for network in table.networks
    ]


def _row_of(network: Counted, engine: str) -> ResultRow | None:
    return next((row for row in network.rows if row.engine == engine), None)


def millions(row: ResultRow | None) -> str:
    """The row's instructions, in millions."""
    if row is None or row.instructions is None:
        return NONE
    return f"{row.instructions / 1e6:.1f}"


def count_sentences(table: CountTable) -> list[str]:
    """What the figures are, their mean where there are several, and why some are missing."""
    versions = {
        row.engine_version or "?" for n in table.networks for row in n.rows if row.instructions
    }
    sentences = [
        "Instructions executed on an emulated core, not time. Ours repeat exactly, a peer's not. "
        f"Versions: {', '.join(sorted(versions))}."
    ]
    compared = table.compared
    if len(compared) > 1:
        name, least = min(compared, key=lambda pair: pair[1])
        sentences.append(
            f"{len(compared)} networks, {threads_phrase(table.threads)}: geometric mean of fewest "
            f"peer ÷ ours {table.geometric_mean:.2f}, least {least:.2f} ({name})."
        )
    missing = {
        f"{row.engine} was not run: {row.reason}": None
        for network in table.networks
        for row in network.rows
        if row.status == "not run"
    }
    return [*sentences, *missing]


def threads_phrase(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def summary_title(summary: Summary) -> str:
    """What the networks of a summary share, as in ``fp32, 2 threads``."""
    batch = "" if summary.batch == 1 else f", batch {summary.batch}"
    how = "" if summary.how == "native" else f", {summary.how}"
    return f"{summary.precision}, {threads_phrase(summary.threads)}{batch}{how}"


def summary_sentence(summary: Summary) -> str:
    """The whole summary in one sentence."""
    verdicts = summary.verdicts
    return (
        f"{len(summary.variants)} networks, {summary_title(summary)}: "
        f"geometric mean of fastest peer ÷ ours {summary.geometric_mean:.3f}, "
        f"worst {summary.worst.ratio.value:.3f} ({summary.worst.name}); "
        f"faster on {verdicts['faster']}, slower on {verdicts['slower']}, "
        f"no difference on {verdicts['no difference']}."
    )


CHOICE_HEADER = ["engine", "precision", "p50 ms", "÷ ours", "accuracy"]


def choice_title(table: ChoiceTable) -> str:
    """What a table of ``results.choice`` is of, precisions beside each other."""
    return (
        f"best of each engine at any precision within {MOST_LOSS:g} % of fp32's accuracy "
        f"({table.exact_percent:.2f} %), {table.network}, {threads_phrase(table.threads)}"
    )


def choice_cells(table: ChoiceTable) -> list[list[str]]:
    """The rows under ``CHOICE_HEADER``."""
    return [
        [
            name_of_row(one.row),
            one.row.precision,
            milliseconds(one.median_ms),
            f"{one.ratio:.2f}",
            NONE if one.row.accuracy is None else str(one.row.accuracy),
        ]
        for one in table.choices
    ]


def slowdown_title(table: SlowdownTable) -> str:
    """What a table of ``results.slowdowns`` is of."""
    where = f"{table.network}, {table.precision}, {threads_phrase(table.threads)}"
    return f"beside noise, {where}"


def slowdown_header(table: SlowdownTable) -> list[str]:
    return ["engine", "quiet, ms", *(text for k in table.kinds for text in (f"{k}, ms", "÷ quiet"))]


def slowdown_cells(table: SlowdownTable) -> list[list[str]]:
    """The rows under ``slowdown_header``."""
    return [
        [
            name_of_row(one.quiet),
            milliseconds(one.quiet_ms),
            *(
                cell
                for noisy, ratio in zip(one.noisy_ms, one.ratios, strict=True)
                for cell in (
                    (NONE, NONE)
                    if noisy is None or ratio is None
                    else (milliseconds(noisy), f"{ratio:.2f}")
                )
            ),
        ]
        for one in table.engines
    ]


CORE_USE_CAPTION = "Core alone and shared with a neighbour"
CORE_USE_HEADER = ["engine", "alone, ms", "of its runs", "shared, ms", "of its runs", "÷ alone"]


def core_use_title(table: CoreUseTable) -> str:
    """What a table of ``results.core_use`` is of."""
    return f"{CORE_USE_CAPTION[0].lower()}{CORE_USE_CAPTION[1:]}, {table.title}"


def core_use_sentence(tables: Sequence[CoreUseTable]) -> str:
    """Of all comparisons of a run; empty where the core had one state."""
    rows = [one for table in tables for one in table.engines]
    if not rows:
        return ""
    shares = [0.0 if one.use.shared is None else one.use.shared.share for one in rows]
    slowdowns = [one.slowdown for one in rows if one.slowdown is not None]
    cost = ""
    if slowdowns:
        cost = f", where an inference took {statistics.median(slowdowns):.2f} times as long"
    return (
        f"A neighbour used the core's other hardware thread: in {len(rows)} rows, for "
        f"{statistics.median(shares):.0%} of the inferences by the median{cost}. Ratios are of "
        "what was timed in the same state."
    )


def core_use_cells(table: CoreUseTable) -> list[list[str]]:
    """The rows under ``CORE_USE_HEADER``."""
    return [
        [
            name_of_row(one.row),
            *_state_cells(one.use.alone),
            *_state_cells(one.use.shared),
            NONE if one.slowdown is None else f"{one.slowdown:.2f}",
        ]
        for one in table.engines
    ]


def _state_cells(state: State | None) -> tuple[str, str]:
    if state is None:
        return NONE, "0 %"
    return milliseconds(state.p50), f"{state.share * 100:.0f} %"


def machine_line(machine: Machine) -> str:
    load = " ".join(f"{value:.2f}" for value in machine.load_average)
    governor = f"governor {machine.governor}" if machine.governor else "governor unknown"
    name = machine.cpu
    if machine.microarchitecture is not None and machine.microarchitecture not in name:
        name = f"{machine.microarchitecture}: {name}"
    facts = "" if machine.facts is None else "".join(f", {one}" for one in _facts(machine.facts))
    return (
        f"{name}, {machine.cores} cores{facts}, {governor}, load average {load}; "
        f"{machine.os}; Python {machine.python}"
    )


def _facts(facts: CoreFacts) -> list[str]:
    """What was found out about the cores, in a few words each."""
    said = []
    if facts.threads_per_core is not None and facts.threads_per_core > 1:
        said.append(f"{facts.threads_per_core} hyper-threads a core")
    if facts.last_level_caches is not None and facts.last_level_caches > 1:
        said.append(f"{facts.last_level_caches} last level caches")
    if facts.handover_ns is not None:
        said.append(f"{facts.handover_ns:.0f} ns from the first CPU to the second and back")
    if facts.clock_mhz is not None:
        wide = facts.vector_clock_mhz
        beside = "" if wide is None else f" ({wide} MHz under FMAs)"
        said.append(f"{facts.clock_mhz} MHz{beside}")
    return said


def device_line(device: MeasuredDevice) -> str:
    """What is known of the device, in one line."""
    facts = [device.cpu]
    if device.cores is not None:
        facts.append(f"{device.cores} cores")
    if not device.emulated:
        facts.append(f"governor {device.governor or 'unknown'}")
    if device.temperature_c:
        facts.append(" to ".join(f"{value:.0f} °C" for value in device.temperature_c))
    facts += [device.os] if device.os else []
    facts += [f"{name} {version}" for name, version in sorted(device.versions.items())]
    return ", ".join(facts)


def versions_line(machine: Machine) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(machine.versions.items()))


def provenance(results: Results, source: str) -> list[tuple[str, str]]:
    """What a table has to state about itself: machine, versions, command, date, file."""
    device = results.machine.device
    return [
        *([] if device is None else [("Device", device_line(device))]),
        ("Machine", machine_line(results.machine)),
        ("Versions", versions_line(results.machine)),
        ("Command", results.command or "not recorded"),
        ("Date", results.created or "not recorded"),
        ("Results", source),
    ]


def profile_provenance(profiles: Profiles, source: str) -> list[tuple[str, str]]:
    """The same of a file of profiles."""
    return [
        ("Machine", machine_line(profiles.machine)),
        ("Versions", versions_line(profiles.machine)),
        ("Command", profiles.command or "not recorded"),
        ("Date", profiles.created or "not recorded"),
        ("Profile", source),
    ]


def noise_sentence(notes: Sequence[str], rows: int) -> str:
    """Many notes in one sentence: how many of the ``rows`` with a latency they are about."""
    drifted = sum(" drifted by " in note for note in notes)
    unsteady = sum(" was unsteady" in note for note in notes)
    busy = "The machine was busy at the start. " if notes[0].startswith("The machine") else ""
    return (
        f"{busy}Of {rows} rows {unsteady} were unsteady (the middle half of the runs spans more "
        f"than 10 % of the median) and {drifted} drifted by more than 5 % from their first to "
        "their last quarter. Engines took turns, so what disturbed one disturbed the others; "
        "intervals are wider for it."
    )
