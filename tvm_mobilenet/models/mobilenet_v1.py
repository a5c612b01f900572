"""MobileNet v1 as a PyTorch module, built by walking the stage table of ``stages.py``.

Layout is NCHW, float32. The logits come without the softmax, as torchvision gives them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from tvm_mobilenet.models.stages import (
    Layer,
    MobileNetConfig,
    feature_layers,
    layers,
    trunk_layers,
)

__all__ = ["ConvNormActivation", "MobileNetConfig", "MobileNetV1", "network"]

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6}


class ConvNormActivation(nn.Module):
    """A convolution of the stage table with the batch norm and the activation that follow it.

    (N, in_channels, H, W) → (N, out_channels, H / stride, W / stride).
    """

    def __init__(self, layer: Layer, config: MobileNetConfig) -> None:
        super().__init__()
        before, after = padding(layer, config)
        symmetric = before == after
        self.pad = nn.Identity() if symmetric else nn.ZeroPad2d((before, after, before, after))
        self.conv = nn.Conv2d(
            layer.in_channels,
            layer.out_channels,
            layer.kernel,
            layer.stride,
            padding=before if symmetric else 0,
            groups=layer.groups,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(layer.out_channels, eps=config.batch_norm_epsilon)
        self.activation = ACTIVATIONS[config.activation]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.activation(self.norm(self.conv(self.pad(x))))
        return y


class MobileNetV1(nn.Module):
    """The network of one MobileNetConfig.

    (N, 3, R, R) → logits (N, num_classes), or with ``feature_strides`` a tuple of feature maps
    (N, C, R / stride, R / stride) in the order of the strides. Weights are PyTorch's initial ones;
    ``models.build`` gives seeded ones, and ``models.network_of`` other heads, for which ``end``
    comes after the classifier.
    """

    def __init__(self, config: MobileNetConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = nn.ModuleDict(
            {layer.name: ConvNormActivation(layer, config) for layer in trunk_layers(config)}
        )
        self.feature_names = frozenset(feature_layers(config).values())
        if not self.feature_names:
            last = layers(config)[-1]
            self.classifier = nn.Linear(last.in_channels, last.out_channels)
            self.end: nn.Module = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        features = []
        for name, layer in self.trunk.items():
            x = layer(x)
            if name in self.feature_names:
                features.append(x)
        if features:
            return tuple(features)
        outputs: torch.Tensor = self.end(self.classifier(x.mean(dim=(2, 3))))
        return outputs


def padding(layer: Layer, config: MobileNetConfig) -> Sequence[int]:
    """Zeros (before, after) each spatial axis of ``layer``'s input.

    TensorFlow's SAME differs only at stride 2 and even sizes: one zero, after.
    """
    if layer.kernel == 1:
        return (0, 0)
    if config.padding == "tensorflow" and layer.stride == 2 and layer.in_size % 2 == 0:
        return (0, 1)
    return (1, 1)


def network(config: MobileNetConfig) -> MobileNetV1:
    """The network with PyTorch's initial weights."""
    return MobileNetV1(config)
