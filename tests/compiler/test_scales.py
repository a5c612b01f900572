"""Squeeze-excite's product goes into the weights of the 1x1 convolution after it, or does not."""

from __future__ import annotations

import numpy as np
import pytest
from support.static_programs import check
from torch import nn


class SqueezeExcite(nn.Module):
    """A depthwise convolution, its result scaled, and what reads that."""

    def __init__(self, last: nn.Module, *, read_twice: bool = False) -> None:
        super().__init__()
        self.start = nn.Sequential(nn.Conv2d(3, 20, 3, 2, 1), nn.SiLU())
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            *(nn.Conv2d(20, 8, 1), nn.ReLU()),
            *(nn.Conv2d(8, 20, 1), nn.Sigmoid()),
        )
        self.last = last
        self.read_twice = read_twice

    def forward(self, x):  # type: ignore[no-untyped-def]
        x = self.start(x)
        product = x * self.gate(x)
        y = self.last(product)
        return (y, product) if self.read_twice else y


def kinds(module: nn.Module, shape: tuple[int, ...], rng: np.random.Generator) -> set[str]:
    """The first words of the names of the kernels, once they have given PyTorch's result."""
    return {call.kernel.partition("_")[0] for call in check(module, shape, rng).calls}


@pytest.mark.parametrize("outputs", [24, 33])
def test_the_weights_are_scaled(outputs: int, rng: np.random.Generator) -> None:
    found = kinds(SqueezeExcite(nn.Conv2d(20, outputs, 1)), (1, 3, 15, 18), rng)
    assert "scale" in found and "elementwise" not in found


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (SqueezeExcite(nn.Conv2d(20, 24, 1)), (2, 3, 16, 16)),  # each image has another scale
        (SqueezeExcite(nn.Conv2d(20, 24, 1)), (1, 3, 8, 8)),  # more weights than pixels
        (SqueezeExcite(nn.Conv2d(20, 24, 3, padding=1)), (1, 3, 16, 16)),
        (SqueezeExcite(nn.Conv2d(20, 24, 1), read_twice=True), (1, 3, 16, 16)),
    ],
    ids=["batch", "small image", "3x3", "read twice"],
)
def test_elsewhere_the_tensor_is(
    module: nn.Module, shape: tuple[int, ...], rng: np.random.Generator
) -> None:
    found = kinds(module, shape, rng)
    assert "elementwise" in found and "scale" not in found
