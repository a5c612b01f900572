"""MobileNet v1 as data: its configuration, its stage table, and the layers that follow from both.

Nothing heavy is imported here, so that the cost table and the command line can use it at once.
Source: Howard et al., arXiv 1704.04861, Table 1 (and Tables 4 and 5 for the two relatives).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple

from tvm_mobilenet import strict
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.heads import EMBEDDING_SIZE, FEATURE_STRIDES, SSD_STRIDES, Head
from tvm_mobilenet.strict import Above, AtLeast, AtMost, Count

Kind = Literal["separable", "full_convolution", "shallow"]
Activation = Literal["relu", "relu6"]
Padding = Literal["pytorch", "tensorflow"]
# how a width multiplier's channels become whole: down, and TF-Slim's never below 8; timm's to
# multiples of 8
ChannelRounding = Literal["down", "down_to_8", "eights"]
Op = Literal["conv3x3", "depthwise3x3", "pointwise", "fully_connected"]

IMAGE_CHANNELS = 3
STEM_CHANNELS = 32
STEM_STRIDE = 2
TRUNK_STRIDE = 32  # the stem and four of the blocks halve the image
# alpha that was computed (0.35 - 0.1) may land one rounding below the channel count that is meant
CHANNEL_TOLERANCE = 1e-9
CHANNEL_DIVISOR = 8
LEAST_OF_WIDTH = 0.9  # rounding to eights takes away at most a tenth


class Block(NamedTuple):
    """One depthwise-separable block: output channels at alpha 1, stride of its depthwise layer."""

    channels: int
    stride: int


BLOCKS = (
    Block(64, 1),
    Block(128, 2),
    Block(128, 1),
    Block(256, 2),
    Block(256, 1),
    Block(512, 2),
    *[Block(512, 1)] * 5,
    Block(1024, 2),
    # the paper prints "s2" here; its sizes, 7x7 in and out, say 1
    Block(1024, 1),
)
# Table 5: the five 14x14x512 blocks removed
SHALLOW_BLOCKS = BLOCKS[:6] + BLOCKS[11:]


@dataclass(frozen=True)
class MobileNetConfig:
    """One network of the family, in plain values: ``dataclasses.asdict`` survives JSON.

    ``head`` is what it ends in (``models.heads``), ``embedding_size`` for that head, and
    ``feature_strides`` the strides of the head ``features``, which they alone choose too. ``seed``
    chooses the random weights. Raises BadInput for a value outside the family.
    """

    alpha: Annotated[float, Above(0), AtMost(2)] = 1.0
    resolution: Annotated[int, AtLeast(TRUNK_STRIDE)] = 224
    num_classes: Count = 1000
    kind: Kind = "separable"
    activation: Activation = "relu"
    padding: Padding = "pytorch"
    feature_strides: tuple[int, ...] = ()
    seed: Annotated[int, AtLeast(0)] = 0
    batch_norm_epsilon: Annotated[float, Above(0), AtMost(1)] = 1e-5
    channel_rounding: ChannelRounding = "down"
    head: Head = "classes"
    embedding_size: Count = EMBEDDING_SIZE

    def __post_init__(self) -> None:
        try:
            strict.check(self)
        except strict.Unexpected as error:
            raise BadInput(str(error)) from None
        # the paper's detector takes 300 pixels
        if self.resolution % TRUNK_STRIDE and self.head != "ssd":
            raise BadInput(
                f"resolution: expected a multiple of {TRUNK_STRIDE}, got {self.resolution}"
            )
        _check_strides(self.feature_strides)
        if self.feature_strides and self.head not in ("classes", "features"):
            raise BadInput(f"feature_strides: for the head features, got the head {self.head}")
        strides = self.feature_strides or (FEATURE_STRIDES if self.head == "features" else ())
        # JSON has no tuples, and alpha=1 means the network that alpha=1.0 means
        object.__setattr__(self, "feature_strides", tuple(strides))
        object.__setattr__(self, "head", "features" if strides else self.head)
        object.__setattr__(self, "alpha", float(self.alpha))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return (IMAGE_CHANNELS, self.resolution, self.resolution)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MobileNetConfig:
        """The configuration that ``dataclasses.asdict`` (or JSON) described."""
        try:
            return strict.read(cls, values)
        except strict.Unexpected as error:
            raise BadInput(f"model option {error}") from None


@dataclass(frozen=True)
class Layer:
    """One layer with weights: its name in the module, its operator and its static shape.

    Sizes are of the square input and output maps, in pixels; a fully connected layer has size 1.
    """

    name: str
    op: Op
    in_channels: int
    out_channels: int
    stride: int
    in_size: int

    @property
    def out_size(self) -> int:
        return -(-self.in_size // self.stride)

    @property
    def kernel(self) -> int:
        return 3 if self.op in ("conv3x3", "depthwise3x3") else 1

    @property
    def groups(self) -> int:
        return self.in_channels if self.op == "depthwise3x3" else 1

    @property
    def fan_in(self) -> int:
        """Inputs that one output value is summed over."""
        return self.kernel**2 * self.in_channels // self.groups

    @property
    def weights(self) -> int:
        """Multipliers of the layer, without batch norm and bias."""
        return self.fan_in * self.out_channels

    @property
    def parameters(self) -> int:
        """Trained values: the weights, with batch norm's scale and shift or the bias."""
        affine = 1 if self.op == "fully_connected" else 2
        return self.weights + affine * self.out_channels

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one image: Dk·Dk·M·N·Df·Df, or Dk·Dk·M·Df·Df depthwise (paper, 3.1)."""
        return self.weights * self.out_size**2


def channels(base: int, alpha: float, rounding: ChannelRounding = "down") -> int:
    """``int(base * alpha)`` as the paper and Keras round it, but at least 1; or as others do."""
    if rounding == "eights":
        return make_divisible(base * alpha)
    least = CHANNEL_DIVISOR if rounding == "down_to_8" else 1
    return max(least, math.floor(base * alpha + CHANNEL_TOLERANCE))


def make_divisible(channels: float) -> int:
    """The multiple of 8 nearest to ``channels``, but not below 0.9 times that, nor below 8.

    Source: ``_make_divisible`` of TF-Slim's MobileNet, which all later implementations copy.
    """
    rounded = int(channels + CHANNEL_DIVISOR / 2) // CHANNEL_DIVISOR * CHANNEL_DIVISOR
    rounded = max(CHANNEL_DIVISOR, rounded)
    return rounded if rounded >= LEAST_OF_WIDTH * channels else rounded + CHANNEL_DIVISOR


def blocks(config: MobileNetConfig) -> tuple[Block, ...]:
    """The rows of the stage table that ``config`` uses."""
    return SHALLOW_BLOCKS if config.kind == "shallow" else BLOCKS


def trunk_layers(config: MobileNetConfig) -> tuple[Layer, ...]:
    """Stem and blocks in order; with ``feature_strides`` only as far as the deepest of them."""
    deepest = max(config.feature_strides, default=TRUNK_STRIDE)
    # strides only grow, so this cuts the tail
    return tuple(layer for layer, stride in _whole_trunk(config) if stride <= deepest)


def layers(config: MobileNetConfig) -> tuple[Layer, ...]:
    """Every layer with weights, the classifier last unless features are asked for.

    An embedding's layer is called so too. Of ``ssd`` these are the trunk's alone.
    """
    trunk = trunk_layers(config)
    if config.head in ("features", "ssd"):
        return trunk
    out = config.embedding_size if config.head == "embedding" else config.num_classes
    return (*trunk, Layer("classifier", "fully_connected", trunk[-1].out_channels, out, 1, 1))


def feature_layers(config: MobileNetConfig) -> dict[int, str]:
    """For each stride whose map the head takes the name of the last layer at that stride."""
    last_at = {stride: layer.name for layer, stride in _whole_trunk(config)}
    strides = SSD_STRIDES if config.head == "ssd" else config.feature_strides
    return {stride: last_at[stride] for stride in strides}


def _whole_trunk(config: MobileNetConfig) -> Iterator[tuple[Layer, int]]:
    """Stem and blocks in order, each layer with the stride of its output to the image."""
    width = channels(STEM_CHANNELS, config.alpha, config.channel_rounding)
    stem = Layer("stem", "conv3x3", IMAGE_CHANNELS, width, STEM_STRIDE, config.resolution)
    size, stride = stem.out_size, STEM_STRIDE
    yield stem, stride
    for number, block in enumerate(blocks(config), start=1):
        out = channels(block.channels, config.alpha, config.channel_rounding)
        stride *= block.stride
        if config.kind == "full_convolution":
            last = Layer(f"block{number}_conv", "conv3x3", width, out, block.stride, size)
        else:
            name = f"block{number}_depthwise"
            depthwise = Layer(name, "depthwise3x3", width, width, block.stride, size)
            yield depthwise, stride
            name = f"block{number}_pointwise"
            last = Layer(name, "pointwise", width, out, 1, depthwise.out_size)
        yield last, stride
        width, size = out, last.out_size


def _check_strides(strides: tuple[int, ...]) -> None:
    known = all(stride in FEATURE_STRIDES for stride in strides)
    if not known or any(deeper <= stride for stride, deeper in pairwise(strides)):
        allowed = ", ".join(map(str, FEATURE_STRIDES))
        raise BadInput(
            f"feature_strides: expected rising strides of {allowed}, got {list(strides)}"
        )
