"""A small network of everything that the family of MobileNet uses beside its own convolutions."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Family(nn.Module):
    """Squeeze-excite, residuals, activations, pooling, a shuffle, resizing: (1, 3, 16, 16) →
    (1, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, 2, 1)
        self.expand, self.project = nn.Conv2d(24, 40, 1), nn.Conv2d(40, 24, 1)
        self.depthwise = nn.Conv2d(40, 40, 5, padding=2, groups=40)
        self.squeeze, self.excite = nn.Conv2d(40, 10, 1), nn.Conv2d(10, 40, 1)
        self.branch = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.large, self.small = nn.Conv2d(24, 24, 3, padding=1), nn.Conv2d(24, 24, 1)
        self.grouped = nn.Conv2d(24, 48, 1, groups=3)
        self.wider = nn.ConvTranspose2d(48, 20, 2, 2)
        self.head = nn.Linear(20, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.hardswish(self.stem(x))
        z = functional.silu(self.depthwise(functional.relu6(self.expand(y))))
        scale = functional.relu(self.squeeze(z.mean((2, 3), keepdim=True)))
        y = y + self.project(z * torch.sigmoid(self.excite(scale)))
        first, second = y.chunk(2, dim=1)
        y = torch.cat((first, functional.gelu(self.branch(second))), dim=1)
        y = y.reshape(1, 2, 12, 8, 8).transpose(1, 2).reshape(1, 24, 8, 8)
        y = functional.leaky_relu(self.large(y) + self.small(y) + y, 0.1)
        y = functional.max_pool2d(y, 3, 2, 1) + functional.avg_pool2d(y, 2)
        y = torch.tanh(self.grouped(functional.interpolate(y, scale_factor=2.0, mode="bilinear")))
        logits: torch.Tensor = self.head(functional.hardsigmoid(self.wider(y)).mean((2, 3)))
        return logits


SHAPE = (1, 3, 16, 16)
