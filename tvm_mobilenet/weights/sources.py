"""The programs that weights come from: the names they use, and what these imply for a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tvm_mobilenet import models
from tvm_mobilenet.weights import names
from tvm_mobilenet.weights.recipe import KERAS, OURS, SLIM, TIMM, TORCHVISION
from tvm_mobilenet.weights.tensors import Array, Format
from tvm_mobilenet.weights.units import Unit

# By PyTorch's name of a tensor and, where it matters, the kind of its layer.
LEAVES: dict[Format, dict[str, tuple[str, ...]]] = {
    "keras": {
        "norm.weight": ("gamma",),
        "norm.bias": ("beta",),
        "running_mean": ("moving_mean",),
        "running_var": ("moving_variance",),
        "depthwise.weight": ("kernel", "depthwise_kernel"),  # Keras 2's name is the second
        "weight": ("kernel",),
        "bias": ("bias",),
    },
    "tensorflow": {
        "norm.weight": ("gamma",),
        "norm.bias": ("beta",),
        "running_mean": ("moving_mean",),
        "running_var": ("moving_variance",),
        "depthwise.weight": ("depthwise_weights",),
        "weight": ("weights",),
        "bias": ("biases",),
    },
}
# Keras 3's own format: the class of a layer, and the number of its variable.
CLASSES = {"conv": "conv2d", "depthwise": "depthwise_conv2d", "norm": "batch_normalization"}
DENSE = "dense"
VARIABLES = {
    "norm.weight": 0,
    "norm.bias": 1,
    "running_mean": 2,
    "running_var": 3,
    "weight": 0,
    "bias": 1,
}
# Keras 2's name for a layer, where it was another.
OLD_LAYERS = {"predictions": "Logits"}

OF_TORCHVISION = (
    *("mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"),
    *("mnasnet1_0", "shufflenet_v2_x1_0", "resnet18"),
)


@dataclass(frozen=True)
class SourceProgram:
    """A program that networks are trained with.

    ``name`` is what it is called, ``format`` the family of its files. ``layers`` are its names of
    a network's layers, None where those are our own; ``implies`` are fields of the configuration.
    ``numbered``: its files number the layers of a class. ``dense``: so is its classifier, as dense.
    """

    name: str
    format: Format
    layers: Callable[[Any], Iterator[str]] | None = None
    implies: Mapping[str, Any] = field(default_factory=dict)
    numbered: bool = False
    dense: bool = True

    def names_of(self, config: models.Config, units: Sequence[Unit]) -> list[dict[str, Names]]:
        """For each layer what each of its tensors may be called in a file, the usual name first."""
        if self.numbered:
            return [dict(one) for one in self._numbered(units)]
        paths = [unit.path for unit in units] if self.layers is None else self.layers(config)
        return [
            {name: self._names(path, unit, name) for name in unit.shapes}
            for path, unit in zip(paths, units, strict=True)
        ]

    def _names(self, path: str, unit: Unit, name: str) -> Names:
        if self.format == "torch":
            return (f"{path}.{name}",)
        leaves = LEAVES[self.format]
        found = leaves.get(f"{unit.kind}.{name}") or leaves[name]
        paths = [path, *([OLD_LAYERS[path]] if path in OLD_LAYERS else [])]
        return tuple(f"{one}/{leaf}" for one in paths for leaf in found)

    def _numbered(self, units: Sequence[Unit]) -> Iterator[dict[str, Names]]:
        seen: Counter[str] = Counter()
        for unit in units:
            if unit.kind == "linear":
                group = DENSE if self.dense else CLASSES["conv"]
            else:
                group = CLASSES[unit.kind]
            number = f"_{seen[group]}" if seen[group] else ""
            seen[group] += 1
            yield {name: (f"{group}{number}/vars/{_variable(unit, name)}",) for name in unit.shapes}


Names = tuple[str, ...]


def _variable(unit: Unit, name: str) -> int:
    return VARIABLES.get(f"{unit.kind}.{name}", VARIABLES.get(name, 0))


_KERAS_V1 = {
    "padding": "tensorflow",
    "activation": "relu6",
    "batch_norm_epsilon": 1e-3,
    "channel_rounding": "down",
}
_SLIM_V1 = {**_KERAS_V1, "channel_rounding": "down_to_8"}
_TIMM_V1 = {
    "padding": "pytorch",
    "activation": "relu6",
    "batch_norm_epsilon": 1e-5,
    "channel_rounding": "eights",
}
_KERAS_V2 = {
    "padding": "tensorflow",
    "batch_norm_epsilon": 1e-3,
    "channel_rounding": "down_eights",
}
_SLIM_V2 = {**_KERAS_V2, "channel_rounding": "eights"}


def sources_of(model: str) -> list[SourceProgram]:
    """Where weights of a name in MODELS may come from."""
    own = OURS if model.startswith("mobilenet_v1") else TIMM
    own = TORCHVISION if model in OF_TORCHVISION else own
    found = [SourceProgram(own, "torch")]
    if model in ("mobilenet_v1", "mobilenet_v1_tensorflow", "mobilenet_v1_shallow"):
        found += [
            SourceProgram(TIMM, "torch", names.timm_v1, _TIMM_V1),
            SourceProgram(KERAS, "keras", names.keras_v1, _KERAS_V1),
            SourceProgram(KERAS, "keras", None, _KERAS_V1, numbered=True, dense=False),
            SourceProgram(SLIM, "tensorflow", names.slim_v1, _SLIM_V1),
        ]
    elif model == "mobilenet_v2":
        found += [
            SourceProgram(TIMM, "torch", names.timm_v2),
            SourceProgram(KERAS, "keras", names.keras_v2, _KERAS_V2),
            SourceProgram(KERAS, "keras", None, _KERAS_V2, numbered=True),
            SourceProgram(SLIM, "tensorflow", names.slim_v2, _SLIM_V2),
        ]
    elif model.startswith("mobilenet_v3"):
        # torchvision's epsilon, 1e-3, is the network's own; timm's other widths have other channels
        implied = {"batch_norm_epsilon": 1e-5, "alpha": 1.0}
        found.append(SourceProgram(TIMM, "torch", names.timm_v3, implied))
    elif model == "mnasnet1_0":
        found.append(SourceProgram(TIMM, "torch", names.timm_mnasnet))
    elif model == "efficientnet_b0":
        found.append(SourceProgram(TORCHVISION, "torch", names.torchvision_b0))
    return found


def to_torch(array: Array, kind: str, format: Format) -> Array:
    """A tensor's values in PyTorch's order of dimensions.

    TensorFlow's convolutions are (H, W, in, out), a depthwise one (H, W, channels, 1), a dense
    layer (in, out), or a 1x1 convolution.
    """
    if format == "torch":
        flat = kind == "linear" and array.ndim == 4
        return array.reshape(array.shape[:2]) if flat else array
    if array.ndim == 4:
        axes = (2, 3, 0, 1) if kind == "depthwise" else (3, 2, 0, 1)
        moved = array.transpose(axes)
        return moved.reshape(moved.shape[:2]) if kind == "linear" else moved
    return array.T


def shape_there(shape: tuple[int, ...], found: Array, kind: str, format: Format) -> tuple[int, ...]:
    """The shape that a tensor of ours has in a file, in as many dimensions as it ``found`` there.

    What ``to_torch`` does, the other way round.
    """
    as_convolution = kind == "linear" and len(shape) == 2 and found.ndim == 4
    if format == "torch":
        return (*shape, 1, 1) if as_convolution else shape
    if as_convolution:
        return (1, 1, shape[1], shape[0])
    if len(shape) == 4:
        out, inputs, height, width = shape
        return (height, width, out, 1) if kind == "depthwise" else (height, width, inputs, out)
    return shape[::-1]
