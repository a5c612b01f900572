"""LiteRT as a peer: its file is made before the timing, and in int8 it takes and gives integers."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tvm_mobilenet import models
from tvm_mobilenet.benchmark import cases
from tvm_mobilenet.benchmark.engines import ENGINES, int8_peers, tflite_file
from tvm_mobilenet.benchmark.engines.protocol import EngineUnavailable, Job

SCALES = {0: (0.5, -3), 1: (0.25, 10)}  # of input and output


class Doubling:
    """An interpreter of a network in int8 that doubles its one input."""

    def __init__(self, path: str, num_threads: int) -> None:
        self.given, self.path, self.threads = np.zeros(0, np.int8), path, num_threads

    def allocate_tensors(self) -> None: ...

    def get_input_details(self) -> list[dict[str, Any]]:
        return [{"index": 0, "dtype": np.int8, "quantization": SCALES[0]}]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [{"index": 1, "dtype": np.int8, "quantization": SCALES[1]}]

    def set_tensor(self, index: int, value: Any) -> None:
        assert index == 0 and value.dtype == np.int8
        self.given = value

    def invoke(self) -> None:
        real = 2 * (self.given.astype(np.float32) - SCALES[0][1]) * SCALES[0][0]
        self.answer = np.clip(np.rint(real / SCALES[1][0]) + SCALES[1][1], -128, 127)

    def get_tensor(self, index: int) -> Any:
        assert index == 1
        return self.answer.astype(np.int8)


def test_floats_go_in_and_come_out_of_a_network_of_integers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interpreter = ModuleType("ai_edge_litert.interpreter")
    interpreter.__dict__["Interpreter"] = Doubling
    monkeypatch.setitem(sys.modules, "ai_edge_litert", ModuleType("ai_edge_litert"))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", interpreter)
    litert = importlib.import_module("tvm_mobilenet.benchmark.engines.litert")
    del sys.modules[litert.__name__]  # it holds the interpreter above
    engine = litert.LiteRt(Job(threads=1, tflite=Path("network.tflite"), precision="int8"))
    engine.load()
    x = np.array([[-2.1, 0.0, 0.3, 3.5, 900.0]], np.float32)
    engine.set_inputs([x])
    engine.infer()
    (y,) = engine.outputs()
    assert y.dtype == np.float32
    # in steps of 0.5 in, of 0.25 out, whose largest integer stands for (127 - 10) / 4
    np.testing.assert_array_equal(y, [[-4.0, 0.0, 1.0, 7.0, 29.25]])


@pytest.fixture
def config() -> models.Config:
    return models.config_from("mobilenet_v1", 0.25, 32)


def test_a_network_that_litert_does_not_convert_leaves_it_out(
    config: models.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise EngineUnavailable("LiteRT's converter does not take it: no such operator")

    monkeypatch.setattr(tflite_file, "convert", refuse)
    network = cases.of_model(config, 1, "fp32", ["litert"], tmp_path)
    (peer,) = cases.peer_candidates(["litert"], network)
    assert peer.absent == "LiteRT's converter does not take it: no such operator"


def test_what_litert_quantizes_is_held_to_what_quantizing_loses(
    config: models.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ranges are its own: its integers are nobody else's."""
    calibrated: list[Any] = []
    monkeypatch.setattr(tflite_file, "convert", lambda *of: of[2].write_bytes(b"float"))

    def quantize(path: Path, output: Path, batches: Any) -> None:
        calibrated.extend(batches)
        output.write_bytes(path.read_bytes() + b", quantized")

    monkeypatch.setattr(tflite_file, "quantize", quantize)
    network = cases.quantized(config, 1, ["litert"], tmp_path)
    assert network.tflite is not None and network.tflite.read_bytes() == b"float, quantized"
    assert {one.shape for one in calibrated} == {(1, 3, 32, 32)}
    right = network.rights["tflite"]
    lost = np.linalg.norm(network.expected[0] - right.outputs[0])
    assert right.tolerance == pytest.approx(
        int8_peers.LOOSER * lost / np.linalg.norm(right.outputs[0]), rel=1e-3
    )
    assert 0.001 < right.tolerance < 1.0
    onnx, litert = cases.peer_candidates(["onnxruntime", "litert"], network)
    assert onnx.right is None and litert.right == right
    (compiled,) = cases.peer_candidates(["torch-compile"], network)
    assert network.config is not None and compiled.right == right


@pytest.mark.skipif(
    ENGINES["litert"].missing() is not None, reason=f"{ENGINES['litert'].missing()}"
)
def test_litert_itself_computes_both(config: models.Config, tmp_path: Path) -> None:
    from tvm_mobilenet.benchmark.engines.litert import LiteRt
    from tvm_mobilenet.benchmark.engines.verify import check

    of_float = cases.of_model(config, 1, "fp32", ["litert"], tmp_path)
    in_int8 = cases.quantized(config, 1, ["litert"], tmp_path)
    for one in (of_float, in_int8):
        engine = LiteRt(Job(threads=1, tflite=one.tflite, precision=one.precision))
        engine.load()
        engine.set_inputs(one.inputs)
        engine.infer()
        right = one.rights.get("tflite")
        expected = one.expected if right is None else right.outputs
        tolerance = None if right is None else right.tolerance
        check(engine.outputs(), expected, one.precision, tolerance)
