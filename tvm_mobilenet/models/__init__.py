"""The networks this project knows, as one table. PyTorch is imported only when one is built."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, overload

from tvm_mobilenet import strict
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models import heads
from tvm_mobilenet.models.network_config import NetworkConfig
from tvm_mobilenet.models.normalisation import IMAGENET, SYMMETRIC, Normalisation
from tvm_mobilenet.models.resizing import Resizing
from tvm_mobilenet.models.stages import MobileNetConfig

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "DEFAULT_MODEL",
    "MODELS",
    "Config",
    "MobileNetConfig",
    "ModelEntry",
    "NetworkConfig",
    "Normalisation",
    "build",
    "config_from",
    "from_dict",
    "name_of",
    "network_of",
    "normalisation_of",
    "options_of",
    "resizing_of",
    "variant_of",
    "width_of",
]

Config = MobileNetConfig | NetworkConfig

DEFAULT_MODEL = "mobilenet_v1"
_MOBILENET_V1 = "mobilenet_v1"
_FULL_WIDTH = 1.0


@dataclass(frozen=True)
class ModelEntry:
    """What a name stands for.

    ``module``, a file of this room, has ``network(config) -> nn.Module``. ``resolution`` is the
    published one; ``widths``: the network takes a width multiplier; ``options``: the fields of
    MobileNetConfig that make a relative of MobileNetV1; ``differs``: the fields of NetworkConfig in
    which implementations of the network differ.
    """

    module: str
    summary: str
    resolution: int = 224
    widths: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    differs: tuple[str, ...] = ()


def _v1(summary: str, **options: Any) -> ModelEntry:
    return ModelEntry(_MOBILENET_V1, summary, widths=True, options=options)


def _lite(number: int, resolution: int) -> ModelEntry:
    return ModelEntry("efficientnet", f"EfficientNet-Lite{number}: no squeeze-excite", resolution)


def _v3(summary: str) -> ModelEntry:
    return ModelEntry("mobilenet_v3", summary, widths=True, differs=("batch_norm_epsilon",))


MODELS: dict[str, ModelEntry] = {
    "mobilenet_v1": _v1("13 depthwise-separable blocks (Table 1)"),
    "mobilenet_v1_full_convolution": _v1(
        "each block one full 3x3 convolution (Table 4)", kind="full_convolution"
    ),
    "mobilenet_v1_shallow": _v1("without the five 14x14x512 blocks (Table 5)", kind="shallow"),
    "mobilenet_v1_tensorflow": _v1(
        "with TensorFlow's padding, ReLU6 and epsilon",
        activation="relu6",
        padding="tensorflow",
        batch_norm_epsilon=1e-3,
    ),
    "mobilenet_v2": ModelEntry(
        "mobilenet_v2",
        "inverted residuals",
        widths=True,
        differs=("padding", "channel_rounding", "batch_norm_epsilon"),
    ),
    "mobilenet_v3_large": _v3("squeeze-excite, hard-swish"),
    "mobilenet_v3_small": _v3("the same, smaller"),
    "mobilenetv4_conv_small": ModelEntry("mobilenet_v4", "universal inverted bottlenecks"),
    "mnasnet1_0": ModelEntry("mnasnet", "MNASNet-B1, without squeeze-excite"),
    "efficientnet_b0": ModelEntry("efficientnet", "squeeze-excite, SiLU"),
    "efficientnet_lite0": _lite(0, 224),
    "efficientnet_lite1": _lite(1, 240),
    "efficientnet_lite2": _lite(2, 260),
    "efficientnet_lite3": _lite(3, 280),
    "efficientnet_lite4": _lite(4, 300),
    "mobileone_s0": ModelEntry("mobileone", "as trained, with parallel branches"),
    "lcnet_100": ModelEntry("lcnet", "PP-LCNet 1.0x"),
    "shufflenet_v2_x1_0": ModelEntry("shufflenet_v2", "channel shuffles"),
    "resnet18": ModelEntry("resnet", "full convolutions"),
}


MobileNetV1 = Literal[
    "mobilenet_v1",
    "mobilenet_v1_full_convolution",
    "mobilenet_v1_shallow",
    "mobilenet_v1_tensorflow",
]


@overload
def config_from(
    name: MobileNetV1, alpha: float = ..., resolution: int | None = ..., **other: Any
) -> MobileNetConfig: ...


@overload
def config_from(
    name: str, alpha: float = ..., resolution: int | None = ..., **other: Any
) -> Config: ...


def config_from(
    name: str, alpha: float = _FULL_WIDTH, resolution: int | None = None, **other: Any
) -> Config:
    """The configuration of a model in ``MODELS``; ``other`` are further fields of its class.

    ``resolution`` is the published one where it is None; so is the number of classes. Raises
    BadInput for an unknown name, an unknown field, one that the head would ignore, or a value
    outside the family.
    """
    entry = _entry(name)
    published = entry.resolution
    heads.check_options(other.get("head", "classes"), other)
    if other.get("head") == "ssd":
        published, other = heads.SSD_RESOLUTION, {"num_classes": heads.SSD_CLASSES, **other}
    values = {"alpha": alpha, "resolution": resolution or published, **other}
    if entry.module == _MOBILENET_V1:
        if "kind" in other:
            raise BadInput(f"the model's name says its kind; drop kind={other['kind']!r}")
        return MobileNetConfig.from_dict({**entry.options, **values})
    return from_dict({**values, "model": name})


def from_dict(values: Mapping[str, Any]) -> Config:
    """The configuration that ``dataclasses.asdict`` (or JSON) described. Raises BadInput."""
    if "model" not in values:
        return MobileNetConfig.from_dict(values)
    try:
        config = strict.read(NetworkConfig, values)
    except strict.Unexpected as error:
        raise BadInput(f"model option {error}") from None
    entry = _entry(config.model)
    if config.alpha != _FULL_WIDTH and not entry.widths:
        raise BadInput(f"{config.model} has one width; drop alpha {config.alpha:g}")
    plain = NetworkConfig(config.model, config.resolution)
    for name in ("padding", "channel_rounding", "batch_norm_epsilon"):
        value = getattr(config, name)
        if value != getattr(plain, name) and name not in entry.differs:
            raise BadInput(f"{config.model} has one {name}; drop {name} {value}")
    return config


def name_of(config: Config) -> str:
    """The name in ``MODELS`` that ``config`` is a variant of."""
    if isinstance(config, NetworkConfig):
        return config.model
    # the entry that says most of it: each of them is plain MobileNetV1 as well
    fitting = [
        name
        for name, entry in MODELS.items()
        if entry.module == _MOBILENET_V1 and _fits(config, entry)
    ]
    return max(fitting, key=lambda name: len(MODELS[name].options))


def _fits(config: MobileNetConfig, entry: ModelEntry) -> bool:
    wanted = {"kind": "separable", **entry.options}
    return all(getattr(config, option) == value for option, value in wanted.items())


def width_of(config: Config) -> float | None:
    """Its width multiplier; None for a network that has one width."""
    return config.alpha if _entry(name_of(config)).widths else None


def variant_of(config: Config) -> str:
    """Which variant of its model: width and resolution as in ``1-224``, or the latter alone.

    A head other than that for classes follows, as in ``1-300-ssd``.
    """
    width = width_of(config)
    size = f"{config.resolution}" if width is None else f"{width:g}-{config.resolution}"
    return size if config.head == "classes" else f"{size}-{config.head}"


def options_of(config: Config) -> dict[str, Any]:
    """The head, and every option beyond width and resolution that is not the default with it."""
    head = {} if config.head == "classes" else {"head": config.head}
    default = config_from(name_of(config), config.alpha, config.resolution, **head)
    names = [one.name for one in fields(config)]
    return head | {
        name: getattr(config, name)
        for name in names
        if getattr(config, name) != getattr(default, name)
    }


def normalisation_of(config: Config) -> Normalisation:
    """What the framework whose padding ``config`` has makes of the pixels it trains on."""
    return SYMMETRIC if config.padding == "tensorflow" else IMAGENET


def resizing_of(config: Config) -> Resizing | None:
    """How a picture gets the size of the network's input, None where that is not known.

    A detector sees the picture as a whole, as SSD's do.
    """
    return Resizing(config.resolution, "stretch") if config.head == "ssd" else None


def network_of(config: Config) -> nn.Module:
    """The network of ``config`` with PyTorch's initial weights. Imports PyTorch."""
    from tvm_mobilenet.models import head_modules

    module = importlib.import_module(f"{__name__}.{_entry(name_of(config)).module}")
    return head_modules.attach(module.network, config)


def build(config: Config) -> nn.Module:
    """The network of ``config`` in eval mode, with its seeded random weights. Imports PyTorch."""
    import torch

    from tvm_mobilenet.models import measured_weights, random_weights, stages

    # PyTorch draws initial weights that are overwritten; the caller's random state is not ours
    with torch.random.fork_rng(devices=[]):
        network = network_of(config)
    if isinstance(config, MobileNetConfig) and config.head != "ssd":
        random_weights.fill(network.state_dict(), stages.layers(config), config.seed)
    else:
        measured_weights.fill(network, config.input_shape, config.seed)
    return network.eval()


def _entry(name: str) -> ModelEntry:
    if name not in MODELS:
        raise BadInput(f"unknown model {name!r}; known: {', '.join(MODELS)}")
    return MODELS[name]
