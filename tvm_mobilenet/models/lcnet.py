"""PP-LCNet 1.0x: depthwise-separable blocks with hard-swish, for CPUs. State dict as timm's.

Source: Cui et al., arXiv 2109.15099, Table 1.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from tvm_mobilenet.models.blocks import (
    Members,
    conv,
    depthwise,
    timm_depthwise_separable,
    timm_squeeze_excite,
)
from tvm_mobilenet.models.network_config import NetworkConfig


class Block(NamedTuple):
    """One depthwise-separable block: its depthwise kernel, output channels and stride."""

    kernel: int
    channels: int
    stride: int
    squeeze: bool = False


STEM, LAST = 16, 1280
STAGES = (
    (Block(3, 32, 1),),
    (Block(3, 64, 2), Block(3, 64, 1)),
    (Block(3, 128, 2), Block(3, 128, 1)),
    (Block(3, 256, 2), Block(5, 256, 1)),
    (Block(5, 256, 1),) * 4,
    (Block(5, 512, 2, squeeze=True), Block(5, 512, 1, squeeze=True)),
)
SQUEEZE = 4  # the squeezed layer has a quarter of the channels


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
        act1=nn.Hardswish(),
        blocks=nn.Sequential(*stages),
        # the paper has the last 1x1 layer after pooling, where it costs a 49th
        pool=nn.AdaptiveAvgPool2d(1),
        conv_head=conv(channels, LAST, bias=True),
        act2=nn.Hardswish(),
        flatten=nn.Flatten(),
        classifier=nn.Linear(LAST, config.num_classes),
    )


def _block(channels: int, block: Block) -> nn.Module:
    squeeze_excite = (
        timm_squeeze_excite(channels, channels // SQUEEZE, nn.ReLU, nn.Hardsigmoid)
        if block.squeeze
        else None
    )
    # without shortcuts: on a CPU they cost more than they gain (section 3)
    return timm_depthwise_separable(
        depthwise(channels, block.kernel, block.stride),
        block.channels,
        nn.Hardswish,
        squeeze_excite,
        linear=False,
        container=Members,
    )
