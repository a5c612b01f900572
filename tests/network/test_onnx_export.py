"""What leaves PyTorch computes the same in ONNX Runtime, for every kind of variant."""

from __future__ import annotations

import copy
import dataclasses
import logging
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from tvm_mobilenet import models
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.models import MobileNetConfig
from tvm_mobilenet.network import onnx_export

VARIANTS = [
    pytest.param({"activation": "relu6", "padding": "tensorflow"}, 1, id="relu6-same"),
    pytest.param({"kind": "shallow", "num_classes": 7}, 3, id="shallow-batch-3"),
    pytest.param({"kind": "full_convolution"}, 1, id="full-convolution"),
    pytest.param({"feature_strides": (8, 16, 32), "padding": "tensorflow"}, 2, id="features"),
]


def operators(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


def test_plain_network(
    small_onnx: onnx.ModelProto, small_network: Any, small_config: MobileNetConfig, images: Any
) -> None:
    assert onnx_export.verify(small_onnx, small_network, images(small_config)) < 1e-5
    assert operators(small_onnx) == {"Conv", "Relu", "ReduceMean", "Gemm"}, "batch norm is folded"
    assert [opset.version for opset in small_onnx.opset_import] == [onnx_export.OPSET]
    assert [value.name for value in small_onnx.graph.input] == ["input"]
    assert [value.name for value in small_onnx.graph.output] == ["output"]


@pytest.mark.in_turns(3)
@pytest.mark.parametrize(("values", "batch"), VARIANTS)
def test_variants(values: Any, batch: int, small_config: MobileNetConfig, images: Any) -> None:
    config = dataclasses.replace(small_config, **values)
    network = models.build(config)
    model = onnx_export.export(network, (batch, *config.input_shape))
    assert onnx_export.verify(model, network, images(config, batch)) < 1e-5
    assert "Pad" not in operators(model), "padding belongs into the convolutions"
    assert len(model.graph.output) == max(1, len(config.feature_strides))


def test_export_is_silent(
    small_config: MobileNetConfig,
    small_network: Any,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    path = tmp_path / "small.onnx"
    model = onnx_export.export(small_network, (1, *small_config.input_shape), path)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    # one file, weights inside
    assert [file.name for file in tmp_path.iterdir()] == ["small.onnx"]
    assert onnx_export.load(path) == model


def test_verify_refuses_other_weights(
    small_onnx: onnx.ModelProto, small_config: MobileNetConfig, images: Any
) -> None:
    other = models.build(dataclasses.replace(small_config, seed=1))
    with pytest.raises(RunFailed, match="differ by"):
        onnx_export.verify(small_onnx, other, images(small_config))


def test_verify_refuses_other_outputs(
    small_onnx: onnx.ModelProto, small_config: MobileNetConfig, images: Any
) -> None:
    other = models.build(dataclasses.replace(small_config, num_classes=10))
    with pytest.raises(RunFailed, match=r"\(1, 1000\).*\(1, 10\)"):
        onnx_export.verify(small_onnx, other, images(small_config))


def test_verify_without_onnxruntime(
    small_onnx: onnx.ModelProto,
    small_network: Any,
    small_config: MobileNetConfig,
    images: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert onnx_export.verify(small_onnx, small_network, images(small_config)) < 1e-5


def invalid_model() -> bytes:
    # a Relu of a value that nothing makes
    node = helper.make_node("Relu", ["absent"], ["y"])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    model = helper.make_model(helper.make_graph([node], "g", [], [out]))
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        (b"", "not a valid model"),
        (b"\x89PNG\r\n\x1a\nnot a network", "not an ONNX model"),
        (invalid_model(), "not a valid model"),
    ],
    ids=["missing", "empty", "png", "invalid"],
)
def test_bad_files_are_one_line(content: bytes | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=says) as caught:
        onnx_export.load(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_weights_that_are_given_as_a_network_are_told_their_flag(tmp_path: Path) -> None:
    path = tmp_path / "network.pth"
    path.write_bytes(b"PK\3\4 a checkpoint")
    with pytest.raises(
        BadInput, match=r"not an ONNX model .*; weights of one of ours go with --we"
    ):
        onnx_export.load(path)


def test_missing_external_weights(small_onnx: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    # saving so changes the model it is given
    onnx.save_model(
        copy.deepcopy(small_onnx),
        str(path),
        save_as_external_data=True,
        location="weights",
        size_threshold=0,
    )
    (tmp_path / "weights").unlink()
    with pytest.raises(BadInput) as caught:
        onnx_export.load(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_path_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "network.onnx"
    with pytest.raises(BadInput, match=r"network.onnx: .*No such file or directory"):
        onnx_export.export(torch.nn.ReLU().eval(), (1, 3, 4, 4), path)
