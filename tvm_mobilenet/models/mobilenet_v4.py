"""MobileNetV4-conv-small: universal inverted bottlenecks. State dict as timm's.

Source: Qin et al., arXiv 2404.10518, the table of MNv4-Conv-S in its appendix.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from tvm_mobilenet.models.blocks import (
    Activation,
    Members,
    conv,
    depthwise,
    residual,
)
from tvm_mobilenet.models.network_config import NetworkConfig


class Conv(NamedTuple):
    """A full convolution with batch norm and ReLU."""

    kernel: int
    channels: int
    stride: int


class Bottleneck(NamedTuple):
    """Depthwise, 1x1 expansion, depthwise, 1x1 projection; a depthwise kernel of 0 is not there.

    The stride is that of the second depthwise layer. The paper calls it ExtraDW with both kernels,
    ConvNeXt with the first alone, and inverted bottleneck (IB) with the second alone.
    """

    start: int
    middle: int
    expansion: int
    channels: int
    stride: int = 1


STEM, LAST = 32, 1280
STAGES: tuple[tuple[Conv | Bottleneck, ...], ...] = (
    (Conv(3, 32, 2), Conv(1, 32, 1)),
    (Conv(3, 96, 2), Conv(1, 64, 1)),
    (
        Bottleneck(5, 5, 3, 96, 2),
        *[Bottleneck(0, 3, 2, 96)] * 4,
        Bottleneck(3, 0, 4, 96),
    ),
    (
        Bottleneck(3, 3, 6, 128, 2),
        Bottleneck(5, 5, 4, 128),
        Bottleneck(0, 5, 4, 128),
        Bottleneck(0, 5, 3, 128),
        *[Bottleneck(0, 3, 4, 128)] * 2,
    ),
    (Conv(1, 960, 1),),
)


def network(config: NetworkConfig) -> nn.Module:
    """(N, 3, R, R) → logits (N, num_classes), with PyTorch's initial weights."""
    channels, stages = STEM, []
    for stage in STAGES:
        blocks = []
        for block in stage:
            blocks.append(_block(channels, block))
            channels = block.channels
        stages.append(nn.Sequential(*blocks))
    return Members(
        conv_stem=conv(3, STEM, 3, 2),
        bn1=nn.BatchNorm2d(STEM),
        act1=nn.ReLU(),
        blocks=nn.Sequential(*stages),
        # the last 1x1 layer comes after pooling, where it costs a 49th
        pool=nn.AdaptiveAvgPool2d(1),
        conv_head=conv(channels, LAST),
        norm_head=nn.BatchNorm2d(LAST),
        act2=nn.ReLU(),
        flatten=nn.Flatten(),
        classifier=nn.Linear(LAST, config.num_classes),
    )


def _block(channels: int, block: Conv | Bottleneck) -> nn.Module:
    out = block.channels
    if isinstance(block, Conv):
        convolution = conv(channels, out, block.kernel, block.stride)
        return Members(conv=convolution, bn1=nn.BatchNorm2d(out), act=nn.ReLU())
    wide = channels * block.expansion
    start = _part(depthwise(channels, block.start)) if block.start else None
    middle = _part(depthwise(wide, block.middle, block.stride), nn.ReLU) if block.middle else None
    return residual(channels, out, block.stride)(
        dw_start=start,
        pw_exp=_part(conv(channels, wide), nn.ReLU),
        dw_mid=middle,
        pw_proj=_part(conv(wide, out)),
    )


def _part(convolution: nn.Conv2d, activation: Activation | None = None) -> nn.Module:
    norm = nn.BatchNorm2d(convolution.out_channels)
    return Members(conv=convolution, bn=norm, act=activation() if activation else None)
