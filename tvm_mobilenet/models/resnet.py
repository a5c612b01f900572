"""ResNet18: full convolutions with shortcuts, to compare the others with. As torchvision's.

Source: He et al., arXiv 1512.03385, Table 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from tvm_mobilenet.models.blocks import GlobalPool, Members, conv, conv_norm
from tvm_mobilenet.models.network_config import NetworkConfig


class Stage(NamedTuple):
    """One row of Table 1; the stride is that of the stage's first block."""

    channels: int
    repeats: int
    stride: int


STEM = 64
STAGES = (Stage(64, 2, 1), Stage(128, 2, 2), Stage(256, 2, 2), Stage(512, 2, 2))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (N, channels, H, W) → (N, out, H/stride, W/stride)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(channels, out, 3, stride), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = conv(out, out, 3), nn.BatchNorm2d(out)
        self.relu = nn.ReLU()
        same = stride == 1 and channels == out
        shortcut = conv_norm(conv(channels, out, 1, stride), None)
        self.downsample = nn.Sequential() if same else shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        out: torch.Tensor = self.relu(self.bn2(self.conv2(y)) + self.downsample(x))
        return out


def network(config: NetworkConfig) -> nn.Module:
    """(N, 3, R, R) → logits (N, num_classes), with PyTorch's initial weights."""
    stages: dict[str, nn.Module] = {}
    channels = STEM
    for number, stage in enumerate(STAGES, 1):
        first = BasicBlock(channels, stage.channels, stage.stride)
        channels = stage.channels
        others = (BasicBlock(channels, channels, 1) for _ in range(stage.repeats - 1))
        stages[f"layer{number}"] = nn.Sequential(first, *others)
    return Members(
        conv1=conv(3, STEM, 7, 2),
        bn1=nn.BatchNorm2d(STEM),
        relu=nn.ReLU(),
        maxpool=nn.MaxPool2d(3, 2, padding=1),
        **stages,
        pool=GlobalPool(),
        fc=nn.Linear(channels, config.num_classes),
    )
