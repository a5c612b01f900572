"""What the graph's rewrites make of pooling, moved channels, groups, products and larger images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.rewritten import IMAGE, Each, kernels
from support.static_programs import check
from torch import nn
from torch.nn import functional

# Pooling over windows


def test_pooling(rng: np.random.Generator) -> None:
    pools = [
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d((2, 3), ceil_mode=True),
        nn.MaxPool2d(3, 1),
        nn.AvgPool2d(3, 2, 1),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.AvgPool2d((3, 2), (1, 2)),
    ]
    found = kernels(Each(pools), rng)
    assert [found.count(kind) for kind in ("max", "mean", "stem", "unpack")] == [3, 4, 7, 7]


def test_other_pooling_is_left_to_tvm(rng: np.random.Generator) -> None:
    pools = [
        nn.MaxPool2d(3, 1, 1, dilation=2),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        nn.MaxPool2d(9, 1, 4),
    ]
    check(Each(pools), IMAGE, rng)


def test_pooling_stays_in_the_blocked_layout(rng: np.random.Generator) -> None:
    stages = [nn.Conv2d(3, 8, 3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 1), nn.AvgPool2d(2)]
    module = nn.Sequential(*stages, nn.Conv2d(8, 4, 1))
    expected = ["stem", "max", "pointwise", "mean", "pointwise", "unpack"]
    assert kernels(module, rng) == expected


# Channels that change their place


class Shuffled(nn.Module):
    """Two units of ShuffleNet V2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, 2, 1)
        self.branches = nn.ModuleList(nn.Conv2d(6, 6, 1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.stem(x))
        for branch in self.branches:
            first, second = y.chunk(2, dim=1)
            y = torch.cat((first, functional.relu(branch(second))), dim=1)
            batch, channels, height, width = y.shape
            y = y.reshape(batch, 2, channels // 2, height, width).transpose(1, 2)
            y = y.reshape(batch, channels, height, width)
        return y.mean((2, 3))


def test_a_shuffle_is_one_copy_where_it_is_read(rng: np.random.Generator) -> None:
    units = ["move", "pointwise", "move", "pointwise", "move"]
    assert kernels(Shuffled(), rng) == ["stem", *units, "global"]


class Joined(nn.Module):
    """Channels of several tensors, one of them the image, cut out and given out."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 5, 1), nn.Conv2d(10, 8, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = torch.cat((self.one(x), x, self.one(x)[:, 1:3]), dim=1)
        a, b = torch.split(y, [3, 7], dim=1)
        return self.two(y), a, b * 2


def test_channels_of_several_tensors(rng: np.random.Generator) -> None:
    check(Joined(), IMAGE, rng)


class SplitRows(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first, second, third = torch.split(x, 5, dim=2)
        return first + 1, second - first, third * 2


def test_parts_along_another_dimension(rng: np.random.Generator) -> None:
    check(SplitRows(), IMAGE, rng)


# Convolutions with groups


def test_groups_and_dilation(rng: np.random.Generator) -> None:
    convs = [
        nn.Conv2d(12, 24, 3, padding=1, groups=3),
        nn.Conv2d(12, 6, 1, groups=2),
        nn.Conv2d(12, 36, 3, groups=12),
        nn.Conv2d(12, 12, 3, padding=2, dilation=2, groups=12),
        nn.Conv2d(12, 20, 3, stride=2, dilation=(1, 3)),
        nn.Conv2d(12, 24, 3, padding=2, dilation=2, groups=4),
    ]
    found = kernels(Each([nn.Sequential(conv, nn.SiLU()) for conv in convs], 12), rng)
    kinds = {kind: found.count(kind) for kind in ("conv2d", "depthwise", "pointwise", "move")}
    assert kinds == {"conv2d": 3, "depthwise": 2, "pointwise": 1, "move": 1}
    assert len(found) == 6 + 7 + 6, "each has its stem, and a result that is unpacked"


class AfterGroups(nn.Module):
    """A grouped convolution leaves vectors of 8 channels, where everything else has 16."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped = nn.Conv2d(3, 48, 1), nn.Conv2d(48, 48, 1, groups=6)
        self.depthwise = nn.Conv2d(48, 48, 3, padding=1, groups=48)
        self.scale = nn.Conv2d(48, 48, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = functional.relu(self.first(x))
        z = functional.silu(self.grouped(y))
        scale = torch.sigmoid(self.scale(z.mean((2, 3), keepdim=True)))
        pooled = functional.max_pool2d(z, 2)
        larger = functional.interpolate(z, scale_factor=2.0)
        return self.depthwise(z) + y, z * scale - y, pooled, larger, z.mean((2, 3))


def test_what_reads_the_narrow_vectors_of_groups(rng: np.random.Generator) -> None:
    check(AfterGroups(), IMAGE, rng)


# Matrix products


class Tokens(nn.Module):
    """A matrix for each pixel, as vision transformers have them: (N, pixels, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 20)
        self.two = nn.Linear(20, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.conv(x).flatten(2).transpose(1, 2)
        y: torch.Tensor = self.two(functional.relu(self.one(tokens)))
        return y


def test_products_of_more_than_two_dimensions(rng: np.random.Generator) -> None:
    assert kernels(Tokens(), rng) == ["stem", "unpack", "transpose", "dense", "dense"]


# Images made larger


@pytest.mark.parametrize(
    "resize",
    [
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Upsample((7, 30), mode="nearest"),
        nn.Upsample(scale_factor=3, mode="bilinear"),
        nn.Upsample((15, 9), mode="bilinear", align_corners=True),
        nn.Upsample((5, 24), mode="bilinear"),
    ],
    ids=["twice", "nearest", "thrice", "corners", "smaller"],
)
def test_resizing_stays_in_the_blocked_layout(resize: nn.Module, rng: np.random.Generator) -> None:
    module = nn.Sequential(nn.Conv2d(3, 20, 3), resize, nn.Conv2d(20, 4, 3, padding=1))
    assert kernels(module, rng) == ["stem", "resize2d", "winograd", "unpack"]


def test_cubic_interpolation_is_left_to_tvm(rng: np.random.Generator) -> None:
    check(nn.Upsample(scale_factor=2, mode="bicubic"), IMAGE, rng)


@pytest.mark.parametrize("channels", [1, 20])
@pytest.mark.parametrize("size", [(2, 2), (3, 1)], ids=["2x2", "3x1"])
def test_windows_side_by_side_are_a_1x1_convolution(
    channels: int, size: tuple[int, int], rng: np.random.Generator
) -> None:
    larger = nn.ConvTranspose2d(8, channels, size, size)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), larger, nn.BatchNorm2d(channels), nn.SiLU())
    assert kernels(module, rng) == ["stem", "pointwise", "channels", "unpack"]


@pytest.mark.parametrize(
    "larger",
    [nn.ConvTranspose2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(3, 6, 2, 2, groups=3)],
    ids=["that overlap", "with groups"],
)
def test_other_transposed_convolutions(larger: nn.Module, rng: np.random.Generator) -> None:
    check(larger, IMAGE, rng)
