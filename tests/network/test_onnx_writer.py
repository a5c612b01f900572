"""Plain networks are written as torch.onnx.export writes them, and no others are."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from tvm_mobilenet import models
from tvm_mobilenet.models import MobileNetConfig
from tvm_mobilenet.network import onnx_export, onnx_writer
from tvm_mobilenet.network.onnx_writer import NotPlain

SHAPE = (2, 3, 32, 32)


def written(module: nn.Module) -> onnx.ModelProto:
    return onnx_writer.write(module, onnx_export.INPUT_NAME, SHAPE, onnx_export.OPSET)


def layers(model: onnx.ModelProto) -> list[tuple[str, dict[str, Any], list[Any]]]:
    """Each node's operator, attributes and constant inputs."""
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    return [
        (
            node.op_type,
            {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute},
            [constants[name] for name in node.input if name in constants],
        )
        for node in model.graph.node
    ]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"activation": "relu6", "padding": "tensorflow"},
        {"kind": "full_convolution", "batch_norm_epsilon": 1e-3},
        {"feature_strides": (8, 16, 32), "padding": "tensorflow"},
    ],
    ids=["plain", "relu6-same", "full-convolution", "features"],
)
def test_same_as_torchs_own(values: Any, small_config: MobileNetConfig) -> None:
    network = models.build(dataclasses.replace(small_config, **values))
    ours, theirs = written(network), onnx_export.export_by_torch(network, SHAPE)
    for one, other in zip(layers(ours), layers(theirs), strict=True):
        assert one[:2] == other[:2]
        for array, wanted in zip(one[2], other[2], strict=True):
            assert array.dtype == wanted.dtype
            np.testing.assert_array_equal(array, wanted)
    assert [one.name for one in ours.graph.input] == [one.name for one in theirs.graph.input]
    assert [(one.name, one.type) for one in ours.graph.output] == [
        (one.name, one.type) for one in theirs.graph.output
    ]


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pad, self.conv = nn.ZeroPad2d(1), nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        padded = self.pad(x)
        return self.conv(padded), padded


class Twice(nn.Module):
    """Its layer is called twice, and batch norm follows once."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(self.norm(self.conv(x)))
        return y


class SameOutput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = self.conv(x)
        return y, y


class KeptMean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3), keepdim=True)


class Decides(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


OTHERS = {
    "another layer": nn.Sequential(nn.Conv2d(3, 4, 1), nn.AvgPool2d(2)),
    "norm without convolution": nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)),
    "norm of an activation": nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)),
    "norm without scale": nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False)),
    "reflected border": nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
    "padding by name": nn.Conv2d(3, 4, 3, padding="same"),
    "padding given out": Branches(),
    "padding before an activation": nn.Sequential(nn.ZeroPad2d(1), nn.ReLU()),
    "shared layer": Twice(),
    "output twice": SameOutput(),
    "input as output": nn.Identity(),
    "mean of other axes": KeptMean(),
    "control flow": Decides(),
}


@pytest.mark.parametrize("module", OTHERS.values(), ids=OTHERS)
def test_others_are_left_to_torch(module: nn.Module) -> None:
    with pytest.raises(NotPlain):
        written(module.eval())


def test_training_mode_is_left_to_torch() -> None:
    with pytest.raises(NotPlain, match="training"):
        written(nn.Sequential(nn.Conv2d(3, 4, 1)).train())


def test_padding_of_both_kinds_adds_up(rng: np.random.Generator) -> None:
    module = nn.Sequential(
        nn.ZeroPad2d((0, 1, 2, 3)), nn.Conv2d(3, 4, 3, padding=(1, 2), dilation=2)
    )
    model = written(module.eval())
    x = rng.standard_normal(SHAPE, dtype=np.float32)
    assert onnx_export.verify(model, module, x) < 1e-5
    assert layers(model)[0][1]["pads"] == [3, 2, 4, 3]


def test_export_takes_torchs_way_for_others(rng: np.random.Generator) -> None:
    module = OTHERS["another layer"].eval()
    model = onnx_export.export(module, SHAPE)
    assert model.producer_name == "pytorch"
    x = rng.standard_normal(SHAPE, dtype=np.float32)
    assert onnx_export.verify(model, module, x) < 1e-5
