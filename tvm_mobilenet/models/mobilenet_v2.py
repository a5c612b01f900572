"""MobileNetV2: inverted residuals with linear bottlenecks. State dict as torchvision's.

Source: Sandler et al., arXiv 1801.04381, Table 2. It has any width: ``alpha`` multiplies all
channels but, below 1, those of the last convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from tvm_mobilenet.models.blocks import (
    GlobalPool,
    Members,
    conv,
    conv_norm,
    depthwise,
    make_divisible,
    residual,
)
from tvm_mobilenet.models.network_config import NetworkConfig


class Stage(NamedTuple):
    """One row of Table 2; the stride is that of the stage's first block."""

    expansion: int
    channels: int
    repeats: int
    stride: int


STEM, LAST = 32, 1280
STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)
DROPOUT = 0.2


def network(config: NetworkConfig) -> nn.Module:
    """(N, 3, R, R) → logits (N, num_classes), with PyTorch's initial weights."""
    last = make_divisible(LAST * max(1.0, config.alpha))
    return Members(
        features=nn.Sequential(*_features(config.alpha, last)),
        pool=GlobalPool(),
        classifier=nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(last, config.num_classes)),
    )


def _features(alpha: float, last: int) -> Iterator[nn.Module]:
    channels = make_divisible(STEM * alpha)
    yield conv_norm(conv(3, channels, 3, 2), nn.ReLU6)
    for stage in STAGES:
        out = make_divisible(stage.channels * alpha)
        for number in range(stage.repeats):
            stride = stage.stride if number == 0 else 1
            yield _inverted_residual(channels, stage.expansion, out, stride)
            channels = out
    yield conv_norm(conv(channels, last), nn.ReLU6)


def _inverted_residual(channels: int, expansion: int, out: int, stride: int) -> nn.Module:
    wide = channels * expansion
    expand = [conv_norm(conv(channels, wide), nn.ReLU6)] if expansion > 1 else []
    members = nn.Sequential(
        *expand,
        conv_norm(depthwise(wide, 3, stride), nn.ReLU6),
        conv(wide, out),
        nn.BatchNorm2d(out),
    )
    return residual(channels, out, stride)(conv=members)
