"""MobileNetV3, Large and Small: searched blocks, squeeze-excite, hard-swish. As torchvision's.

Source: Howard et al., arXiv 1905.02244, Tables 1 and 2. They have any width: ``alpha`` multiplies
all channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from torch import nn

from tvm_mobilenet.models.blocks import (
    Activation,
    GlobalPool,
    Members,
    Norm,
    SqueezeExcite,
    conv,
    conv_norm,
    depthwise,
    make_divisible,
    residual,
)
from tvm_mobilenet.models.network_config import NetworkConfig


class Block(NamedTuple):
    """One row of the tables: kernel, expanded and output channels, squeeze-excite, activation."""

    kernel: int
    expanded: int
    channels: int
    squeeze: bool
    activation: Activation
    stride: int


# the tables' names
RE, HS = nn.ReLU, nn.Hardswish
SE, NO = True, False
LARGE = (
    Block(3, 16, 16, NO, RE, 1),
    Block(3, 64, 24, NO, RE, 2),
    Block(3, 72, 24, NO, RE, 1),
    Block(5, 72, 40, SE, RE, 2),
    Block(5, 120, 40, SE, RE, 1),
    Block(5, 120, 40, SE, RE, 1),
    Block(3, 240, 80, NO, HS, 2),
    Block(3, 200, 80, NO, HS, 1),
    Block(3, 184, 80, NO, HS, 1),
    Block(3, 184, 80, NO, HS, 1),
    Block(3, 480, 112, SE, HS, 1),
    Block(3, 672, 112, SE, HS, 1),
    Block(5, 672, 160, SE, HS, 2),
    Block(5, 960, 160, SE, HS, 1),
    Block(5, 960, 160, SE, HS, 1),
)
SMALL = (
    Block(3, 16, 16, SE, RE, 2),
    Block(3, 72, 24, NO, RE, 2),
    Block(3, 88, 24, NO, RE, 1),
    Block(5, 96, 40, SE, HS, 2),
    Block(5, 240, 40, SE, HS, 1),
    Block(5, 240, 40, SE, HS, 1),
    Block(5, 120, 48, SE, HS, 1),
    Block(5, 144, 48, SE, HS, 1),
    Block(5, 288, 96, SE, HS, 2),
    Block(5, 576, 96, SE, HS, 1),
    Block(5, 576, 96, SE, HS, 1),
)
# blocks, and the width of the layer before the classifier
TABLES = {"mobilenet_v3_large": (LARGE, 1280), "mobilenet_v3_small": (SMALL, 1024)}

STEM = 16
LAST_EXPANSION = 6  # of the last convolution over the last block
SQUEEZE = 4  # the squeezed layer has a quarter of the expanded channels
DROPOUT = 0.2
EPSILON = 1e-3
MOMENTUM = 0.01


def network(config: NetworkConfig) -> nn.Module:
    """(N, 3, R, R) → logits (N, num_classes), with PyTorch's initial weights."""
    blocks, hidden = TABLES[config.model]
    last = LAST_EXPANSION * make_divisible(blocks[-1].channels * config.alpha)
    hidden = make_divisible(hidden * config.alpha)
    return Members(
        features=nn.Sequential(*_features(blocks, config, last)),
        pool=GlobalPool(),
        classifier=nn.Sequential(
            nn.Linear(last, hidden),
            nn.Hardswish(),
            nn.Dropout(DROPOUT),
            nn.Linear(hidden, config.num_classes),
        ),
    )


def _features(blocks: tuple[Block, ...], config: NetworkConfig, last: int) -> Iterator[nn.Module]:
    epsilon = config.batch_norm_epsilon or EPSILON
    norm = partial(nn.BatchNorm2d, eps=epsilon, momentum=MOMENTUM)
    channels = make_divisible(STEM * config.alpha)
    yield conv_norm(conv(3, channels, 3, 2), nn.Hardswish, norm)
    for block in blocks:
        yield _bottleneck(channels, block, config.alpha, norm)
        channels = make_divisible(block.channels * config.alpha)
    yield conv_norm(conv(channels, last), nn.Hardswish, norm)


def _bottleneck(channels: int, block: Block, alpha: float, norm: Norm) -> nn.Module:
    wide, out = make_divisible(block.expanded * alpha), make_divisible(block.channels * alpha)
    members: list[nn.Module] = []
    if wide != channels:
        members.append(conv_norm(conv(channels, wide), block.activation, norm))
    members.append(conv_norm(depthwise(wide, block.kernel, block.stride), block.activation, norm))
    if block.squeeze:
        members.append(_squeeze_excite(wide))
    members.append(conv_norm(conv(wide, out), None, norm))
    return residual(channels, out, block.stride)(block=nn.Sequential(*members))


def _squeeze_excite(channels: int) -> SqueezeExcite:
    squeezed = make_divisible(channels // SQUEEZE)
    return SqueezeExcite(
        fc1=conv(channels, squeezed, bias=True),
        activation=nn.ReLU(),
        fc2=conv(squeezed, channels, bias=True),
        scale_activation=nn.Hardsigmoid(),
    )
