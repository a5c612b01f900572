"""The layers with weights of any network, as PyTorch goes through it on tensors without values."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from tvm_mobilenet import models


@dataclass(frozen=True)
class TracedLayer:
    """One layer with weights: its name in the module, its operator and its static shape.

    Sizes are of the square input and output maps, in pixels; a fully connected layer has size 1.
    ``affine`` are its trained values beside the weights: its bias, and scale and shift of the batch
    norms that come after it and before the next layer.
    """

    name: str
    op: str  # pointwise, conv3x3, depthwise5x5, fully_connected
    in_channels: int
    out_channels: int
    stride: int
    in_size: int
    out_size: int
    weights: int
    affine: int

    @property
    def parameters(self) -> int:
        return self.weights + self.affine

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one image: each weight is used once for each pixel of the output."""
        return self.weights * self.out_size**2


@functools.cache
def trace(config: models.Config) -> tuple[TracedLayer, ...]:
    """The layers of ``config``'s network in the order in which they are computed."""
    found: list[TracedLayer] = []

    def visit(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            if isinstance(module, nn.Conv2d | nn.Linear):
                found.append(_layer(name, module, inputs[0], output))
            elif isinstance(module, nn.BatchNorm2d):
                affine = found[-1].affine + 2 * module.num_features
                found[-1] = replace(found[-1], affine=affine)

        return hook

    with torch.device("meta"), torch.inference_mode():
        network = models.network_of(config).eval()
        for name, module in network.named_modules():
            module.register_forward_hook(visit(name, module))
        network(torch.empty(1, *config.input_shape))
    return tuple(found)


def _layer(
    name: str, module: nn.Conv2d | nn.Linear, x: torch.Tensor, y: torch.Tensor
) -> TracedLayer:
    bias = 0 if module.bias is None else module.bias.numel()
    if isinstance(module, nn.Linear):
        op, stride, in_size, out_size = "fully_connected", 1, 1, 1
    else:
        op, stride = _op(module), module.stride[0]
        in_size, out_size = x.shape[-1], y.shape[-1]
    return TracedLayer(
        name, op, x.shape[1], y.shape[1], stride, in_size, out_size, module.weight.numel(), bias
    )


def _op(convolution: nn.Conv2d) -> str:
    size = "{}x{}".format(*convolution.kernel_size)
    if convolution.groups > 1:
        return f"depthwise{size}"
    return "pointwise" if size == "1x1" else f"conv{size}"
