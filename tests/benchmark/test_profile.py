"""bench --profile: what it counts and prints; times are not asserted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from rich.console import Console
from support.float_networks import mobile

import tvm_mobilenet
from tvm_mobilenet import bench, models
from tvm_mobilenet.benchmark.profile.layers import LayerTime, Peaks, Profile, profile
from tvm_mobilenet.benchmark.profile.local import LocalNetwork
from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.bundle import Layer
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.hardware import target
from tvm_mobilenet.network import source
from tvm_mobilenet.quantization.calibration import Calibration
from tvm_mobilenet.reporting.profile import print_profile
from tvm_mobilenet.results import profiles
from tvm_mobilenet.runtime.session import load


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = models.config_from("mobilenet_v1", 0.25, 32)
    options = CompileOptions(target.resolve("x86"))
    path = tmp_path_factory.mktemp("profile") / "bundle"
    return build_bundle(source.from_config(config), options, path).path


def test_every_layer_is_timed_and_the_result_stays_right(bundle: Path) -> None:
    with load(bundle) as session:
        session.input[...] = session.bundle.sample_input()
        result = profile(LocalNetwork(session), runs=3)
        (expected,) = session.bundle.expected_outputs()
        np.testing.assert_allclose(session.output, expected, rtol=1e-3, atol=1e-4)
        assert [one.layer for one in result.layers] == list(session.manifest.layers)
    assert all(one.seconds >= 0 for one in result.layers)
    assert sum(one.seconds for one in result.layers) > 0
    assert result.peaks.operations_per_s["fma"] > 1e9
    assert result.peaks.bytes_per_s > 1e8
    assert result.floor_s == pytest.approx(
        sum(one.layer.flops for one in result.layers) / result.peaks.operations_per_s["fma"]
    )


def test_flops_of_the_manifest_are_those_of_the_cost_table(bundle: Path) -> None:
    """Kernels do all the network's multiply-adds, and what filling up vectors adds: some more."""
    from tvm_mobilenet.models.cost import cost_of

    with load(bundle) as session:
        layers = session.manifest.layers
    wanted = 2 * cost_of(models.config_from("mobilenet_v1", 0.25, 32)).multiply_adds
    assert wanted <= sum(layer.flops for layer in layers) < 1.3 * wanted


def test_bound_is_the_larger_of_arithmetic_and_memory(bundle: Path) -> None:
    with load(bundle) as session:
        layer = session.manifest.layers[0]
    peaks = Peaks({"fma": 2e9}, bytes_per_s=4e9)
    assert peaks.arithmetic_s(layer) == pytest.approx(layer.flops / 2e9)
    assert peaks.memory_s(layer) == pytest.approx(layer.nbytes / 4e9)


def test_command_prints_each_layer(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And takes as many runs as it is asked for."""
    asked: list[int] = []
    timed = LocalNetwork.time_network

    def time_network(network: LocalNetwork, runs: int) -> list[float]:
        asked.append(runs)
        return timed(network, runs)

    monkeypatch.setattr(LocalNetwork, "time_network", time_network)
    assert bench.main(["--profile", str(bundle), "--min-runs", "12"]) == 0
    assert sum(asked) == 12
    printed = capsys.readouterr().out
    with load(bundle) as session:
        for layer in session.manifest.layers:
            assert layer.workload in printed
    assert "times the floor" in printed


def test_each_layer_is_held_against_the_peak_of_what_it_is_made_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    layers = [
        LayerTime(Layer("0", f"quantized_{40 * 'x'}", tuned=False, flops=3200, nbytes=64), 1e-6),
        LayerTime(Layer("1", "pooling", tuned=False, flops=1000, nbytes=64), 1e-6),
        LayerTime(Layer("2", "bf16_dense", tuned=False, flops=1000, nbytes=64), 1e-6),
        LayerTime(Layer("3", "bf16_dense", tuned=False, flops=1000, nbytes=1600), 1e-6),
        LayerTime(Layer("4", "bf16_tiles_conv2d", tuned=False, flops=8000, nbytes=64), 1e-6),
    ]
    peaks = Peaks({"fma": 2e9, "bytes": 8e9, "bf16": 4e9, "bf16_tiles": 32e9}, 4e9)
    result = Profile(tuple(layers), 5e-6, peaks, 1)
    print_profile(Console(), "mixed", result)
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines() if "default" in line]
    assert [" ".join(row[6:-1]) for row in rows] == [
        "int8 arithmetic", "arithmetic", "bf16 arithmetic", "memory", "bf16 tiles"
    ]  # fmt: skip
    assert [row[5] for row in rows] == ["40%", "50%", "25%", "40%", "25%"]
    assert "of its bound" in printed and "…" not in printed, "wide enough for all cells"
    assert (
        "2 GFLOP/s, 8 GOP/s in int8, 4 GFLOP/s in bf16, 32 GFLOP/s by bf16 tiles in registers"
        in printed
    )
    floor = 3200 / 8e9 + 1000 / 2e9 + 2000 / 4e9 + 8000 / 32e9
    assert result.floor_s == pytest.approx(floor)
    assert "int8 and FMA and bf16 and bf16 tiles floor 0.002 ms" in printed


def test_a_network_in_int8_has_a_peak_of_its_own(tmp_path: Path) -> None:
    """Measured in the bundle, written, and read as the report does."""
    rng = np.random.default_rng(0)
    onnx.save_model(mobile(rng), str(tmp_path / "network.onnx"))
    np.save(tmp_path / "samples.npy", rng.standard_normal((2, 8, 8, 8), np.float32))
    samples = Calibration(tmp_path / "samples.npy")
    bundle = tvm_mobilenet.compile_bundle(
        tmp_path / "int8", onnx=tmp_path / "network.onnx", calibration=samples
    )
    file = tmp_path / "profile.json"
    assert bench.main(["--profile", str(bundle), "--json", str(file)]) == 0
    (one,) = profiles.read(json.loads(file.read_text())).profiles
    operations, flops = one.core.peak("bytes"), one.core.peak("fma")
    assert operations is not None and flops is not None and one.core.peak("bf16") is None
    assert operations > flops / 2 > 0
    for layer in one.layers:
        peak = operations if layer.workload.startswith("quantized_") else flops
        assert one.arithmetic_ms(layer) == pytest.approx(layer.flops / peak * 1e3)
    kinds = [one.arithmetic_ms(layer) for layer in one.layers]
    assert one.floor_ms == pytest.approx(sum(ms for ms in kinds if ms is not None))
    (header,) = (path.read_text() for path in bundle.rglob("*.h"))
    assert "void network_bytes_peak(float *scratch)" in header and "bf16_peak" not in header


def test_command_writes_what_it_measured(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "profile.json"
    assert bench.main(["--profile", str(bundle), "--json", str(file)]) == 0
    written = json.loads(file.read_text())
    assert written["machine"]["cores"] >= 1 and "--profile" in written["command"]
    (one,) = written["profiles"]
    with load(bundle) as session:
        assert [row["workload"] for row in one["layers"]] == [
            layer.workload for layer in session.manifest.layers
        ]
    flops = sum(row["flops"] for row in one["layers"])
    assert one["floor_ms"] == pytest.approx(flops / one["core"]["flops_per_s"] * 1e3)
    assert one["network_ms"] > 0 and all(row["ms"] >= 0 for row in one["layers"])


def test_profile_takes_one_bundle(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--profile", str(bundle), str(bundle)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
