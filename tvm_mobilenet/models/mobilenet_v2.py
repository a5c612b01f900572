"""MobileNetV2: inverted residuals with linear bottlenecks. State dict as torchvision's.

Source: Sandler et al., arXiv 1801.04381, Table 2. It has any width: ``alpha`` multiplies all
channels but, below 1, those of the last convolution.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from torch import nn

from tvm_mobilenet.models.blocks import (
    GlobalPool,
    Members,
    Norm,
    conv,
    conv_norm,
    depthwise,
    halving_conv,
    make_divisible,
    residual,
)
from tvm_mobilenet.models.network_config import NetworkConfig
from tvm_mobilenet.models.stages import CHANNEL_TOLERANCE


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
EPSILON = 1e-5


def network(config: NetworkConfig) -> nn.Module:
    """(N, 3, R, R) → logits (N, num_classes), with PyTorch's initial weights."""
    last = make_divisible(LAST * max(1.0, config.alpha))
    return Members(
        features=nn.Sequential(*_features(config, last)),
        pool=GlobalPool(),
        classifier=nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(last, config.num_classes)),
    )


def _features(config: NetworkConfig, last: int) -> Iterator[nn.Module]:
    norm = partial(nn.BatchNorm2d, eps=config.batch_norm_epsilon or EPSILON)
    channels = make_divisible(STEM * config.alpha)
    stem = halving_conv(3, channels, config.resolution, padding=config.padding)
    yield conv_norm(stem, nn.ReLU6, norm)
    size = (config.resolution + 1) // 2
    for stage in STAGES:
        out = _channels(stage.channels, config)
        for number in range(stage.repeats):
            wide = channels * stage.expansion
            if number == 0 and stage.stride == 2:
                filtering = halving_conv(wide, wide, size, wide, padding=config.padding)
                size = (size + 1) // 2
            else:
                filtering = depthwise(wide, 3)
            yield _inverted_residual(channels, filtering, out, norm)
            channels = out
    yield conv_norm(conv(channels, last), nn.ReLU6, norm)


def _channels(base: int, config: NetworkConfig) -> int:
    exact = base * config.alpha
    down = config.channel_rounding == "down_eights"
    return make_divisible(math.floor(exact + CHANNEL_TOLERANCE) if down else exact)


def _inverted_residual(channels: int, filtering: nn.Conv2d, out: int, norm: Norm) -> nn.Module:
    wide = filtering.out_channels
    expand = [conv_norm(conv(channels, wide), nn.ReLU6, norm)] if wide > channels else []
    members = nn.Sequential(
        *expand,
        conv_norm(filtering, nn.ReLU6, norm),
        conv(wide, out),
        norm(out),
    )
    return residual(channels, out, filtering.stride[0])(conv=members)
