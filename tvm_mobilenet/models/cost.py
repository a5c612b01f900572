"""Multiply-adds and parameters of a network, by layer and by type, from the stage table alone.

Conventions, found by reproducing the paper's own figures (arXiv 1704.04861):

- Multiply-adds count the weighted layers, biases, batch norm and pooling not.
- A network's parameters include batch norm's scale and shift and the classifier's bias: so 4.23 M.
- The shares of Table 2 are of the weights alone, without those.

Two printed figures do not follow from the paper's network. Table 2 gives conv 3x3 1.19 % of the
multiply-adds, while its four rows then add up to 99.29 %; 1.91 %, two digits swapped, is what
follows, and completes 100 %. Table 4's 4866 M is the full-convolution network without its
classifier (1.02 M), which the paper's other rows include.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tvm_mobilenet import models
from tvm_mobilenet.models.stages import Layer, MobileNetConfig, Op, layers
from tvm_mobilenet.models.variants import VARIANTS

FORMAT_VERSION = 1

OP_TITLES: dict[Op, str] = {
    "pointwise": "conv 1x1",
    "depthwise3x3": "depthwise 3x3",
    "conv3x3": "conv 3x3",
    "fully_connected": "fully connected",
}

# ImageNet top-1 in per cent as published, by model, alpha, resolution: Tables 4 to 8
PAPER_TOP1: dict[tuple[str, float, int], float] = {
    ("mobilenet_v1", 1.0, 224): 70.6,
    ("mobilenet_v1", 0.75, 224): 68.4,
    ("mobilenet_v1", 0.5, 224): 63.7,
    ("mobilenet_v1", 0.25, 224): 50.6,
    ("mobilenet_v1", 1.0, 192): 69.1,
    ("mobilenet_v1", 1.0, 160): 67.2,
    ("mobilenet_v1", 1.0, 128): 64.4,
    ("mobilenet_v1", 0.5, 160): 60.2,
    ("mobilenet_v1_full_convolution", 1.0, 224): 71.7,
    ("mobilenet_v1_shallow", 1.0, 224): 65.3,
}


@dataclass(frozen=True)
class OpCost:
    """What all layers of one type cost together; shares are fractions of the network's."""

    multiply_adds: int
    weights: int
    multiply_adds_share: float
    weights_share: float


@dataclass(frozen=True)
class Cost:
    """What one image costs. ``parameters`` counts batch norm's scale and shift and the bias too."""

    layers: tuple[Layer, ...]
    multiply_adds: int
    weights: int
    parameters: int

    def by_op(self) -> dict[Op, OpCost]:
        """The same by type of layer, types the network lacks left out."""
        found: dict[Op, OpCost] = {}
        for op in OP_TITLES:
            members = [layer for layer in self.layers if layer.op == op]
            if members:
                multiply_adds = sum(layer.multiply_adds for layer in members)
                weights = sum(layer.weights for layer in members)
                found[op] = OpCost(
                    multiply_adds,
                    weights,
                    multiply_adds / self.multiply_adds,
                    weights / self.weights,
                )
        return found


def cost_of(config: MobileNetConfig) -> Cost:
    """Multiply-adds, weights and parameters of ``config``, for a batch of one."""
    all_layers = layers(config)
    return Cost(
        all_layers,
        multiply_adds=sum(layer.multiply_adds for layer in all_layers),
        weights=sum(layer.weights for layer in all_layers),
        parameters=sum(layer.parameters for layer in all_layers),
    )


def paper_top1(config: MobileNetConfig) -> float | None:
    """The published ImageNet top-1 in per cent, where the paper has one; nothing measured here."""
    if config.num_classes != 1000 or config.feature_strides:
        return None
    return PAPER_TOP1.get((models.name_of(config), config.alpha, config.resolution))


def paper_variants() -> list[MobileNetConfig]:
    """The paper's 16 variants, then its two relatives."""
    grid = [models.config_from("mobilenet_v1", alpha, resolution) for alpha, resolution in VARIANTS]
    return grid + [models.config_from(name) for name in models.MODELS if name != "mobilenet_v1"]


def as_dict(config: MobileNetConfig) -> dict[str, Any]:
    """The cost of ``config`` as plain values, for ``--json``."""
    cost = cost_of(config)
    return {
        "model": models.name_of(config),
        "config": asdict(config),
        "multiply_adds": cost.multiply_adds,
        "weights": cost.weights,
        "parameters": cost.parameters,
        "paper_top1_percent": paper_top1(config),
        "by_op": {op: asdict(of_op) for op, of_op in cost.by_op().items()},
        "layers": [
            {
                **asdict(layer),
                "out_size": layer.out_size,
                "multiply_adds": layer.multiply_adds,
                "weights": layer.weights,
                "parameters": layer.parameters,
            }
            for layer in cost.layers
        ],
    }
