"""Multiply-adds and parameters of a network, by layer and by type.

MobileNetV1's follow from its stage table alone; the layers of the others are those that PyTorch
goes through, on tensors that have shapes and no values.

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
from typing import TYPE_CHECKING, Any, TypeAlias

from tvm_mobilenet import models
from tvm_mobilenet.models.paper_tables import Reference
from tvm_mobilenet.models.published import (
    PAPER_COST,
    PAPER_SSD,
    PAPER_TOP1,
    PAPER_V1_COST,
    PaperCost,
)
from tvm_mobilenet.models.stages import Layer, MobileNetConfig, layers
from tvm_mobilenet.models.variants import VARIANTS

if TYPE_CHECKING:
    from tvm_mobilenet.models.traced_layers import TracedLayer

    AnyLayer: TypeAlias = Layer | TracedLayer

FORMAT_VERSION = 1


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

    layers: tuple[AnyLayer, ...]
    multiply_adds: int
    weights: int
    parameters: int

    def by_op(self) -> dict[str, OpCost]:
        """The same by type of layer, types the network lacks left out."""
        found: dict[str, OpCost] = {}
        for op in sorted({layer.op for layer in self.layers}, key=_rank):
            members = [layer for layer in self.layers if layer.op == op]
            multiply_adds = sum(layer.multiply_adds for layer in members)
            weights = sum(layer.weights for layer in members)
            found[op] = OpCost(
                multiply_adds,
                weights,
                multiply_adds / self.multiply_adds,
                weights / self.weights,
            )
        return found


# the order of a table's rows, by the beginning of the type's name
_ORDER = ("pointwise", "depthwise", "conv", "fully_connected")


def _rank(op: str) -> tuple[int, str]:
    return next(place for place, name in enumerate(_ORDER) if op.startswith(name)), op


def op_title(op: str) -> str:
    """A type of layer in words: conv 1x1, depthwise 5x5, conv 3x3, fully connected."""
    if op == "pointwise":
        return "conv 1x1"
    for name in ("depthwise", "conv"):
        if op.startswith(name):
            return f"{name} {op.removeprefix(name)}"
    return op.replace("_", " ")


def cost_of(config: models.Config) -> Cost:
    """Multiply-adds, weights and parameters of ``config``, for a batch of one.

    Imports PyTorch for other networks than MobileNetV1.
    """
    all_layers = _layers_of(config)
    return Cost(
        all_layers,
        multiply_adds=sum(layer.multiply_adds for layer in all_layers),
        weights=sum(layer.weights for layer in all_layers),
        parameters=sum(layer.parameters for layer in all_layers),
    )


def _layers_of(config: models.Config) -> tuple[AnyLayer, ...]:
    if isinstance(config, MobileNetConfig) and config.head != "ssd":
        return layers(config)
    from tvm_mobilenet.models import traced_layers

    return traced_layers.trace(config)


def paper_top1(config: models.Config) -> float | None:
    """The published ImageNet top-1 in per cent, where the paper has one; nothing measured here."""
    if config.num_classes != 1000 or config.head != "classes":
        return None
    return PAPER_TOP1.get((models.name_of(config), config.alpha, config.resolution))


_LAYER_VALUES = (
    *("name", "op", "in_channels", "out_channels", "stride", "in_size", "out_size"),
    *("multiply_adds", "weights", "parameters"),
)


def paper_cost(config: models.Config) -> PaperCost | None:
    """The published figures of the network at a size that was published; None for the others."""
    name = models.name_of(config)
    if config == models.config_from(models.DEFAULT_MODEL, head="ssd"):
        return PAPER_SSD
    if isinstance(config, MobileNetConfig):
        paper = PAPER_V1_COST.get((name, config.alpha, config.resolution))
        if paper is None or config != models.config_from(name, config.alpha, config.resolution):
            return None
        return paper
    return PAPER_COST.get(name) if config == models.config_from(name) else None


def paper_variants() -> list[models.Config]:
    """The 16 variants of MobileNetV1's paper, its two relatives, and its detector."""
    grid = [models.config_from("mobilenet_v1", alpha, resolution) for alpha, resolution in VARIANTS]
    relatives = ("mobilenet_v1_full_convolution", "mobilenet_v1_shallow")
    detector = models.config_from("mobilenet_v1", head="ssd")
    return [*grid, *map(models.config_from, relatives), detector]


def as_dict(config: models.Config) -> dict[str, Any]:
    """The cost of ``config`` as plain values, for ``--json``."""
    cost = cost_of(config)
    return {
        "model": models.name_of(config),
        "config": asdict(config),
        "multiply_adds": cost.multiply_adds,
        "weights": cost.weights,
        "parameters": cost.parameters,
        "paper_top1_percent": paper_top1(config),
        "paper_cost": None if (paper := paper_cost(config)) is None else asdict(paper),
        "by_op": {op: asdict(of_op) for op, of_op in cost.by_op().items()},
        "layers": [{name: getattr(layer, name) for name in _LAYER_VALUES} for layer in cost.layers],
    }


def reference_as_dict(reference: Reference) -> dict[str, Any]:
    """A network that the paper compares with as plain values, for ``--json``."""
    paper = reference.paper
    return {
        "name": reference.name,
        "resolution": reference.resolution,
        "multiply_adds": reference.spent.multiply_adds,
        "parameters": reference.spent.parameters,
        "paper_top1_percent": paper.top1,
        "paper_top1_data": paper.data,
        "paper_cost": asdict(PaperCost(paper.multiply_adds, paper.parameters, paper.note)),
    }
