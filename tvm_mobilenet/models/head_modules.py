"""The heads as PyTorch modules, on any trunk of this room, whose state dict keeps its names."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tvm_mobilenet.models.blocks import Members
from tvm_mobilenet.models.heads import FEATURE_STRIDES, SSD_STRIDES
from tvm_mobilenet.models.network_config import NetworkConfig
from tvm_mobilenet.models.stages import MobileNetConfig

Config = MobileNetConfig | NetworkConfig

HEAD_BEGINS = ("pool", "head")  # the members that end a trunk
NOMINAL_SIZE = 256  # of an image, in pixels: every stride divides it
LEAST_LENGTH = 1e-12  # of a vector that is brought to length 1, as PyTorch's ``normalize`` has it


class Normalised(nn.Module):
    """x (N, C) → x / ‖x‖, each row of length 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = x.square().sum(dim=1, keepdim=True).sqrt()
        return x / length.clamp(min=LEAST_LENGTH)


class FeatureTrunk(Members):
    """(N, 3, R, R) → the trunk's last maps (N, C, R / stride, R / stride), one for each stride.

    A map is what a whole block gives, and at the last stride what comes before the pooling.
    """

    def __init__(self, network: Members, strides: Sequence[int]) -> None:
        members = dict(network.named_children())
        first = next(place for place, name in enumerate(members) if name in HEAD_BEGINS)
        super().__init__(**dict(list(members.items())[:first]))
        last_at = self._last_at()
        self.ends = frozenset(last_at[stride] for stride in strides)

    def forward(self, x: torch.Tensor) -> Any:
        found = []
        for place, unit in enumerate(_units(self)):
            x = unit(x)
            if place in self.ends:
                found.append(x)
        return tuple(found)

    def _last_at(self) -> dict[int, int]:
        """For each stride the place of the last unit with such a map."""
        last_at = {}
        # on tensors that have shapes and no values
        x = torch.empty(1, 3, NOMINAL_SIZE, NOMINAL_SIZE, device="meta")
        with torch.inference_mode():
            for place, unit in enumerate(_units(copy.deepcopy(self).to("meta").eval())):
                x = unit(x)
                last_at[NOMINAL_SIZE // x.shape[-1]] = place
        return last_at


def attach(make: Callable[[Any], nn.Module], config: Config) -> nn.Module:
    """The network that ``make`` has of ``config``'s trunk, ended by ``config``'s head.

    ``make`` takes configurations of this one's class. MobileNetV1, which is no ``Members``, makes
    its features itself.
    """
    if config.head == "embedding":
        network = make(replace(config, num_classes=config.embedding_size))
        network.add_module("end", Normalised())
        return network
    network = make(config)
    if config.head == "attributes":
        network.add_module("end", nn.Sigmoid())
    if config.head == "features" and isinstance(network, Members):
        return FeatureTrunk(network, FEATURE_STRIDES)
    if config.head == "ssd":
        from tvm_mobilenet.models.ssd import Ssd

        trunk = FeatureTrunk(network, SSD_STRIDES) if isinstance(network, Members) else network
        return Ssd(trunk, config.resolution, config.num_classes)
    return network


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that a chain consists of, in their order: blocks, and layers between them."""
    for child in module.children():
        # a block of named members counts as one, whatever it is made of
        if type(child) is nn.Sequential:
            yield from _units(child)
        else:
            yield child
