"""The tables and charts of README.md and docs/ that come from files in benchmarks/results/.

    python docs/results_tables.py            # writes them between their markers
    python docs/results_tables.py --check    # exits 1 where a page shows anything else

A block of a page begins with ``<!-- results: NAME -->`` and ends with ``<!-- results end -->``;
what NAME shows is in BLOCKS. Ratios are those of the reports: medians over paired rounds.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tvm_mobilenet import models
from tvm_mobilenet.models.variants import ALPHAS, RESOLUTIONS
from tvm_mobilenet.results import schema
from tvm_mobilenet.results.schema import ResultRow
from tvm_mobilenet.results.statistics import geometric_mean
from tvm_mobilenet.results.tables import Comparison, Summary, comparisons, is_ours, summaries

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results"
IMAGES = REPOSITORY / "docs" / "images"
PAGES = (
    "README.md",
    "docs/index.md",
    "docs/performance.md",
    "docs/arm.md",
    "docs/raspberry-pi.md",
)
BLOCK = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- results end -->)", re.DOTALL)
WIDTH = 125
ALPHA = "α"  # noqa: RUF001  (the width multiplier, as the paper writes it)
# an engine's name, and the letter that stands for it in a narrow table
ENGINES = {
    "onnxruntime": ("ONNX Runtime", "O"),
    "openvino": ("OpenVINO", "V"),
    "litert": ("LiteRT", "L"),
    "torch-compile": ("torch.compile", "T"),
    "pytorch": ("PyTorch", "P"),
}
COUNTS = {1: "One thread", 2: "Two threads"}
SHOWN_IN_README = ((1.0, 224), (1.0, 128), (0.75, 192), (0.5, 224), (0.5, 160), (0.25, 128))
# the front page's charts, a file each: one for every machine and precision
HEADLINES = {
    "x86-znver5-sweep": "MobileNetV1's 16 variants, fp32, AMD EPYC (Zen 5), 2 vCPUs",
    "x86-znver4-zoo": "14 networks people ship, fp32, AMD EPYC (Zen 4), 2 vCPUs",
    "x86-znver4-int8-sweep": "MobileNetV1's 16 variants, int8, AMD EPYC (Zen 4), 2 vCPUs",
    "x86-znver4-bf16-sweep": "MobileNetV1's 16 variants, bf16, AMD EPYC (Zen 4), 2 vCPUs",
}
INT8_CORES = {
    "Cortex-A72": "arm-rpi4-int8-1.0-224",
    "Cortex-A72, weights of 7 bits": "arm-rpi4-int8-reduced-1.0-224",
    "Neoverse N1, dot products": "arm-graviton2-int8-1.0-224",
    "Cortex-A76, dot products": "arm-rpi5-int8-1.0-224",
    "QEMU's `max`, int8 matrices": "arm-graviton3-int8-1.0-224",
}
CORE_NAMES = {
    "cortex-a72": "Cortex-A72",
    "neoverse-n1": "Neoverse N1",
    "max": "`max`, int8 matrices",
}
LARGEST = (1.0, 224)
Key = tuple[str, float | None, int]  # model, alpha, resolution
Tables = Mapping[Key, Comparison]


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the tables that come from results.")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    differing = []
    for page in PAGES:
        path = REPOSITORY / page
        before = path.read_text(encoding="utf-8")
        after = fill(before)
        if after != before:
            differing.append(page)
            if not check:
                path.write_text(after, encoding="utf-8")
    for name in HEADLINES:
        path = IMAGES / f"{name}.svg"
        if not path.is_file() or stamp(name) not in path.read_text(encoding="utf-8"):
            differing.append(str(path.relative_to(REPOSITORY)))
            if not check:
                path.write_text(headline_chart(name), encoding="utf-8")
    for one in differing:
        print(f"error: {one} shows other results" if check else f"wrote {one}")
    if check and differing:
        print("run python docs/results_tables.py", file=sys.stderr)
    return 1 if check and differing else 0


def fill(text: str) -> str:
    """A page with what its blocks have to show. Raises KeyError for an unknown block."""
    return BLOCK.sub(lambda found: found[1] + BLOCKS[found[2]]() + "\n" + found[3], text)


@functools.cache
def all_of(name: str) -> Sequence[Comparison]:
    """The comparisons of a results file."""
    return comparisons(schema.load(RESULTS / f"{name}.json"))


def load(name: str, threads: int) -> Tables:
    """Those on so many threads."""
    found = {}
    for table in all_of(name):
        row = table.lines[0].row
        if row.threads == threads:
            found[row.model, row.alpha, row.resolution] = table
    return found


def milliseconds(value: float) -> str:
    """Three significant digits, and two decimals from 1 ms on."""
    digits = 2 if value >= 1 else 3 if value >= 0.1 else 4
    return f"{value:.{digits}f}"


def p50(row: ResultRow | None) -> float:
    assert row is not None and row.latency_ms is not None
    return row.latency_ms.p50


def cell(table: Comparison) -> str:
    """Ours / the fastest peer, and the peer over ours."""
    peer = table.fastest_peer()
    assert peer is not None and peer.ratio is not None
    letter = ENGINES[peer.row.engine][1]
    ours, theirs = milliseconds(p50(table.baseline)), milliseconds(p50(peer.row))
    return f"{ours} / {theirs} {letter} ({peer.ratio.value:.2f}x)"


def grid(name: str, threads: int) -> str:
    """Widths down, resolutions across, below the means."""
    tables = load(name, threads)
    rows = [
        [f"{alpha:g}", *(cell(tables[models.DEFAULT_MODEL, alpha, size]) for size in RESOLUTIONS)]
        for alpha in ALPHAS
    ]
    table = table_of([ALPHA, *map(str, RESOLUTIONS)], rows)
    return f"{means(name, threads)}\n\n{table}"


def table_of(header: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> str:
    """A Markdown table; ``right`` has an r for every column of figures."""
    rule = ["--:" if right[i : i + 1] == "r" else "---" for i in range(len(header))]
    lines = [f"| {' | '.join(header)} |", f"|{'|'.join(rule)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def summary_of(name: str, threads: int) -> Summary:
    (found,) = (one for one in summaries(all_of(name)) if one.threads == threads)
    return found


def short(name: str) -> str:
    return name.removeprefix("mobilenet_v1 ")


def means(name: str, threads: int) -> str:
    """The geometric mean, the smallest ratio, and the mean by peer."""
    summary = summary_of(name, threads)
    by_peer: dict[str, list[float]] = {}
    for table in load(name, threads).values():
        for line in table.lines:
            if not is_ours(line.row) and line.ratio is not None:
                by_peer.setdefault(line.row.engine, []).append(line.ratio.value)
    ratios = sorted((geometric_mean(values), name) for name, values in by_peer.items())
    peers = ", ".join(f"{ENGINES[name][0]} {mean:.2f}x" for mean, name in ratios)
    faster, count = summary.verdicts["faster"], len(summary.variants)
    worst = summary.worst
    text = (
        f"{COUNTS[threads]}: geometric mean **{summary.geometric_mean:.2f}x**, smallest "
        f"{worst.ratio.value:.2f}x ({short(worst.name)}), faster on {faster} of {count}. By peer, "
        f"geometric means: {peers}."
    )
    return "\n".join(textwrap.wrap(text, WIDTH, break_on_hyphens=False))


def readme() -> str:
    name = "x86-znver5-sweep"
    one, two = load(name, 1), load(name, 2)
    worst = [summary_of(name, threads).worst.name for threads in (1, 2)]
    rows = []
    for alpha, size in SHOWN_IN_README:
        key = (models.DEFAULT_MODEL, alpha, size)
        label = f"{alpha}-{size}"
        is_worst = [short(name) for name in worst].count(label)
        cells = [label + (" (the worst)" if is_worst == len(worst) else "")]
        for table in (one[key], two[key]):
            peer = table.fastest_peer()
            assert peer is not None and peer.ratio is not None
            cells += [
                f"{milliseconds(p50(table.baseline))} ms",
                f"{milliseconds(p50(peer.row))} ms ({ENGINES[peer.row.engine][0]})",
                f"{peer.ratio.value:.2f}x",
            ]
        rows.append(cells)
    header = [
        f"network ({ALPHA}-resolution)",
        *("ours, 1 thread", "fastest peer", "speed-up"),
        *("ours, 2 threads", "fastest peer", "speed-up"),
    ]
    return table_of(header, rows, " rrrrrr")


def zoo(name: str) -> str:
    one, two = load(name, 1), load(name, 2)
    rows = [[f"`{key[0]}`", cell(one[key]), cell(two[key])] for key in one]
    table = table_of(["network", "1 thread", "2 threads"], rows)
    return f"{means(name, 1)}\n\n{means(name, 2)}\n\n{table}"


def demo() -> str:
    (one,), (two,) = (load("x86-znver5-demo", threads).values() for threads in (1, 2))
    ours = [place for place, line in enumerate(one.lines) if is_ours(line.row)]
    peers = [place for place in range(len(one.lines)) if place not in ours]
    peers.sort(key=lambda place: p50(one.lines[place].row))
    rows = []
    for place in [*ours, *peers]:
        cells = [_engine(one.lines[place].row)]
        for table in (one, two):
            line = table.lines[place]
            said = "1"
            if (ratio := line.ratio) is not None:
                said = f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
                said += "" if ratio.verdict == "faster" else f", {ratio.verdict}"
            cells += [milliseconds(p50(line.row)), said]
        rows.append(cells)
    return table_of(["engine", "1 thread", "÷ ours", "2 threads", "÷ ours"], rows, " r r ")


def _engine(row: ResultRow) -> str:
    if is_ours(row):
        return "**ours, tuned**" if row.tuned else "ours, default schedules"
    version = (row.engine_version or "").partition("-")[0].partition("+")[0]
    freezing = ", freezing" if row.engine == "torch-compile" else ""
    return f"{ENGINES[row.engine][0]} {version}{freezing}"


def instructions(name: str) -> str:
    rows = schema.load(RESULTS / f"{name}.json").results
    counts = {(row.engine, row.alpha, row.resolution): row.instructions for row in rows}

    def of(alpha: float, size: int) -> Iterator[str]:
        for engine in ("bundle", "onnxruntime"):
            count = counts[engine, alpha, size]
            assert count is not None
            yield f"{count / 1e6:.1f}"

    cells = [[f"{a:g}", *(" / ".join(of(a, size)) for size in RESOLUTIONS)] for a in ALPHAS]
    return table_of([ALPHA, *map(str, RESOLUTIONS)], cells)


def instructions_of_two(one: str, other: str) -> str:
    """Ours in one file, and in another."""
    counts = [
        {(row.alpha, row.resolution): row.instructions for row in rows if is_ours(row)}
        for rows in (schema.load(RESULTS / f"{name}.json").results for name in (one, other))
    ]

    def of(variant: tuple[float, int]) -> str:
        """Empty where a sweep has not come to it."""
        found = [each.get(variant) for each in counts]
        return "" if None in found else " / ".join(f"{each / 1e6:.1f}" for each in found if each)

    shown = [alpha for alpha in ALPHAS if any((alpha, size) in counts[0] for size in RESOLUTIONS)]
    cells = [[f"{alpha:g}", *(of((alpha, size)) for size in RESOLUTIONS)] for alpha in shown]
    return table_of([ALPHA, *map(str, RESOLUTIONS)], cells)


def instruction_kinds() -> str:
    """What benchmarks/instruction_kinds.py says of each core."""
    study = json.loads((RESULTS / "arm-int8-instruction-kinds.json").read_text(encoding="utf-8"))
    cores = study["cores"]
    kinds = list(dict.fromkeys(kind for core in cores for kind in core["kinds"]))

    def of(core: Mapping[str, Any], kind: str) -> str:
        return f"{sum(core['kinds'].get(kind, {}).values()) / 1e6:.1f}"

    rows = [[kind, *(of(core, kind) for core in cores)] for kind in kinds]
    rows.append(["all", *(f"{core['instructions'] / 1e6:.1f}" for core in cores)])
    return table_of(["", *(CORE_NAMES[core["core"]] for core in cores)], rows, " rrr")


def int8_cores() -> str:
    """1.0-224 on cores without dot products, with them, and with matrices of bytes."""
    cells = []
    for core, name in INT8_CORES.items():
        rows = schema.load(RESULTS / f"{name}.json").results
        # a file of one network alone does not say of which width it is
        shown = [row for row in rows if row.alpha is None or (row.alpha, row.resolution) == LARGEST]
        counts = {row.engine: row.instructions for row in shown}
        ours, theirs = counts["bundle"], counts["onnxruntime"]
        assert ours is not None and theirs is not None
        cells.append([core, f"{ours / 1e6:.1f}", f"{theirs / 1e6:.1f}", f"{theirs / ours:.2f}x"])
    return table_of(["core", "ours", "ONNX Runtime", "ratio"], cells)


def arm_precisions() -> str:
    """1.0-224 in each precision, on one core that has them all."""
    cells = []
    for precision in ("fp32", "fp16", "bf16", "int8"):
        rows = schema.load(RESULTS / f"arm-graviton3-{precision}-1.0-224.json").results
        (ours,) = filter(is_ours, rows)
        assert ours.instructions is not None
        cells.append([precision, f"{ours.instructions / 1e6:.1f}"])
    return table_of(["precision", "million instructions"], cells)


def roofline() -> str:
    """What benchmarks/roofline.py says of each board and precision."""
    study = json.loads((RESULTS / "raspberry-pi-roofline.json").read_text(encoding="utf-8"))
    cells = []
    for board in study["boards"]:
        layers = board["layers"]
        waiting = [one for one in layers if one["memory_us"] > one["arithmetic_us"]]
        cells.append(
            [
                f"`{board['target']}`, {board['precision']}",
                floor_ms(layers, "arithmetic_us"),
                floor_ms(layers, "memory_us"),
                floor_ms(layers, "arithmetic_us", "memory_us"),
                floor_ms(board["unfused"], "arithmetic_us", "memory_us"),
                ", ".join(f"`{one['name']}`" for one in waiting),
            ]
        )
    header = ["board", "multiplications", "memory", "the larger by layer", "without fused blocks"]
    return table_of([*header, "layers that wait for memory"], cells)


def floor_ms(layers: Sequence[Mapping[str, Any]], *kinds: str) -> str:
    """Of all layers, of each the largest of these kinds."""
    return f"{sum(max(one[kind] for kind in kinds) for one in layers) / 1e3:.1f}"


def headlines() -> str:
    """The front page: a chart and its conclusion for every machine and precision."""
    parts = []
    for name, title in HEADLINES.items():
        one, two = (summary_of(name, threads) for threads in (1, 2))
        count = len(one.variants)
        text = (
            f"**{title}**: the fastest peer takes {one.geometric_mean:.2f} times as long as ours "
            f"on one thread and {two.geometric_mean:.2f} times on two (geometric means); ours is "
            f"faster on {one.verdicts['faster']} and {two.verdicts['faster']} of {count}."
        )
        parts.append("\n".join(textwrap.wrap(text, WIDTH, break_on_hyphens=False)))
        parts.append(f"![Fastest peer ÷ ours, {title}](images/{name}.svg)")
    return "\n\n".join(parts)


def stamp(name: str) -> str:
    """What a chart's file has to hold: which results it was drawn from."""
    digest = hashlib.sha256((RESULTS / f"{name}.json").read_bytes()).hexdigest()
    return f"<!-- {name}.json {digest[:16]} -->"


def headline_chart(name: str) -> str:
    """The chart of ratios as a file of its own, which has no page to take colours from."""
    from tvm_mobilenet.reporting.charts.ratios import ratios
    from tvm_mobilenet.reporting.charts.style import standalone

    chart = ratios([summary_of(name, threads) for threads in (1, 2)])
    return f"{standalone(chart)}\n{stamp(name)}\n"


BLOCKS: Mapping[str, Callable[[], str]] = {
    "readme": readme,
    "headlines": headlines,
    "sweep-1": lambda: grid("x86-znver5-sweep", 1),
    "sweep-2": lambda: grid("x86-znver5-sweep", 2),
    "avx2-sweep-1": lambda: grid("x86-64-v3-sweep", 1),
    "avx2-sweep-2": lambda: grid("x86-64-v3-sweep", 2),
    "int8-sweep-1": lambda: grid("x86-znver4-int8-sweep", 1),
    "int8-sweep-2": lambda: grid("x86-znver4-int8-sweep", 2),
    "bf16-sweep-1": lambda: grid("x86-znver4-bf16-sweep", 1),
    "bf16-sweep-2": lambda: grid("x86-znver4-bf16-sweep", 2),
    "bf16-zoo": lambda: zoo("x86-znver4-bf16-zoo"),
    "int8-zoo": lambda: zoo("x86-znver4-int8-zoo"),
    "zoo": lambda: zoo("x86-znver4-zoo"),
    "demo": demo,
    "instructions": lambda: instructions("arm-rpi4-instructions"),
    "int8-instructions": lambda: instructions("arm-rpi5-int8-instructions"),
    "int8-instructions-a72": lambda: instructions("arm-rpi4-int8-instructions"),
    "int8-instructions-i8mm": lambda: instructions("arm-graviton3-int8-instructions"),
    "int8-cores": int8_cores,
    "fp16-instructions": lambda: instructions_of_two(
        "arm-graviton2-fp16-instructions", "arm-rpi4-instructions"
    ),
    "armv7-instructions": lambda: instructions_of_two(
        "arm-rpi2-armv7-instructions", "arm-rpi2-armv7-int8-instructions"
    ),
    "instruction-kinds": instruction_kinds,
    "arm-precisions": arm_precisions,
    "roofline": roofline,
}


if __name__ == "__main__":
    sys.exit(main())
