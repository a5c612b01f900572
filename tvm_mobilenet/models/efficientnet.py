"""EfficientNet-B0 and EfficientNet-Lite0 to Lite4. State dicts as timm's.

Source: Tan and Le, arXiv 1905.11946, Table 1. Lite is the same table without squeeze-excite and
with ReLU6 in place of SiLU; Lite1 to Lite4 scale widths and depths, but not the stem, the depths of
the first and last stages and the last convolution (github.com/tensorflow/tpu, efficientnet/lite).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from tvm_mobilenet.models.blocks import (
    Activation,
    GlobalPool,
    Members,
    conv,
    depthwise,
    make_divisible,
    residual,
    timm_depthwise_separable,
    timm_squeeze_excite,
)
from tvm_mobilenet.models.network_config import NetworkConfig


class Stage(NamedTuple):
    """One row of Table 1; the stride is that of the stage's first block."""

    expansion: int
    kernel: int
    channels: int
    repeats: int
    stride: int


class Scale(NamedTuple):
    """How a member of the family departs from the table."""

    width: float
    depth: float
    activation: Activation
    squeeze: bool = False


STEM, LAST = 32, 1280
STAGES = (
    Stage(1, 3, 16, 1, 1),
    Stage(6, 3, 24, 2, 2),
    Stage(6, 5, 40, 2, 2),
    Stage(6, 3, 80, 3, 2),
    Stage(6, 5, 112, 3, 1),
    Stage(6, 5, 192, 4, 2),
    Stage(6, 3, 320, 1, 1),
)
SCALES = {
    "efficientnet_b0": Scale(1.0, 1.0, nn.SiLU, squeeze=True),
    "efficientnet_lite0": Scale(1.0, 1.0, nn.ReLU6),
    "efficientnet_lite1": Scale(1.0, 1.1, nn.ReLU6),
    "efficientnet_lite2": Scale(1.1, 1.2, nn.ReLU6),
    "efficientnet_lite3": Scale(1.2, 1.4, nn.ReLU6),
    "efficientnet_lite4": Scale(1.4, 1.8, nn.ReLU6),
}
SQUEEZE = 4  # squeezed to a quarter of the channels that come into the block, before expansion


def network(config: NetworkConfig) -> nn.Module:
    """(N, 3, R, R) → logits (N, num_classes), with PyTorch's initial weights."""
    scale = SCALES[config.model]
    return Members(
        conv_stem=conv(3, STEM, 3, 2),
        bn1=nn.BatchNorm2d(STEM),
        act1=scale.activation(),
        blocks=nn.Sequential(*_stages(scale)),
        conv_head=conv(make_divisible(STAGES[-1].channels * scale.width), LAST),
        bn2=nn.BatchNorm2d(LAST),
        act2=scale.activation(),
        pool=GlobalPool(),
        classifier=nn.Linear(LAST, config.num_classes),
    )


def _stages(scale: Scale) -> Iterator[nn.Module]:
    channels = STEM
    for stage in STAGES:
        out = make_divisible(stage.channels * scale.width)
        scaled = stage not in (STAGES[0], STAGES[-1])
        repeats = math.ceil(stage.repeats * scale.depth) if scaled else stage.repeats
        blocks = [_block(channels, stage, out, stage.stride, scale)]
        blocks += [_block(out, stage, out, 1, scale) for _ in range(repeats - 1)]
        yield nn.Sequential(*blocks)
        channels = out


def _block(channels: int, stage: Stage, out: int, stride: int, scale: Scale) -> nn.Module:
    wide = channels * stage.expansion
    convolution = depthwise(wide, stage.kernel, stride)
    squeeze_excite = (
        timm_squeeze_excite(wide, channels // SQUEEZE, scale.activation, nn.Sigmoid)
        if scale.squeeze
        else None
    )
    container = residual(channels, out, stride)
    if stage.expansion == 1:
        return timm_depthwise_separable(
            convolution, out, scale.activation, squeeze_excite, linear=True, container=container
        )
    return container(
        conv_pw=conv(channels, wide),
        bn1=nn.BatchNorm2d(wide),
        act1=scale.activation(),
        conv_dw=convolution,
        bn2=nn.BatchNorm2d(wide),
        act2=scale.activation(),
        se=squeeze_excite,
        conv_pwl=conv(wide, out),
        bn3=nn.BatchNorm2d(out),
    )
