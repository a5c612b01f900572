"""Building blocks of the networks, each with the names its state dict has elsewhere.

A network here is a tree of ``nn.Sequential`` with named members, so that the tree alone says what
is computed. Names are torchvision's or timm's, whose checkpoints then load as they are. Layout is
NCHW; a convolution of stride 1 keeps the size, one of stride 2 halves it, rounding up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from tvm_mobilenet.models.stages import Padding
from tvm_mobilenet.models.stages import make_divisible as make_divisible

Norm = Callable[[int], nn.Module]
Activation = Callable[[], nn.Module]


def conv(
    channels: int,
    out: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    *,
    bias: bool = False,
) -> nn.Conv2d:
    """A convolution with symmetric padding of half its odd kernel."""
    return nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=bias)


def depthwise(channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """``conv`` with one filter a channel."""
    return conv(channels, channels, kernel, stride, groups=channels)


class PaddedAfter(nn.Conv2d):
    """A 3x3 convolution of stride 2 with zeros below and to the right only.

    TensorFlow pads an input of even size so, and one of odd size on all sides.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(functional.pad(x, (0, 1, 0, 1)))


def halving_conv(
    channels: int, out: int, size: int, groups: int = 1, *, padding: Padding
) -> nn.Conv2d:
    """A 3x3 convolution of stride 2 for maps of ``size`` pixels, padded as that framework does."""
    if padding == "pytorch" or size % 2:
        return conv(channels, out, 3, 2, groups)
    return PaddedAfter(channels, out, 3, 2, groups=groups, bias=False)


def conv_norm(
    convolution: nn.Conv2d, activation: Activation | None, norm: Norm = nn.BatchNorm2d
) -> nn.Sequential:
    """Convolution, batch norm and activation, numbered as in torchvision's Conv2dNormActivation."""
    members = [convolution, norm(convolution.out_channels)]
    return nn.Sequential(*members, *([activation()] if activation else []))


class Members(nn.Sequential):
    """``nn.Sequential`` of named members; those that are None are left out."""

    def __init__(self, **members: nn.Module | None) -> None:
        present = ((name, one) for name, one in members.items() if one is not None)
        super().__init__(OrderedDict(present))

    def through(self, x: torch.Tensor) -> torch.Tensor:
        """What the members make of x, one after the other."""
        for member in self:
            x = member(x)
        return x


class Branch(Members):
    """Members whose result is added to that of others beside them."""


class Residual(Branch):
    """What the members make of x (N, C, H, W), of the same shape, and x added to it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.through(x) + x


def residual(channels: int, out: int, stride: int) -> type[Members]:
    """Residual or, where a block changes the shape, the members alone."""
    return Residual if stride == 1 and channels == out else Members


class SqueezeExcite(Members):
    """x (N, C, H, W) times a gate a channel, which depends on all channels' means.

    The members make the gates of (N, C, 1, 1). Source: Hu et al., arXiv 1709.01507.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.through(x.mean(dim=(2, 3), keepdim=True))


class GlobalPool(nn.Module):
    """(N, C, H, W) → each channel's mean, (N, C)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


def timm_squeeze_excite(
    channels: int, squeezed: int, activation: Activation, gate: Activation
) -> SqueezeExcite:
    """Squeeze-and-excite under timm's names."""
    return SqueezeExcite(
        conv_reduce=conv(channels, squeezed, bias=True),
        act1=activation(),
        conv_expand=conv(squeezed, channels, bias=True),
        gate=gate(),
    )


def timm_depthwise_separable(
    convolution: nn.Conv2d,
    out: int,
    activation: Activation,
    squeeze_excite: nn.Module | None = None,
    *,
    linear: bool,
    container: type[Members],
) -> Members:
    """A depthwise convolution, then 1x1 to ``out`` channels, under timm's names.

    ``linear``: without an activation at the end. ``container`` is as ``residual`` chooses it.
    """
    channels = convolution.out_channels
    return container(
        conv_dw=convolution,
        bn1=nn.BatchNorm2d(channels),
        act1=activation(),
        se=squeeze_excite,
        conv_pw=conv(channels, out),
        bn2=nn.BatchNorm2d(out),
        act2=None if linear else activation(),
    )
