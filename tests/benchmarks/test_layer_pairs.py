"""Layers of several bundles in turns: what is told of them, not how long they take."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from support import benchmark_scripts, tiny_bundle

from tvm_mobilenet.benchmark.profile.turns import Series


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(benchmark_scripts.FOLDER))
    return importlib.import_module("layer_pairs")


def layers(study: Any) -> list[Any]:
    """The first is better by VNNI, the second by tiles, the third hardly either way."""
    names = [f"quantized_{{}}conv2d_7x7x{size}_32" for size in (16, 32, 48)]
    both = [(name.format(""), name.format("tiles_")) for name in names]
    times = [(10.0, 12.0), (30.0, 8.0), (9.9, 10.0)]
    return [
        study.LayerTimes(f"0{place}", kernels, us)
        for place, (kernels, us) in enumerate(zip(both, times, strict=True))
    ]


def test_what_is_printed(study: Any) -> None:
    lines = study.lines([Path("a/vnni"), Path("b/amx")], layers(study), "alone")
    assert [line.endswith("faster in vnni") for line in lines[1:4]] == [True, False, False]
    assert lines[1].split()[:4] == ["00", "quantized_tiles_conv2d_7x7x16_32", "10.0", "12.0"]
    assert lines[4] == "of inferences with the core alone, which were most"
    sums = "vnni 0.050 ms, amx 0.030 ms; 0.028 ms with each layer by its fastest kernel"
    assert lines[5] == sums
    assert lines[6].startswith("1 of 3 layers are faster by more than 10% in another bundle than")


def test_bundles_in_turns(tmp_path: Path) -> None:
    names = ["vnni", "amx"]
    for name in names:
        tiny_bundle.write(tmp_path / name, tiny_bundle.classifier())
    file = tmp_path / "layers.json"
    paths = [str(tmp_path / name) for name in names]
    done = benchmark_scripts.run("layer_pairs", *paths, "--runs", "12", "--json", str(file))
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text())
    assert document["bundles"] == paths and document["state"] in (None, "alone", "shared")
    assert all(len(one["us"]) == len(one["kernels"]) == 2 for one in document["layers"])
    one = benchmark_scripts.run("layer_pairs", paths[0])
    assert one.returncode == 2 and "expected two bundles or more" in one.stderr


def test_other_networks_are_refused(study: Any) -> None:
    from types import SimpleNamespace as Some

    def manifest(*workloads: str) -> Any:
        return Some(layers=[Some(workload=one) for one in workloads])

    vnni = manifest("quantized_pointwise_conv2d_7x7x16_32_fused", "quantized_dense_32_10")
    amx = manifest("quantized_tiles_pointwise_conv2d_7x7x16_32_fused", "quantized_dense_32_10")
    study.check_same([Path("a"), Path("b")], [vnni, amx])
    for other in (manifest("conv2d_7x7x16_32"), manifest("conv2d_7x7x16_64", "dense_32_10")):
        with pytest.raises(study.BadInput, match="b has other layers than a"):
            study.check_same([Path("a"), Path("b")], [vnni, other])


def test_times_are_of_the_state_that_most_were_in(study: Any) -> None:
    def timed(alone: int, shared: int) -> Series:
        kinds = [(1.0, 5.3)] * alone + [(2.0, 2.6)] * shared
        return Series([value for value, _ in kinds], [(nops, nops) for _, nops in kinds])

    kept, state = study.in_one_state([timed(100, 40), timed(90, 50)])
    assert state == "alone" and [len(one.values) for one in kept] == [100, 90]
    kept, state = study.in_one_state([timed(100, 0), timed(100, 0)])
    assert state is None and len(kept[0].values) == 100
    kept, state = study.in_one_state([timed(200, 0), timed(2, 98)])
    assert state is None, "too little of one bundle was taken in it"
