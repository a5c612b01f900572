"""The layers with weights of a network of ours, in order, with the shapes of their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tvm_mobilenet import models

Kind = Literal["conv", "depthwise", "norm", "linear"]


@dataclass(frozen=True)
class Unit:
    """One layer: its path in the module, and the shape of each of its tensors by PyTorch's name."""

    path: str
    kind: Kind
    shapes: Mapping[str, tuple[int, ...]]


def units_of(config: models.Config) -> list[Unit]:
    """The layers of ``config``, none of whose weights is made. Imports PyTorch."""
    import torch
    from torch import nn

    with torch.device("meta"):
        network = models.network_of(config)
    units = []
    for path, module in network.named_modules():
        kind: Kind
        if isinstance(module, nn.Conv2d):
            depthwise = module.groups == module.in_channels > 1
            kind = "depthwise" if depthwise else "conv"
        elif isinstance(module, nn.BatchNorm2d):
            kind = "norm"
        elif isinstance(module, nn.Linear):
            kind = "linear"
        else:
            continue
        shapes = {
            name: tuple(tensor.shape)
            for name, tensor in module.state_dict().items()
            if name != "num_batches_tracked"
        }
        units.append(Unit(path, kind, shapes))
    return units
