"""Relax modules keep every variant's answer, and what cannot be imported is named."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import tvm
from onnx import TensorProto, helper
from tvm import relax

from tvm_mobilenet import models
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models import MobileNetConfig
from tvm_mobilenet.network import onnx_export, relax_import

FLOAT = TensorProto.FLOAT
IMAGE = [1, 3, 8, 8]


def run(module: tvm.IRModule, x: Any) -> list[Any]:
    """Every output of ``main``, compiled with TVM's defaults alone."""
    executable = tvm.compile(module, tvm.target.Target({"kind": "llvm"}))
    machine = relax.VirtualMachine(executable, tvm.cpu())
    result = machine["main"](tvm.runtime.tensor(x))
    outputs = [result] if hasattr(result, "numpy") else list(result)
    return [output.numpy() for output in outputs]


def model_of(
    nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, Any]] | None = None, **constants: Any
) -> onnx.ModelProto:
    """A model of ``nodes`` from x, images unless ``inputs`` says otherwise, to y."""
    given = {"x": (FLOAT, IMAGE)} if inputs is None else inputs
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, *info) for name, info in given.items()],
        [helper.make_tensor_value_info("y", FLOAT, ["a", "b", "c", "d"])],
        [
            onnx.numpy_helper.from_array(np.array(value, np.float32), name)
            for name, value in constants.items()
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_plain_network(small_onnx: onnx.ModelProto, small_network: Any, images: Any) -> None:
    module = relax_import.import_onnx(small_onnx)
    assert [var.name_hint for var in module.get_global_vars()] == ["main"]
    (parameter,) = module["main"].params
    assert [int(size) for size in parameter.ty.shape] == [1, 3, 32, 32]
    x = images(small_network.config)
    with torch.inference_mode():
        expected = small_network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run(module, x)[0], expected, rtol=1e-4, atol=1e-4)


def test_features_relu6_same_padding_and_batch(small_config: MobileNetConfig, images: Any) -> None:
    config = dataclasses.replace(
        small_config, activation="relu6", padding="tensorflow", feature_strides=(8, 16, 32)
    )
    network = models.build(config)
    model = onnx_export.export(network, (2, *config.input_shape))
    module = relax_import.import_onnx(model)
    text = module.script()
    assert text.count("R.clip(") == 27, "each ReLU6 is one operator"
    assert "call_tir" not in text
    assert text.count("padding=[0, 0, 1, 1]") == 5, "stem and four blocks"

    x = images(config, 2)
    with torch.inference_mode():
        expected = [feature.numpy() for feature in network(torch.from_numpy(x))]
    outputs = run(module, x)
    assert len(outputs) == 3
    for output, wanted in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(output, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("names", "constants", "low", "high"),
    [
        (["x", "low", "high"], {"low": -0.5, "high": 0.25}, -0.5, 0.25),
        (["x", "low"], {"low": 0.1}, 0.1, np.inf),
        (["x", "", "high"], {"high": 0.1}, -np.inf, 0.1),
        (["x"], {}, -np.inf, np.inf),
        (["x", "low"], {"low": np.nan}, -np.inf, np.inf),
    ],
    ids=["both", "low", "high", "none", "nan"],
)
def test_clip(
    names: list[str], constants: dict[str, Any], low: float, high: float, images: Any
) -> None:
    model = model_of([helper.make_node("Clip", names, ["y"])], **constants)
    module = relax_import.import_onnx(model)
    assert "R.clip(" in module.script()
    x = np.random.default_rng(1).standard_normal(IMAGE, dtype=np.float32)
    np.testing.assert_allclose(run(module, x)[0], np.clip(x, low, high))


def test_clip_of_old_opset() -> None:
    model = model_of([helper.make_node("Clip", ["x"], ["y"], min=0.0, max=6.0)])
    model.opset_import[0].version = 7
    assert "R.clip(" in relax_import.import_onnx(model).script()


def test_clip_with_computed_bound_stays_right() -> None:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["high"], keepdims=0),
        helper.make_node("Clip", ["x", "low", "high"], ["y"]),
    ]
    module = relax_import.import_onnx(model_of(nodes, low=0.0))
    x = np.random.default_rng(2).standard_normal(IMAGE, dtype=np.float32)
    np.testing.assert_allclose(run(module, x)[0], np.maximum(x, 0))


def test_importer_is_left_as_it_was() -> None:
    from tvm.relax.frontend.onnx.onnx_frontend import Clip

    before = dict(Clip.__dict__)
    relax_import.import_onnx(model_of([helper.make_node("Relu", ["x"], ["y"])]))
    assert dict(Clip.__dict__) == before


def test_input_names_that_relax_cannot_have() -> None:
    model = model_of([helper.make_node("Relu", ["input.1"], ["y"])], {"input.1": (FLOAT, IMAGE)})
    module = relax_import.import_onnx(model)
    assert len(module["main"].params) == 1


RELU = [helper.make_node("Relu", ["x"], ["y"])]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (model_of([helper.make_node("Det", ["x"], ["y"])]), "Det"),
        (model_of(RELU, {"x": (FLOAT, ["batch", 3, 8, 8])}), "dynamic shape batchx3x8x8"),
        (model_of(RELU, {"x": (FLOAT, None)}), "no shape"),
        (model_of(RELU, {"x": (FLOAT, [1, 8])}), r"\(N, C, H, W\), got the shape 1x8"),
        (model_of(RELU, {"x": (TensorProto.DOUBLE, IMAGE)}), "uint8, got float64"),
        (model_of([helper.make_node("Conv", ["x", "w"], ["y"])], w=1.0), "Conv"),
    ],
    ids=["operator", "dynamic", "rankless", "vector", "float64", "malformed-conv"],
)
def test_refused(model: onnx.ModelProto, says: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        relax_import.import_onnx(model)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == ""
