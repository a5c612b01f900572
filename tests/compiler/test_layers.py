"""Which chains of operators become one layer, and which must not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.static_programs import folded, seeded
from torch import nn
from torch.nn import functional
from tvm import relax

from tvm_mobilenet.compiler.graph.layers import (
    Convolution,
    Dense,
    Layer,
    Other,
    Pooling,
)
from tvm_mobilenet.compiler.graph.read_layers import read_layers
from tvm_mobilenet.kernels.cpu.conv2d import Activation

IMAGE = (2, 3, 8, 8)


def layers_of(module: nn.Module, shape: tuple[int, ...] = IMAGE) -> list[Layer]:
    return read_layers(folded(seeded(module), shape)["main"])


class Function(nn.Module):
    """A module of a convolution and a function that says what becomes of it."""

    def __init__(self, function: Any, channels: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self.conv(x))


def test_convolution_bias_and_relu_are_one_layer() -> None:
    conv = nn.Conv2d(3, 5, 3, stride=2, padding=1)
    (layer,) = layers_of(nn.Sequential(conv, nn.ReLU()))
    assert isinstance(layer, Convolution)
    assert (layer.stride, layer.padding, layer.depthwise) == ((2, 2), (1, 1, 1, 1), False)
    assert layer.activation == Activation(low=0.0)
    np.testing.assert_array_equal(layer.weight, conv.weight.detach().numpy())
    assert conv.bias is not None
    np.testing.assert_array_equal(layer.bias, conv.bias.detach().numpy())


@pytest.mark.parametrize(
    ("module", "activation"),
    [
        (nn.Identity(), Activation()),
        (nn.ReLU6(), Activation(0.0, 6.0)),
        (nn.Hardtanh(-0.5, 0.25), Activation(-0.5, 0.25)),
    ],
    ids=["none", "relu6", "hardtanh"],
)
def test_activations(module: nn.Module, activation: Activation) -> None:
    (layer,) = layers_of(nn.Sequential(nn.Conv2d(3, 4, 1), module))
    assert isinstance(layer, Convolution)
    assert layer.activation == activation


def test_convolution_without_bias() -> None:
    (layer,) = layers_of(nn.Conv2d(3, 4, 1, bias=False))
    assert isinstance(layer, Convolution)
    np.testing.assert_array_equal(layer.bias, np.zeros(4, np.float32))


def test_uneven_padding_goes_into_the_convolution() -> None:
    module = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 4, 3, stride=2))
    (layer,) = layers_of(module)
    assert isinstance(layer, Convolution)
    assert layer.padding == (0, 0, 1, 1), "top, left, bottom, right"


def test_depthwise_is_told_from_grouped() -> None:
    depthwise, multiplied, grouped = (
        layers_of(nn.Conv2d(4, out, 3, groups=groups), (1, 4, 8, 8))
        for out, groups in ((4, 4), (8, 4), (4, 2))
    )
    assert isinstance(depthwise[0], Convolution)
    assert depthwise[0].depthwise
    assert not any(isinstance(layer, Convolution) for layer in (*multiplied, *grouped))


def test_a_single_channel_is_no_depthwise_convolution() -> None:
    (layer,) = layers_of(nn.Conv2d(1, 1, 3, groups=1), (1, 1, 8, 8))
    assert isinstance(layer, Convolution)
    assert not layer.depthwise


def test_dilated_convolution_is_left_to_tvm() -> None:
    layers = layers_of(nn.Conv2d(3, 4, 3, dilation=2))
    assert all(isinstance(layer, Other) for layer in layers)


@pytest.mark.parametrize(
    ("function", "kept"),
    [
        (lambda y: (y, functional.relu(y)), 1),
        (lambda y: functional.relu(y) + y, 2),
        (lambda y: functional.relu(functional.relu(y) - 1.0), 2),
        (lambda y: functional.relu(y.amax((2, 3), keepdim=True)), 2),
    ],
    ids=["given out", "added to itself", "not next to it", "after a reduction"],
)
def test_a_result_used_elsewhere_keeps_its_value(function: Any, kept: int) -> None:
    """The convolution before the activation is an output or operand of its own."""
    layers = layers_of(Function(function))
    first = layers[0]
    assert isinstance(first, Convolution)
    others = [layer for layer in layers if isinstance(layer, Other)]
    assert len(others) >= kept
    if kept == 1:
        assert first.activation == Activation()


def test_a_bias_of_another_shape_is_not_taken_in() -> None:
    """Four channels and four columns: only the shape tells a bias from a row of summands."""
    row = torch.arange(1.0, 5.0)
    layers = layers_of(Function(lambda y: y + row), (1, 3, 4, 4))
    assert len(layers) == 2
    assert isinstance(layers[1], Other)


def test_what_follows_an_activation_is_not_its_bias() -> None:
    bias = torch.arange(1.0, 5.0).reshape(1, 4, 1, 1)
    layers = layers_of(Function(lambda y: functional.relu(y) + bias))
    assert len(layers) == 2
    assert isinstance(layers[0], Convolution)
    assert layers[0].activation == Activation(low=0.0)


def test_a_second_activation_is_an_operator_of_its_own() -> None:
    layers = layers_of(Function(lambda y: functional.relu6(functional.relu(y) * 1.0)))
    assert isinstance(layers[0], Convolution)
    assert layers[0].activation in (Activation(low=0.0), Activation(0.0, 6.0))


class Classifier(nn.Module):
    def __init__(self, keepdim: bool) -> None:
        super().__init__()
        self.keepdim = keepdim
        self.linear = nn.Linear(3, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = x.mean(dim=(2, 3), keepdim=self.keepdim)
        y: torch.Tensor = functional.relu(self.linear(pooled.flatten(1)))
        return y


@pytest.mark.parametrize("keepdim", [False, True])
def test_pooling_and_classifier(keepdim: bool) -> None:
    module = Classifier(keepdim)
    layers = layers_of(module)
    assert isinstance(layers[0], Pooling)
    (dense,) = (layer for layer in layers if isinstance(layer, Dense))
    assert dense.weight.shape == (3, 7)
    np.testing.assert_array_equal(dense.weight.T, module.linear.weight.detach().numpy())
    np.testing.assert_array_equal(dense.bias, module.linear.bias.detach().numpy())
    assert dense.activation == Activation(low=0.0)


@pytest.mark.parametrize("dims", [(1,), (2,), (1, 2), (1, 2, 3)], ids=str)
def test_other_means_are_no_pooling(dims: tuple[int, ...]) -> None:
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean(dim=dims)

    assert not any(isinstance(layer, Pooling) for layer in layers_of(Mean()))


def test_matrix_product_of_two_inputs_is_left_to_tvm() -> None:
    x = relax.Var("x", relax.TensorType((4, 4), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            output = builder.emit_output(relax.op.matmul(x, x))
        builder.emit_func_output(output)
    (layer,) = read_layers(builder.finalize()["main"])
    assert isinstance(layer, Other)
