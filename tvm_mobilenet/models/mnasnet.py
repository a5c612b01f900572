"""MNASNet 1.0, found by search for latency on a phone. State dict as torchvision's.

Source: Tan et al., arXiv 1807.11626. This is B1, the network without squeeze-excite, as torchvision
has it; the A1 of the paper has squeeze-excite.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from torch import nn

from tvm_mobilenet.models.blocks import GlobalPool, Members, conv, depthwise, residual
from tvm_mobilenet.models.network_config import NetworkConfig


class Stage(NamedTuple):
    """Blocks of one shape; the stride is that of the first."""

    expansion: int
    kernel: int
    channels: int
    repeats: int
    stride: int


STEM, FIRST, LAST = 32, 16, 1280
STAGES = (
    Stage(3, 3, 24, 3, 2),
    Stage(3, 5, 40, 3, 2),
    Stage(6, 5, 80, 3, 2),
    Stage(6, 3, 96, 2, 1),
    Stage(6, 5, 192, 4, 2),
    Stage(6, 3, 320, 1, 1),
)
DROPOUT = 0.2
norm = partial(nn.BatchNorm2d, momentum=1 - 0.9997)  # TensorFlow's decay of 0.9997


def network(config: NetworkConfig) -> nn.Module:
    """(N, 3, R, R) → logits (N, num_classes), with PyTorch's initial weights."""
    layers: list[nn.Module] = [
        *(conv(3, STEM, 3, 2), norm(STEM), nn.ReLU()),
        *(depthwise(STEM, 3), norm(STEM), nn.ReLU()),
        *(conv(STEM, FIRST), norm(FIRST)),
    ]
    channels = FIRST
    for stage in STAGES:
        layers.append(_stack(channels, stage))
        channels = stage.channels
    layers += [conv(channels, LAST), norm(LAST), nn.ReLU()]
    return Members(
        layers=nn.Sequential(*layers),
        pool=GlobalPool(),
        classifier=nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(LAST, config.num_classes)),
    )


def _stack(channels: int, stage: Stage) -> nn.Sequential:
    first = _inverted_residual(channels, stage, stage.stride)
    others = (_inverted_residual(stage.channels, stage, 1) for _ in range(stage.repeats - 1))
    return nn.Sequential(first, *others)


def _inverted_residual(channels: int, stage: Stage, stride: int) -> nn.Module:
    wide, out = channels * stage.expansion, stage.channels
    members = nn.Sequential(
        *(conv(channels, wide), norm(wide), nn.ReLU()),
        *(depthwise(wide, stage.kernel, stride), norm(wide), nn.ReLU()),
        *(conv(wide, out), norm(out)),
    )
    return residual(channels, out, stride)(layers=members)
