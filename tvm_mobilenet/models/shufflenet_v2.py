"""ShuffleNetV2 1.0x: half of the channels pass by, then all are shuffled. As torchvision's.

Source: Ma et al., arXiv 1807.11164, Table 5.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from tvm_mobilenet.models.blocks import GlobalPool, Members, conv, conv_norm, depthwise
from tvm_mobilenet.models.network_config import NetworkConfig


class Stage(NamedTuple):
    """One row of Table 5; the first unit of a stage halves the map."""

    channels: int
    repeats: int


STEM, LAST = 24, 1024
STAGES = (Stage(116, 4), Stage(232, 8), Stage(464, 4))


class ShuffleUnit(nn.Module):
    """(N, channels, H, W) → (N, out, H / stride, W / stride); Figure 3 (c) and (d).

    At stride 1 the first half of the channels passes by; at stride 2 ``branch1`` makes it.
    """

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        half = out // 2
        self.passes_by = stride == 1
        self.branch1 = nn.Sequential()
        if stride > 1:
            self.branch1 = nn.Sequential(
                *(depthwise(channels, 3, stride), nn.BatchNorm2d(channels)),
                *(conv(channels, half), nn.BatchNorm2d(half), nn.ReLU()),
            )
        self.branch2 = nn.Sequential(
            *(conv(channels if stride > 1 else half, half), nn.BatchNorm2d(half), nn.ReLU()),
            *(depthwise(half, 3, stride), nn.BatchNorm2d(half)),
            *(conv(half, half), nn.BatchNorm2d(half), nn.ReLU()),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = x.chunk(2, dim=1) if self.passes_by else (x, x)
        return shuffle(torch.cat((self.branch1(left), self.branch2(right)), dim=1))


def shuffle(x: torch.Tensor) -> torch.Tensor:
    """Channels of (N, C, H, W) in the order 0, C/2, 1, C/2 + 1, …"""
    batch, channels, height, width = x.shape
    halves = x.view(batch, 2, channels // 2, height, width)
    return halves.transpose(1, 2).reshape(batch, channels, height, width)


def network(config: NetworkConfig) -> nn.Module:
    """(N, 3, R, R) → logits (N, num_classes), with PyTorch's initial weights."""
    stages: dict[str, nn.Module] = {}
    channels = STEM
    for number, stage in enumerate(STAGES, 2):
        first = ShuffleUnit(channels, stage.channels, 2)
        channels = stage.channels
        others = (ShuffleUnit(channels, channels, 1) for _ in range(stage.repeats - 1))
        stages[f"stage{number}"] = nn.Sequential(first, *others)
    return Members(
        conv1=conv_norm(conv(3, STEM, 3, 2), nn.ReLU),
        maxpool=nn.MaxPool2d(3, 2, padding=1),
        **stages,
        conv5=conv_norm(conv(channels, LAST), nn.ReLU),
        pool=GlobalPool(),
        fc=nn.Linear(LAST, config.num_classes),
    )
