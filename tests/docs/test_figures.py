"""README.md and docs/: the figures are those measured."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest
from support.pages import REPOSITORY, read

from tvm_mobilenet.results import schema, statistics
from tvm_mobilenet.results.slowdowns import slowdown_tables
from tvm_mobilenet.results.tables import comparisons

RESULTS = REPOSITORY / "benchmarks" / "results"
LOW_PRECISIONS = (
    ("int8", "byte_operations_per_s", "GOP/s"),
    ("bf16", "bf16_flops_per_s", "GFLOP/s"),
)
BF16_STORES = (
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "resnet18",
    "mobilenet_v1_full_convolution",
)
ENGINES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "litert": "LiteRT"}


@dataclass(frozen=True)
class Cell:
    """One variant on one number of threads: ours, the fastest peer, its time over ours."""

    ours_ms: float
    peer: str
    peer_ms: float
    ratio: float


Cells: TypeAlias = dict[tuple[int, float, int], Cell]


@pytest.fixture(scope="module")
def sweep() -> Cells:
    return cells_of("x86-znver5-sweep")


def cells_of(results: str) -> Cells:
    rows: dict[tuple[int, float, int], dict[str, schema.ResultRow]] = {}
    for row in schema.load(RESULTS / f"{results}.json").results:
        assert row.alpha is not None
        rows.setdefault((row.threads, row.alpha, row.resolution), {})[row.engine] = row
    return {key: cell_of(engines) for key, engines in rows.items()}


def cell_of(engines: dict[str, schema.ResultRow]) -> Cell:
    ours = engines["bundle"]
    peers = [row for name, row in engines.items() if name != "bundle" and row.latency_ms]
    fastest = min(peers, key=p50)
    ratio = statistics.compare(fastest.samples_ms, ours.samples_ms).value
    return Cell(p50(ours), fastest.engine, p50(fastest), ratio)


def p50(row: schema.ResultRow) -> float:
    assert row.latency_ms is not None
    return row.latency_ms.p50


def means_of(sweep: Cells) -> dict[int, float]:
    """The geometric mean of the ratios, by threads."""
    return {
        threads: statistics.geometric_mean(
            [c.ratio for key, c in sweep.items() if key[0] == threads]
        )
        for threads in (1, 2)
    }


def test_the_geometric_means_are_the_sweeps(sweep: Cells) -> None:
    means = means_of(sweep)
    said = f"the geometric mean is {means[1]:.2f}x on one thread and {means[2]:.2f}x on two"
    assert said in " ".join(read("README.md").split())


def test_the_differences_of_weights_are_those_measured() -> None:
    page, rows = read("docs/weights.md"), result("x86-znver4-weights")["results"]
    for row in rows:
        width = "".join(f" {value:g}" for value in row["arguments"].values())
        file = row["file"].removeprefix("weights")
        differences = f"{row['module']:.1e} | {row['bundle']:.1e}"
        line = f"| {row['library']} | `{row['network']}`{width} | `{file}` | {differences} |"
        assert f"\n{line}\n" in page
    assert len(rows) == len(re.findall(r"^\| (?:keras|torchvision|timm) \| `", page, re.MULTILINE))


def test_what_quantizing_loses_is_that_measured() -> None:
    page, rows = read("docs/quantization.md"), result("quantization-digits")["results"]
    for row in rows:
        steps = ["yes" if row[name] else "no" for name in ("bias_correction", "equalization")]
        shares = [f"{row[name]:.2%}".replace("%", " %") for name in ("top1", "agreement")]
        words = [row["quantizer"], row["method"], *(steps if row["method"] else ["", ""]), *shares]
        assert f"\n| {' | '.join(words)} | {row['error']:.2e} |\n" in page
    quantizers = "|".join({row["quantizer"] for row in rows})
    table = page.partition("| quantizer |")[2]
    assert len(re.findall(rf"^\| (?:{quantizers}) \| ", table, re.MULTILINE)) == len(rows)


def result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def ratio(name: str, row: int) -> str:
    return f"{result(name)['rows'][row]['ratio']:.2f}x"


def strassen_beside_noise() -> Iterator[str]:
    """The rows of a table: quiet, then beside each noise what it costs, each with ÷ ours."""
    results = schema.load(RESULTS / "x86-znver4-strassen-noise.json")
    (table,) = slowdown_tables(results)
    beside = [
        [1.0 if line.ratio is None else line.ratio.value for line in one.lines]
        for one in comparisons(results)
    ]
    for engine, quiet, memory, fma in zip(table.engines, *beside, strict=True):
        cells = [f"{engine.quiet_ms:.2f}"]
        cells += [f"{one:.2f}x" for one in engine.ratios if one is not None]
        over_ours = ["1" if one == 1.0 else f"{one:.2f}" for one in (quiet, memory, fma)]
        yield " | ".join(cell for pair in zip(cells, over_ours, strict=True) for cell in pair)


def figures() -> Iterator[tuple[str, str]]:
    """A page, and what it has to say by a results file."""
    one, two = (row["ratio"] for row in result("x86-znver5-default-and-tuned")["rows"])
    yield "performance", f"takes {one:.3f}x as long on one thread"
    yield "performance", f"and {two:.3f}x on two"
    yield "tuning", f"gains {one - 1:.1%} on one thread and {two - 1:.1%} on two".replace("%", " %")
    near, far = ratio("x86-znver5-rows-1.0-224", 0), ratio("x86-znver5-rows-1.0-224-far", 0)
    yield "performance", f"| 1.0-224 | {near} | {far} |"
    near, far = (ratio("x86-znver5-rows-0.5-160", row) for row in (0, 1))
    yield "performance", f"| 0.5-160 | {near} | {far} |"
    (profile,) = result("x86-znver5-profile")["profiles"]
    network, floor = profile["network_ms"], profile["floor_ms"]
    gflops = profile["core"]["flops_per_s"] / 1e9
    yield "performance", f"at **{network / floor:.2f}x** the core's FMA floor: {network:.2f} ms"
    yield "performance", f"against {floor:.2f} ms"
    yield "performance", f"the {gflops:.0f} GFLOP/s"
    for precision, key, unit in LOW_PRECISIONS:
        (profile,) = result(f"x86-znver4-{precision}-profile")["profiles"]
        network, peak = profile["network_ms"], profile["core"][key]
        pointwise = [one for one in profile["layers"] if "_pointwise_" in one["workload"]]
        seconds = sum(one["ms"] for one in pointwise) / 1e3
        share = sum(one["flops"] for one in pointwise) / peak / seconds
        yield "performance", f"{network / profile['floor_ms']:.2f}x"
        yield "performance", f"({network:.2f} ms; {peak / 1e9:.0f} {unit}"
        yield "performance", f"at {share:.0%} in {precision}".replace("%", " %")
        tuned = result(f"x86-znver4-{precision}-default-and-tuned")["rows"][0]["ratio"]
        how = "faster" if tuned > 1 else "slower"
        yield "tuning", f"tuned {precision} is {abs(1 - tuned):.1%} {how}".replace("%", " %")
    for network in BF16_STORES:
        (row,) = result(f"x86-znver4-bf16-stores-{network}")["rows"]
        low, high = row["interval"]
        yield "performance", f"| {1 / row['ratio']:.3f}x | {1 / high:.3f} to {1 / low:.3f} |"
    (profile,) = result("x86-64-v3-profile")["profiles"]
    above = profile["network_ms"] - profile["floor_ms"]
    yield "performance", f"it is {profile['network_ms'] / profile['floor_ms']:.2f}x the floor"
    yield "performance", f"Of the {above:.2f} ms above the floor"
    noisy = slowdown_tables(schema.load(RESULTS / "x86-znver4-noise.json"))
    for engine in next(noisy).engines:
        beside = " | ".join(f"{one:.2f}x" for one in engine.ratios if one is not None)
        yield "performance", f"| {engine.quiet_ms:.2f} | {beside} |"
    yield from (("performance", one) for one in strassen_beside_noise())
    one, two = (row["ratio"] for row in result("x86-znver5-vm-and-static")["rows"])
    assert f"{one:.2f}" == f"{two:.2f}"
    yield "performance", f"takes {one:.2f}x as long on one thread and on two"
    rows = result("tuning-endurance")["rows"]
    best = [row["kernels_us"] for row in rows if "kernels_us" in row]
    yield (
        "tuning",
        f"added up to {best[0] / 1e3:.3f} ms after four minutes and {best[-1] / 1e3:.3f}",
    )
    yield "tuning", f"grew from {rows[0]['tuner']} to {rows[-1]['tuner']} MiB"
    one, two = (ratio("tuning-minutes-and-hour", row) for row in (0, 1))
    yield "tuning", f"takes {one} (one thread) and {two} (two threads)"
    yield "tuning", f"measured {result('tuning-speed')['ratio']:.1f} times as fast"
    yield "tuning", f"measured {result('farm-4-local-servers')['ratio']:.1f} times as many"
    summary = result("x86-znver5-model-correlation")["summary"]
    yield "tuning", f"| {summary['fit']['mean']:.3f} | {summary['fit']['mean_of_runs']:.3f} |"
    yield "tuning", f"| **{summary['held out']['mean']:.3f}** |"
    yield "tuning", f"| {summary['all']['mean']:.3f} | {summary['all']['mean_of_runs']:.3f} |"
    demo = schema.load(RESULTS / "x86-znver5-demo.json").results
    for row in demo:
        if row.threads == 1:
            (two_threads,) = (r for r in demo if r.engine == row.engine and r.threads == 2)
            yield "performance", f" {p50(row):.2f} | "
            yield "performance", f" {p50(two_threads):.2f} | "


@pytest.mark.parametrize(("page", "says"), list(figures()))
def test_a_figure_is_that_of_its_file(page: str, says: str) -> None:
    assert says in " ".join(read(f"docs/{page}.md").split())
