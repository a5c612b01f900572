"""EfficientNet-B0 as torchvision writes it and MNASNet as timm does, by themselves.

Written after their sources, from nothing of this project, so that neither has to be installed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

# of each stage: expansion, kernel, stride, channels and repeats
B0 = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
MNASNET = (
    (3, 3, 2, 24, 3),
    (3, 5, 2, 40, 3),
    (6, 5, 2, 80, 3),
    (6, 3, 1, 96, 2),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


def _convolution(inputs: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, out, kernel, stride, kernel // 2, groups=groups, bias=False)


def _silu_after(
    inputs: int, out: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    convolution = _convolution(inputs, out, kernel, stride, groups)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.SiLU())


class SqueezeExcitation(nn.Module):
    """torchvision's."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = nn.functional.silu(self.fc1(x.mean((2, 3), keepdim=True)))
        y: torch.Tensor = x * self.fc2(gate).sigmoid()
        return y


class MBConv(nn.Module):
    """torchvision's, whose members are numbered."""

    def __init__(self, inputs: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.residual = stride == 1 and inputs == out
        self.block = nn.Sequential(
            *([_silu_after(inputs, wide, 1)] if expansion > 1 else []),
            _silu_after(wide, wide, kernel, stride, wide),
            SqueezeExcitation(wide, inputs // 4),
            nn.Sequential(_convolution(wide, out, 1), nn.BatchNorm2d(out)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.block(x)
        return x + y if self.residual else y


class TorchvisionB0(nn.Module):
    """``torchvision.models.efficientnet_b0``."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        features: list[nn.Module] = [_silu_after(3, 32, 3, 2)]
        channels = 32
        for expansion, kernel, stride, out, repeats in B0:
            blocks: list[nn.Module] = []
            for repeat in range(repeats):
                blocks.append(MBConv(channels, out, kernel, 1 if repeat else stride, expansion))
                channels = out
            features.append(nn.Sequential(*blocks))
        self.features = nn.Sequential(*features, _silu_after(channels, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.classifier(self.features(x).mean((2, 3)))
        return y


class Separable(nn.Module):
    """timm's first block, linear at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_dw = _convolution(32, 32, 3, groups=32)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv_pw = _convolution(32, 16, 1)
        self.bn2 = nn.BatchNorm2d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.bn2(self.conv_pw(self.bn1(self.conv_dw(x)).relu()))
        return y


class Inverted(nn.Module):
    """timm's."""

    def __init__(self, inputs: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.residual = stride == 1 and inputs == out
        self.conv_pw = _convolution(inputs, wide, 1)
        self.bn1 = nn.BatchNorm2d(wide)
        self.conv_dw = _convolution(wide, wide, kernel, stride, wide)
        self.bn2 = nn.BatchNorm2d(wide)
        self.conv_pwl = _convolution(wide, out, 1)
        self.bn3 = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.bn1(self.conv_pw(x)).relu()
        y = self.bn3(self.conv_pwl(self.bn2(self.conv_dw(y)).relu()))
        return x + y if self.residual else y


class TimmMnasnet(nn.Module):
    """timm's ``mnasnet_100``."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv_stem = _convolution(3, 32, 3, 2)
        self.bn1 = nn.BatchNorm2d(32)
        stages, channels = [nn.Sequential(Separable())], 16
        for expansion, kernel, stride, out, repeats in MNASNET:
            blocks: list[nn.Module] = []
            for repeat in range(repeats):
                blocks.append(Inverted(channels, out, kernel, 1 if repeat else stride, expansion))
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = _convolution(channels, 1280, 1)
        self.bn2 = nn.BatchNorm2d(1280)
        self.classifier = nn.Linear(1280, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.bn1(self.conv_stem(x)).relu())
        x = self.bn2(self.conv_head(x)).relu()
        y: torch.Tensor = self.classifier(x.mean((2, 3)))
        return y


OTHERS: dict[str, tuple[Callable[[int], nn.Module], str, str]] = {
    "torchvision EfficientNet-B0": (TorchvisionB0, "efficientnet_b0", "torchvision"),
    "timm MNASNet": (TimmMnasnet, "mnasnet1_0", "timm"),
}
