"""MobileOne-S0 as trained: each layer is a sum of parallel branches. State dict as timm's.

Source: Vasu et al., arXiv 2206.04040, its table of network specifications and section 3. For
inference the branches of a layer are one convolution, which is what the paper's figures count;
merging them is the compiler's business.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import nn

from tvm_mobilenet.models.blocks import Branch, GlobalPool, Members, conv
from tvm_mobilenet.models.network_config import NetworkConfig


class Stage(NamedTuple):
    """Pairs of a depthwise and a 1x1 layer; the first pair halves the map."""

    channels: int
    pairs: int


STEM = 48
STAGES = (Stage(48, 2), Stage(128, 8), Stage(256, 10), Stage(1024, 1))
BRANCHES = 4  # equal convolutions beside each other; the stem has one


class MobileOneLayer(nn.Module):
    """(N, channels, H, W) → (N, out, H / stride, W / stride): branches, summed, then ReLU.

    Branches are ``branches`` convolutions of ``kernel``, for a larger kernel than 1x1 also a 1x1
    one, and the identity where shapes allow; a batch norm ends each.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        branches: int = BRANCHES,
    ) -> None:
        super().__init__()
        same = stride == 1 and channels == out
        self.identity = nn.BatchNorm2d(out) if same else None
        self.conv_kxk = nn.ModuleList(
            _branch(conv(channels, out, kernel, stride, groups)) for _ in range(branches)
        )
        scale = conv(channels, out, 1, stride, groups) if kernel > 1 else None
        self.conv_scale = None if scale is None else _branch(scale)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = [self.conv_scale, *self.conv_kxk, self.identity]
        sums = [branch(x) for branch in branches if branch is not None]
        y: torch.Tensor = self.act(functools.reduce(torch.add, sums))
        return y


def network(config: NetworkConfig) -> nn.Module:
    """(N, 3, R, R) → logits (N, num_classes), with PyTorch's initial weights."""
    channels, stages = STEM, []
    for stage in STAGES:
        layers: list[nn.Module] = []
        for number in range(stage.pairs):
            stride = 2 if number == 0 else 1
            layers.append(MobileOneLayer(channels, channels, 3, stride, groups=channels))
            layers.append(MobileOneLayer(channels, stage.channels, 1))
            channels = stage.channels
        stages.append(nn.Sequential(*layers))
    return Members(
        stem=MobileOneLayer(3, STEM, 3, 2, branches=1),
        stages=nn.Sequential(*stages),
        head=Members(pool=GlobalPool(), fc=nn.Linear(channels, config.num_classes)),
    )


def _branch(convolution: nn.Conv2d) -> nn.Module:
    return Branch(conv=convolution, bn=nn.BatchNorm2d(convolution.out_channels))
