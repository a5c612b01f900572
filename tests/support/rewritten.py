"""What the graph's rewrites make of a module: which kernels run, and right numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from support.static_programs import check
from torch import nn

IMAGE = (2, 3, 12, 12)
Function = Callable[[torch.Tensor], torch.Tensor]


def kernels(module: nn.Module, rng: np.random.Generator) -> list[str]:
    """Of the compiled module, whose numbers are right: the first word of each kernel's name.

    The operands of a Winograd product are not told apart from the product.
    """
    program = check(module, IMAGE, rng)
    names = [call.kernel for call in program.calls]
    return [name.partition("_")[0] for name in names if not name.startswith("winograd_operands")]


class Each(nn.Module):
    """Functions, each of the result of a convolution of its own; as many outputs."""

    def __init__(self, functions: Sequence[Function], channels: int = 8) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, channels, 1) for _ in functions)
        self.functions = functions

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pairs = zip(self.functions, self.convs, strict=True)
        return tuple(function(conv(x)) for function, conv in pairs)


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)
