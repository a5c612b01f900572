"""SSD: boxes and their classes from maps of six sizes, on any trunk.

Sources: Liu et al., arXiv 1512.02325; the sizes of the extra layers, the 1x1 predictors and the
priors are those of TensorFlow's ``ssd_mobilenet_v1_coco``, which has the 1.2 G multiply-adds and
6.8 M parameters of MobileNet's paper (Table 13). Names in the state dict are torchvision's:
``backbone.extra``, ``head.classification_head.module_list``, ``head.regression_head.module_list``;
the trunk's own come after ``backbone.trunk``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import nn

from tvm_mobilenet.models.blocks import conv, conv_norm

IMAGE_CHANNELS = 3


class Extra(NamedTuple):
    """A 1x1 layer and the 3x3 layer of stride 2 after it: their output channels."""

    squeezed: int
    channels: int


EXTRAS = (Extra(256, 512), Extra(128, 256), Extra(128, 256), Extra(64, 128))
MAPS = 2 + len(EXTRAS)  # two of the trunk, at strides 16 and 32

LEAST_SCALE, LARGEST_SCALE = 0.2, 0.95  # of a prior's side to the image's
# the first map has few priors: a small square one, and two of the least scale
FIRST_PRIORS = ((0.1, 1.0), (LEAST_SCALE, 2.0), (LEAST_SCALE, 0.5))  # scale, width ÷ height
RATIOS = (1.0, 2.0, 0.5, 3.0, 1 / 3)
# what an offset counts in: tenths of the prior's size, and fifths of a size's logarithm
CENTRE_VARIANCE, SIZE_VARIANCE = 0.1, 0.2
LARGEST_LOGARITHM = math.log(1000 / 16)  # of a size, as in torchvision


class Backbone(nn.Module):
    """(N, 3, R, R) → six maps: the trunk's, then those of the extra layers, each half as large."""

    def __init__(self, trunk: nn.Module, channels: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.extra = nn.ModuleList(_extra_layers(channels))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = list(self.trunk(x))
        for layers in self.extra:
            maps.append(layers(maps[-1]))
        return maps


class Predictor(nn.Module):
    """Maps → (N, priors, values): a 1x1 convolution a map gives the values of each prior there."""

    def __init__(self, channels: Sequence[int], priors: Sequence[int], values: int) -> None:
        super().__init__()
        self.values = values
        self.module_list = nn.ModuleList(
            conv(wide, count * values, bias=True)
            for wide, count in zip(channels, priors, strict=True)
        )

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        found = []
        for layer, x in zip(self.module_list, maps, strict=True):
            y = layer(x).permute(0, 2, 3, 1)
            found.append(y.reshape(y.shape[0], -1, self.values))
        return torch.cat(found, dim=1)


class Ssd(nn.Module):
    """(N, 3, R, R) → boxes (N, priors, 4) and probabilities (N, priors, classes).

    Boxes are left, top, right, bottom as shares of the image, and may reach beyond it. Class 0 is
    the background. ``trunk`` gives its maps at strides 16 and 32.
    """

    priors: torch.Tensor

    def __init__(self, trunk: nn.Module, resolution: int, classes: int) -> None:
        super().__init__()
        last = _shapes(trunk, resolution)[-1][0]
        self.backbone = Backbone(trunk, last)
        shapes = _shapes(self.backbone, resolution)
        channels = [shape[0] for shape in shapes]
        counts = [len(shapes_of_priors(number)) for number in range(MAPS)]
        self.head = nn.ModuleDict(
            {
                "classification_head": Predictor(channels, counts, classes),
                "regression_head": Predictor(channels, counts, 4),
            }
        )
        # no checkpoint holds what follows from the sizes
        values = priors_of([shape[-1] for shape in shapes])
        self.register_buffer("priors", values, persistent=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = self.backbone(x)
        boxes = decode(self.head["regression_head"](maps), self.priors)
        return boxes, self.head["classification_head"](maps).softmax(dim=2)


def decode(offsets: torch.Tensor, priors: torch.Tensor) -> torch.Tensor:
    """Offsets (N, priors, 4) from priors (priors, 4) → boxes: left, top, right, bottom.

    Both are centre x and y, width and height; a size's offset is of its logarithm.
    """
    centres = offsets[..., :2] * CENTRE_VARIANCE * priors[:, 2:] + priors[:, :2]
    growth = (offsets[..., 2:] * SIZE_VARIANCE).clamp(max=LARGEST_LOGARITHM)
    halves = growth.exp() * (priors[:, 2:] / 2)
    return torch.cat((centres - halves, centres + halves), dim=2)


def shapes_of_priors(number: int) -> list[tuple[float, float]]:
    """Width and height of each prior at a pixel of the map ``number``, as shares of the image."""
    pairs: list[tuple[float, float]] = list(FIRST_PRIORS)
    if number > 0:
        scale, larger = _scale(number), _scale(number + 1)
        # one more square, between this map's scale and the next one's
        pairs = [(scale, ratio) for ratio in RATIOS] + [(math.sqrt(scale * larger), 1.0)]
    return [(scale * math.sqrt(ratio), scale / math.sqrt(ratio)) for scale, ratio in pairs]


def priors_of(sizes: Sequence[int]) -> torch.Tensor:
    """(priors, 4): centre x and y, width and height of every prior of square maps of such sizes.

    Their order is that of the predictors' values: maps, rows, columns, then shapes.
    """
    found = [
        ((column + 0.5) / size, (row + 0.5) / size, width, height)
        for number, size in enumerate(sizes)
        for row in range(size)
        for column in range(size)
        for width, height in shapes_of_priors(number)
    ]
    return torch.tensor(found)


def _scale(number: int) -> float:
    """The scale of the map ``number``; the last one's next is the whole image."""
    if number == MAPS:
        return 1.0
    return LEAST_SCALE + (LARGEST_SCALE - LEAST_SCALE) * number / (MAPS - 1)


def _extra_layers(channels: int) -> Iterator[nn.Module]:
    for extra in EXTRAS:
        yield nn.Sequential(
            conv_norm(conv(channels, extra.squeezed), nn.ReLU6),
            conv_norm(conv(extra.squeezed, extra.channels, 3, 2), nn.ReLU6),
        )
        channels = extra.channels


def _shapes(network: nn.Module, resolution: int) -> list[tuple[int, ...]]:
    """(C, H, W) of each map that ``network`` gives, computed on tensors without values."""
    x = torch.empty(1, IMAGE_CHANNELS, resolution, resolution, device="meta")
    with torch.inference_mode():
        maps = copy.deepcopy(network).to("meta").eval()(x)
    return [tuple(one.shape[1:]) for one in maps]
