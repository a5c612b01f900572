"""What the sections of a report say of several files: machines and precisions never mix."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import pytest
from support.pages import REPOSITORY
from support.result_rows import MACHINE, results, row

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.accuracy import Accuracy
from tvm_mobilenet.results import inputs, tables
from tvm_mobilenet.results.inputs import Inputs
from tvm_mobilenet.results.profiles import Core, LayerProfile, Profiled
from tvm_mobilenet.results.statistics import Ratio, mean_ratio

if importlib.util.find_spec("matplotlib") is None:
    pytest.skip("needs matplotlib: pip install 'tvm-mobilenet[report]'", allow_module_level=True)

from tvm_mobilenet.reporting import sections
from tvm_mobilenet.reporting.family import members
from tvm_mobilenet.reporting.layer_sections import profile_section
from tvm_mobilenet.reporting.page import Page, Section

FP32 = results(
    row("bundle", 9.0, accuracy=Accuracy(9, 10, "made up")),
    row("onnxruntime", 8.0),
    row("bundle", 4.0, resolution=160),
    row("onnxruntime", 5.0, resolution=160),
)
INT8 = results(
    row("bundle", 3.0, precision="int8", accuracy=Accuracy(8, 10, "made up")),
    row("onnxruntime", 4.0, precision="int8"),
)
ELSEWHERE = dataclasses.replace(INT8, machine=dataclasses.replace(MACHINE, cpu="Another CPU"))
PROFILE = REPOSITORY / "benchmarks" / "results" / "x86-znver5-profile.json"
LOG = REPOSITORY / "tuning_logs" / "x86-znver5"


def build(*files: tuple[str, Any]) -> Page:
    return sections.build(Inputs(tuple(files)))


def titles(found: list[Section] | tuple[Section, ...]) -> list[str]:
    return [one.title for one in found]


def test_each_machine_and_precision_has_its_section_and_headline() -> None:
    page = build(("a.json", FP32), ("b.json", INT8), ("c.json", ELSEWHERE))
    assert titles(list(page.sections)) == ["Imaginary CPU, 2 cores", "Another CPU, 2 cores"]
    mine, other = page.sections
    assert titles(list(mine.sections))[:3] == ["fp32", "int8", "fp32 and int8 beside each other"]
    assert titles(list(other.sections))[0] == "int8"
    scopes = [one.scope for one in page.headlines]
    assert [scope.rpartition(", 2 cores")[0] for scope in scopes] == [
        "2 networks, fp32, Imaginary CPU",
        "mobilenet_v1 1.0-224, int8, 1 thread, native, Imaginary CPU",
        "mobilenet_v1 1.0-224, int8, 1 thread, native, Another CPU",
    ]


def test_precisions_stand_beside_each_other_without_a_ratio() -> None:
    page = build(("a.json", FP32), ("b.json", INT8))
    beside = page.sections[0].sections[2]
    (table,) = beside.tables
    assert list(table.header) == ["network", "fp32 ms", "int8 ms", "fp32 top-1", "int8 top-1"]
    (cells,) = table.rows
    assert [float(one) for one in cells[1:3]] == pytest.approx([9.0, 3.0], rel=0.01)
    assert cells[3:] == ["90.00 %", "80.00 %"]
    assert "no ratio" in beside.sentences[0]


def test_one_mean_is_of_one_precision() -> None:
    mixed = results(*FP32.results, *INT8.results, row("bundle", 1.0, precision="int8", alpha=0.5))
    (summary,) = tables.summaries(tables.comparisons(mixed))
    assert summary.precision == "fp32" and len(summary.variants) == 2


def test_headlines_say_who_is_fastest() -> None:
    def says(ours: float, theirs: float) -> tuple[str, str]:
        (one,) = build(("r.json", results(row("bundle", ours), row("peer", theirs)))).headlines
        return one.sentence, one.verdict

    assert says(4.0, 5.0)[0].startswith("Ours is the fastest of 2 engines")
    assert says(5.0, 4.0) == (
        "peer is the fastest of 2 engines: 4.00 ms. Ours takes 5.00 ms, 1.25 times as long.",
        "slower",
    )
    sentence, verdict = says(4.0, 4.01)
    assert "no difference can be told" in sentence and verdict == "no difference"


def test_accuracy_is_the_papers_unless_measured() -> None:
    one, other = members(tables.comparisons(FP32))
    assert (one.top1, one.measured) == (90.0, True)
    assert (other.top1, other.measured) == (67.2, False)
    assert one.mega_multiply_adds == pytest.approx(569, rel=0.01)
    (int8,) = members(tables.comparisons(results(row("bundle", 1.0, precision="int8"))))
    assert int8.top1 is None and int8.mega_multiply_adds == one.mega_multiply_adds
    own = members(tables.comparisons(results(row("bundle", 1.0, model="mine", alpha=None))))
    assert own[0].top1 is own[0].mega_multiply_adds is None


def test_layers_and_tuning_runs_are_shown() -> None:
    page = sections.build(inputs.load([PROFILE, LOG]))
    machine, tuning = page.sections
    layers = machine.sections[0]
    assert "1.06 times its floor" in layers.sentences[0]
    assert "06 pointwise_conv2d_56x56x128_128" in layers.sentences[1]
    assert len(layers.tables[0].rows) == 29
    assert layers.tables[0].rows[0][-1] == "native 2026-11-29"  # where its schedule is from
    assert tuning.title == "Tuning, x86-znver5" and tuning.charts
    assert tuning.tables[0].rows[0][-2:] == ["22.208", "21.264"]


def test_a_layer_is_held_against_the_peak_of_its_own_precision() -> None:
    """A file from before dot products had a peak shows none for them, and no floor."""
    layers = (
        LayerProfile("00", "quantized_dense_64_64", tuned=False, ms=0.001, flops=80_000, nbytes=64),
        LayerProfile("01", "global_avg_pool2d", tuned=False, ms=0.001, flops=20_000, nbytes=64),
    )
    core = Core(1e11, 5e10, byte_operations_per_s=4e11)
    now = profile_section(Profiled("a", 1, 0.002, core, layers, 0.0004), "a")
    assert "5.00 times its floor of 0.000 ms" in now.sentences[0]
    assert "peak of 400 GOP/s in int8, 100 GFLOP/s, measured" in now.sentences[0]
    assert [row[4:8] for row in now.tables[0].rows] == [
        ["80.0", "1250.0", "20%", "int8 arithmetic"],
        ["20.0", "312.5", "20%", "arithmetic"],
    ]
    assert tuple(now.tables[0].header[4:6]) == ("GOP/s", "OP/byte")
    (chart,) = now.charts
    assert (
        "2 layers under a roof of 400 GOP/s in int8, 100 GFLOP/s and 50 GB/s" in chart.description
    )
    then = profile_section(Profiled("a", 1, 0.002, Core(1e11, 5e10), layers), "a")
    assert "was not measured, so there is no floor" in then.sentences[0]
    assert [row[6:8] for row in then.tables[0].rows] == [["–", "–"], ["20%", "arithmetic"]]  # noqa: RUF001


def test_what_is_no_input_is_one_line(tmp_path: Path) -> None:
    for paths, complaint in (
        ([tmp_path], "the folder of a tuning log, which has a meta.json"),
        ([PROFILE, PROFILE], "given twice"),
    ):
        with pytest.raises(BadInput, match=complaint):
            inputs.load(paths)
    bad = tmp_path / "profile.json"
    text = PROFILE.read_text(encoding="utf-8")
    for change, complaint in (
        (text[: len(text) // 2], "not JSON"),
        (text.replace('"ms": 0.1182', '"ms": -0.1182'), r"layers\[0\].ms: expected a number"),
        (text.replace('"ms": 0.1182', '"ms": 0.0, "x": 0.1'), "unknown key"),
        (text.replace('"format_version": 1', '"format_version": 9'), "is newer than"),
    ):
        bad.write_text(change, encoding="utf-8")
        with pytest.raises(BadInput, match=complaint):
            inputs.load([bad])


def test_the_mean_of_ratios_has_the_narrower_interval() -> None:
    one = Ratio(1.2, 1.1, 1.3)
    mean = mean_ratio([one] * 4)
    assert mean.value == pytest.approx(1.2)
    assert mean.low == pytest.approx(1.2 * (1.1 / 1.2) ** 0.5)
    assert mean.high == pytest.approx(1.2 * (1.3 / 1.2) ** 0.5)
    assert mean_ratio([one, Ratio(1.0, 0.0, float("inf"))]).verdict == "no difference"
