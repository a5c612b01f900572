"""MobileNets as torchvision and timm write them: their names, module by module, by themselves.

Written after their sources, from nothing of this project, so that neither has to be installed.
"""

from __future__ import annotations

import torch
from torch import nn


def eights(channels: float) -> int:
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _conv_norm(inputs: int, out: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
    pad = (kernel - 1) // 2
    convolution = nn.Conv2d(inputs, out, kernel, stride, pad, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU6())


class InvertedResidual(nn.Module):
    """torchvision's."""

    def __init__(self, inputs: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == out
        expand = [_conv_norm(inputs, hidden, 1, 1, 1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            _conv_norm(hidden, hidden, 3, stride, hidden),
            nn.Conv2d(hidden, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        return x + y if self.residual else y


class TorchvisionV2(nn.Module):
    """``torchvision.models.mobilenet_v2``."""

    def __init__(self, width: float, classes: int) -> None:
        super().__init__()
        channels = eights(32 * width)
        features: list[nn.Module] = [_conv_norm(3, channels, 3, 2, 1)]
        for expansion, base, repeats, stride in (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ):
            for repeat in range(repeats):
                out = eights(base * width)
                one = InvertedResidual(channels, out, 1 if repeat else stride, expansion)
                features.append(one)
                channels = out
        last = eights(1280 * max(1, width))
        self.features = nn.Sequential(*features, _conv_norm(channels, last, 1, 1, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.classifier(self.features(x).mean((2, 3)))
        return y


class DepthwiseSeparable(nn.Module):
    """timm's, without a skip, which its MobileNetV1 has none of."""

    def __init__(self, inputs: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv_pw = nn.Conv2d(inputs, out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn1(self.conv_dw(x)).clamp(0, 6)
        y: torch.Tensor = self.bn2(self.conv_pw(x)).clamp(0, 6)
        return y


class TimmV1(nn.Module):
    """timm's ``mobilenetv1_*``: stages of (channels, stride, repeats)."""

    STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 2, 6), (1024, 2, 2))

    def __init__(self, width: float, classes: int) -> None:
        super().__init__()
        channels = eights(32 * width)
        self.conv_stem = nn.Conv2d(3, channels, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        stages = []
        for base, stride, repeats in self.STAGES:
            blocks = []
            for repeat in range(repeats):
                out = eights(base * width)
                blocks.append(DepthwiseSeparable(channels, out, 1 if repeat else stride))
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.bn1(self.conv_stem(x)).clamp(0, 6))
        y: torch.Tensor = self.classifier(x.mean((2, 3)))
        return y


class Inverted(nn.Module):
    """timm's InvertedResidual, without squeeze-excite."""

    def __init__(self, inputs: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == out
        self.conv_pw = nn.Conv2d(inputs, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv_dw = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv_pwl = nn.Conv2d(hidden, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = self.bn1(self.conv_pw(x)).clamp(0, 6)
        wide = self.bn2(self.conv_dw(wide)).clamp(0, 6)
        y: torch.Tensor = self.bn3(self.conv_pwl(wide))
        return x + y if self.residual else y


class Linear16(nn.Module):
    """timm's first block of MobileNetV2: separable, and linear at its end."""

    def __init__(self, inputs: int, out: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv_pw = nn.Conv2d(inputs, out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn1(self.conv_dw(x)).clamp(0, 6)
        y: torch.Tensor = self.bn2(self.conv_pw(x))
        return y


class TimmV2(nn.Module):
    """timm's ``mobilenetv2_*``."""

    STAGES = ((24, 2, 2), (32, 2, 3), (64, 2, 4), (96, 1, 3), (160, 2, 3), (320, 1, 1))

    def __init__(self, width: float, classes: int) -> None:
        super().__init__()
        stem, channels = eights(32 * width), eights(16 * width)
        self.conv_stem = nn.Conv2d(3, stem, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        stages = [nn.Sequential(Linear16(stem, channels))]
        for base, stride, repeats in self.STAGES:
            blocks = []
            for repeat in range(repeats):
                out = eights(base * width)
                blocks.append(Inverted(channels, out, 1 if repeat else stride, 6))
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        last = eights(1280 * max(1, width))
        self.conv_head = nn.Conv2d(channels, last, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(last)
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.bn1(self.conv_stem(x)).clamp(0, 6))
        x = self.bn2(self.conv_head(x)).clamp(0, 6)
        y: torch.Tensor = self.classifier(x.mean((2, 3)))
        return y
