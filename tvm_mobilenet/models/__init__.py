"""The networks this project knows, as one table. PyTorch is imported only when one is built."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.normalisation import IMAGENET, SYMMETRIC, Normalisation
from tvm_mobilenet.models.stages import Kind, MobileNetConfig

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "MODELS",
    "MobileNetConfig",
    "ModelEntry",
    "Normalisation",
    "build",
    "config_from",
    "name_of",
    "normalisation_of",
]


@dataclass(frozen=True)
class ModelEntry:
    """Where a model is defined, and which member of the family its name stands for."""

    module: str  # has build(config) -> nn.Module
    kind: Kind
    summary: str


_MOBILENET_V1 = "tvm_mobilenet.models.mobilenet_v1"

MODELS: dict[str, ModelEntry] = {
    "mobilenet_v1": ModelEntry(
        _MOBILENET_V1, "separable", "13 depthwise-separable blocks (Table 1)"
    ),
    "mobilenet_v1_full_convolution": ModelEntry(
        _MOBILENET_V1, "full_convolution", "each block one full 3x3 convolution (Table 4)"
    ),
    "mobilenet_v1_shallow": ModelEntry(
        _MOBILENET_V1, "shallow", "without the five 14x14x512 blocks (Table 5)"
    ),
}


def config_from(
    name: str, alpha: float = 1.0, resolution: int = 224, **other: Any
) -> MobileNetConfig:
    """The configuration of a model in ``MODELS``; ``other`` are further fields of MobileNetConfig.

    Raises BadInput for an unknown name, an unknown field or a value outside the family.
    """
    if name not in MODELS:
        raise BadInput(f"unknown model {name!r}; known: {', '.join(MODELS)}")
    if "kind" in other:
        raise BadInput(f"the model's name says its kind; drop kind={other['kind']!r}")
    values = {"alpha": alpha, "resolution": resolution, "kind": MODELS[name].kind, **other}
    return MobileNetConfig.from_dict(values)


def name_of(config: MobileNetConfig) -> str:
    """The name in ``MODELS`` that ``config`` is a variant of."""
    return next(name for name, entry in MODELS.items() if entry.kind == config.kind)


def normalisation_of(config: MobileNetConfig) -> Normalisation:
    """What the framework whose padding ``config`` has makes of the pixels it trains on."""
    return SYMMETRIC if config.padding == "tensorflow" else IMAGENET


def build(config: MobileNetConfig) -> nn.Module:
    """The network of ``config`` in eval mode, with its seeded random weights. Imports PyTorch."""
    module = importlib.import_module(MODELS[name_of(config)].module)
    network: nn.Module = module.build(config)
    return network
