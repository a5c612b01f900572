"""What runs beside an int8 bundle: the same network in int8, made with the same samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import tiny_bundle
from support.float_networks import mobile

from tvm_mobilenet import bundle
from tvm_mobilenet.benchmark import cases
from tvm_mobilenet.benchmark.cases import Files, from_bundles
from tvm_mobilenet.benchmark.engines.int8_peers import PeersFile, quantized_for_peers
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.quantization import Quantization
from tvm_mobilenet.network import onnx_export
from tvm_mobilenet.numerics import relative_error

QUANTIZATION = Quantization("mse", 9, 3, None, 1.0, 0.01, bias_corrected=True)
PEERS = ("pytorch", "onnxruntime", "openvino")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With network.onnx and samples.npy of its input."""
    folder = tmp_path_factory.mktemp("int8")
    rng = np.random.default_rng(3)
    onnx.save_model(mobile(rng), str(folder / "network.onnx"))
    np.save(folder / "samples.npy", rng.standard_normal((12, 8, 8, 8), np.float32))
    return folder


def values(folder: Path) -> tuple[Any, ...]:
    return (np.load(folder / "samples.npy")[:1],)


def test_peers_get_a_quantized_network_of_their_own(folder: Path, tmp_path: Path) -> None:
    path, x = folder / "network.onnx", values(folder)
    inputs = (bundle.TensorInfo("input", (1, 8, 8, 8), "float32", "NCHW"),)
    found = quantized_for_peers(path, folder / "samples.npy", inputs, x, tmp_path)
    model = onnx.load_model(str(found.path))
    weights = {one.name: one for one in model.graph.initializer}
    scales = [
        weights[one.input[1]]
        for one in model.graph.node
        if one.op_type == "DequantizeLinear" and one.input[0] in weights
    ]
    assert sum(list(one.dims) == [16] for one in scales) >= 6  # by channel
    (right,) = found.right.outputs
    np.testing.assert_array_equal(right, onnx_export.evaluator(model, optimized=False).run(*x)[0])
    # as far from float32 as int8 goes, and no farther off may a peer be
    (exact,) = onnx_export.evaluate(onnx.load_model(str(path)), *x)
    assert 1e-3 < relative_error(right, exact) < 0.1
    assert 1e-2 <= found.right.tolerance < 0.1


@pytest.fixture
def int8_bundle(tmp_path: Path) -> Path:
    """One that compile says it quantized."""
    path = tmp_path / "tiny"
    model = {"onnx_sha256": "0" * 64}
    tiny_bundle.write(path, precision="int8", quantization=QUANTIZATION, model=model)
    return path


def test_without_samples_it_is_measured_by_itself(int8_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="give the --calibrate SAMPLES that the peers' network"):
        from_bundles([int8_bundle], Files(), PEERS, tmp_path)
    (case,) = from_bundles([int8_bundle], Files(), (), tmp_path)
    (ours,) = case.candidates
    assert case.network.precision == "int8" and ours.right is not None
    with bundle.open_bundle(int8_bundle) as opened:
        assert ours.right.tolerance == opened.tolerance()


def test_no_peer_in_fp32_stands_beside_int8(
    int8_bundle: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ratio is of one precision."""
    (alone,) = from_bundles([int8_bundle], Files(), (), tmp_path)
    (ours,) = alone.candidates
    assert ours.right is not None
    right = replace(ours.right, tolerance=0.02)
    made = PeersFile(folder / "made.onnx", right, right.outputs, ())
    (folder / "made.onnx").write_bytes(b"")
    asked: list[tuple[Any, ...]] = []

    def quantize(*of: Any) -> PeersFile:
        asked.append(of)
        return made

    monkeypatch.setattr(cases, "quantized_for_peers", quantize)
    monkeypatch.setattr(cases, "check_onnx", lambda *_: None)
    monkeypatch.setattr(cases, "with_fixed_sizes", lambda path, *_: path)
    known = replace(alone.network, onnx=folder / "network.onnx")
    monkeypatch.setattr(cases, "from_onnx", lambda *_: known)
    files = Files(onnx=folder / "network.onnx", calibrate=folder / "samples.npy")
    (case,) = from_bundles([int8_bundle], files, PEERS, tmp_path)
    assert asked[0][:2] == (folder / "network.onnx", folder / "samples.npy")
    assert case.network.onnx == made.path
    by_name = {one.name: one for one in case.candidates}
    assert by_name["pytorch"].absent == "computes in fp32, which is no peer of int8"
    for name in ("onnxruntime", "openvino"):
        assert by_name[name].absent is None and by_name[name].right == right
