"""What is expected of kernels by tiles: by the geometry they have, beside what a profile says."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from support import benchmark_scripts

from tvm_mobilenet.results import inputs

PAGE = benchmark_scripts.REPOSITORY / "docs" / "amx.md"
PEAKS = {"flops_per_s": 1.5e11, "bytes_per_s": 2e10, "byte_tile_operations_per_s": 4.7e12}
LAYER = {"name": "12", "tuned": False, "nbytes": 1000}


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(benchmark_scripts.FOLDER))
    return importlib.import_module("amx_cycles")


def profile(file: Path, *layers: tuple[str, int, float]) -> Path:
    """Of layers by their kernels, operations and ms; the form of a file that there is."""
    some = benchmark_scripts.FOLDER / "results" / "x86-znver4-int8-profile.json"
    document = json.loads(some.read_text())
    rows = [{**LAYER, "workload": name, "flops": flops, "ms": ms} for name, flops, ms in layers]
    one = {"title": "t", "threads": 1, "network_ms": 1.0, "core": PEAKS, "layers": rows}
    file.write_text(json.dumps({**document, "profiles": [one]}))
    return file


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_the_page_has_the_table(study: Any, precision: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "\n".join(study.table(precision)) in text


def test_a_layer_is_bound_by_what_takes_longest(study: Any) -> None:
    early = study.cycles_of(study.Product("int8", 112, 112, 32, 64))
    late = study.cycles_of(study.Product("int8", 7, 7, 1024, 1024))
    assert early.expected == early.epilogue > early.loads == early.products, "kept weights"
    assert late.expected == late.loads > late.weights > late.products > late.epilogue
    middle = study.cycles_of(study.Product("int8", 28, 28, 256, 256))
    assert middle.expected == middle.loads > middle.products, "a band's first block"
    # 784 tiles of 16 pixels by 4 vectors, a step of 16 cycles each
    assert early.products == 784 * 4 * 16
    in_bf16 = study.cycles_of(study.Product("bf16", 7, 7, 1024, 1024))
    assert in_bf16.products == 2 * late.products and in_bf16.weights == 2 * late.weights
    taps = study.cycles_of(study.Product("int8", 14, 14, 512, 512, taps=9))
    one = study.cycles_of(study.Product("int8", 14, 14, 512, 512))
    assert taps.products == pytest.approx(9 * one.products)


def test_beside_a_profile(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    flops = 2 * 14 * 14 * 512 * 512
    file = profile(
        tmp_path / "p.json",
        ("quantized_tiles_pointwise_conv2d_14x14x512_512_fused", flops, 0.05),
        ("quantized_depthwise_conv2d_14x14x512_fused", 1000, 0.01),
        ("quantized_tiles_conv2d_14x14x512_512", 9 * flops, 0.5),
    )
    monkeypatch.setattr("sys.argv", ["x", "--profile", str(file), "--json", f"{tmp_path}/c.json"])
    assert study.main() == 0
    one, nine = json.loads((tmp_path / "c.json").read_text())["layers"]
    assert nine["expected_us"] == pytest.approx(9 * one["expected_us"]) and one["us"] == 50
    ((_, read),) = inputs.load([file]).profiles
    assert f"at {study.clock_of(read)} MHz, 550 µs taken" in capsys.readouterr().out


def test_what_has_no_tiles_is_refused(study: Any, tmp_path: Path, monkeypatch: Any) -> None:
    file = profile(tmp_path / "p.json", ("pointwise_conv2d_14x14x512_512", 1000, 0.05))
    monkeypatch.setattr("sys.argv", ["x", "--profile", str(file)])
    assert study.main() == 2
