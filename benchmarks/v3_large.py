"""MobileNetV3-Large in PyTorch, which mobilenet_v3.py writes as an ONNX file.

Table 1 of Howard et al., "Searching for MobileNetV3" (2019), in the arrangement of torchvision:
squeeze-and-excite over channels / 4 rounded to 8, batch norm with epsilon 0.001. torchvision itself
cannot be installed beside the torch that this project pins. The weights are random and seeded;
batch norm's statistics are those of noise, so that activations neither vanish nor overflow.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

RESOLUTION = 224
SEED = 0
CALIBRATION_BATCH = 4  # images of noise


class Block(NamedTuple):
    """A row of the paper's Table 1."""

    kernel: int
    expanded: int
    out: int
    squeeze: bool
    hard_swish: bool
    stride: int


STEM_CHANNELS, HEAD_CHANNELS, CLASSIFIER_CHANNELS, CLASSES = 16, 960, 1280, 1000
BLOCKS = (
    Block(3, 16, 16, squeeze=False, hard_swish=False, stride=1),
    Block(3, 64, 24, squeeze=False, hard_swish=False, stride=2),
    Block(3, 72, 24, squeeze=False, hard_swish=False, stride=1),
    Block(5, 72, 40, squeeze=True, hard_swish=False, stride=2),
    Block(5, 120, 40, squeeze=True, hard_swish=False, stride=1),
    Block(5, 120, 40, squeeze=True, hard_swish=False, stride=1),
    Block(3, 240, 80, squeeze=False, hard_swish=True, stride=2),
    Block(3, 200, 80, squeeze=False, hard_swish=True, stride=1),
    Block(3, 184, 80, squeeze=False, hard_swish=True, stride=1),
    Block(3, 184, 80, squeeze=False, hard_swish=True, stride=1),
    Block(3, 480, 112, squeeze=True, hard_swish=True, stride=1),
    Block(3, 672, 112, squeeze=True, hard_swish=True, stride=1),
    Block(5, 672, 160, squeeze=True, hard_swish=True, stride=2),
    Block(5, 960, 160, squeeze=True, hard_swish=True, stride=1),
    Block(5, 960, 160, squeeze=True, hard_swish=True, stride=1),
)


def convolution(
    channels: int,
    out: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = None,
) -> nn.Sequential:
    """A convolution without bias, its batch norm, and an activation where there is one."""
    conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers: list[nn.Module] = [conv, nn.BatchNorm2d(out, eps=0.001, momentum=0.01)]
    return nn.Sequential(*layers, *([activation()] if activation else []))


class SqueezeExcite(nn.Module):
    """Each channel times a weight in [0, 1] that all channels' means decide."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = rounded_to_8(channels / 4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.expand(nn.functional.relu(self.reduce(self.pool(x))))
        return x * nn.functional.hardsigmoid(scale)


class InvertedResidual(nn.Module):
    def __init__(self, channels: int, row: Block) -> None:
        super().__init__()
        activation = nn.Hardswish if row.hard_swish else nn.ReLU
        wide = row.expanded
        layers: list[nn.Module] = []
        if wide != channels:
            layers.append(convolution(channels, wide, activation=activation))
        layers.append(convolution(wide, wide, row.kernel, row.stride, wide, activation))
        if row.squeeze:
            layers.append(SqueezeExcite(wide))
        layers.append(convolution(wide, row.out))
        self.layers = nn.Sequential(*layers)
        self.residual = row.stride == 1 and channels == row.out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return x + y if self.residual else y


def rounded_to_8(channels: float) -> int:
    """The paper's rounding: to a multiple of 8, and down by a tenth at most."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def mobilenet_v3_large() -> nn.Sequential:
    """(N, 3, 224, 224) → logits (N, 1000), in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        blocks: list[nn.Module] = []
        channels = STEM_CHANNELS
        for row in BLOCKS:
            blocks.append(InvertedResidual(channels, row))
            channels = row.out
        network = nn.Sequential(
            convolution(3, STEM_CHANNELS, 3, 2, activation=nn.Hardswish),
            *blocks,
            convolution(channels, HEAD_CHANNELS, activation=nn.Hardswish),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(HEAD_CHANNELS, CLASSIFIER_CHANNELS),
            nn.Hardswish(),
            nn.Dropout(0.2),
            nn.Linear(CLASSIFIER_CHANNELS, CLASSES),
        )
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the statistics become those of the next batch
        with torch.no_grad():
            network.train()(torch.randn(CALIBRATION_BATCH, 3, RESOLUTION, RESOLUTION))
    return network.eval()
