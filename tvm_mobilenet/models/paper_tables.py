"""The networks that MobileNet's paper compares with, as layer tables: what they cost, no weights.

Each table is its own paper's, read from the input to the classifier. Multiply-adds and parameters
follow from it by the conventions of ``models.cost``: multiply-adds of the layers with weights;
parameters with biases, or with batch norm's scale and shift where the network has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

IMAGE_CHANNELS = 3


class Map(NamedTuple):
    """A feature map: its channels, height and width."""

    channels: int
    height: int
    width: int


class Spent(NamedTuple):
    """What was computed so far: the map it ends in, multiply-adds and parameters."""

    map: Map
    multiply_adds: int = 0
    parameters: int = 0


@dataclass(frozen=True)
class Conv:
    """A convolution of a kernel (height, width); ``norm``: batch norm takes the bias' place."""

    channels: int
    kernel: int | tuple[int, int]
    stride: int = 1
    padding: int | tuple[int, int] = 0
    groups: int = 1
    norm: bool = False


@dataclass(frozen=True)
class Pool:
    """Window pooling; ``up``: a last window that reaches beyond the map counts, as in Caffe."""

    kernel: int
    stride: int
    padding: int = 0
    up: bool = False


@dataclass(frozen=True)
class GlobalPool:
    """Each channel's mean."""


@dataclass(frozen=True)
class Fc:
    """A fully connected layer with a bias."""

    channels: int


@dataclass(frozen=True)
class Beside:
    """Branches that read one map, joined by their channels."""

    branches: tuple[tuple[Layer, ...], ...]


Layer = Conv | Pool | GlobalPool | Fc | Beside


class Paper(NamedTuple):
    """A row of the paper: millions of multiply-adds and parameters, and top-1 in per cent.

    ``note`` says why its figures are not those of the layer table, where they are not.
    """

    multiply_adds: float
    parameters: float
    top1: float
    source: str
    note: str = ""
    data: str = "ImageNet"


@dataclass(frozen=True)
class Reference:
    """A network that the paper compares with: its layer table, its size, the paper's row."""

    name: str
    table: tuple[Layer, ...]
    resolution: int
    paper: Paper

    @property
    def spent(self) -> Spent:
        """What one image costs by the layer table."""
        return follow(self.table, Map(IMAGE_CHANNELS, self.resolution, self.resolution))


def follow(layers: Sequence[Layer], given: Map) -> Spent:
    """Multiply-adds and parameters of ``layers``, one after the other, from ``given`` on."""
    spent = Spent(given)
    for layer in layers:
        step = _STEPS[type(layer)](layer, spent.map)
        spent = Spent(
            step.map,
            spent.multiply_adds + step.multiply_adds,
            spent.parameters + step.parameters,
        )
    return spent


def _conv(layer: Conv, x: Map) -> Spent:
    kernel, padding = _pair(layer.kernel), _pair(layer.padding)
    height = _size(x.height, kernel[0], layer.stride, padding[0])
    width = _size(x.width, kernel[1], layer.stride, padding[1])
    weights = kernel[0] * kernel[1] * x.channels // layer.groups * layer.channels
    affine = (2 if layer.norm else 1) * layer.channels
    return Spent(Map(layer.channels, height, width), weights * height * width, weights + affine)


def _pool(layer: Pool, x: Map) -> Spent:
    height, width = (
        _size(size, layer.kernel, layer.stride, layer.padding, up=layer.up)
        for size in (x.height, x.width)
    )
    return Spent(Map(x.channels, height, width))


def _global_pool(_layer: GlobalPool, x: Map) -> Spent:
    return Spent(Map(x.channels, 1, 1))


def _fc(layer: Fc, x: Map) -> Spent:
    weights = x.channels * x.height * x.width * layer.channels
    return Spent(Map(layer.channels, 1, 1), weights, weights + layer.channels)


def _beside(layer: Beside, x: Map) -> Spent:
    found = [follow(branch, x) for branch in layer.branches]
    sizes = {(one.map.height, one.map.width) for one in found}
    assert len(sizes) == 1, f"branches of different sizes: {sizes}"
    return Spent(
        Map(sum(one.map.channels for one in found), *sizes.pop()),
        sum(one.multiply_adds for one in found),
        sum(one.parameters for one in found),
    )


_STEPS: dict[type, Callable[..., Spent]] = {
    Conv: _conv,
    Pool: _pool,
    GlobalPool: _global_pool,
    Fc: _fc,
    Beside: _beside,
}


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _size(size: int, kernel: int, stride: int, padding: int, *, up: bool = False) -> int:
    beyond = size + 2 * padding - kernel
    return (-(-beyond // stride) if up else beyond // stride) + 1


# Krizhevsky et al., 2012, with its groups (two GPUs); 227 pixels, as its sizes ask for
ALEXNET: tuple[Layer, ...] = (
    Conv(96, 11, 4),
    Pool(3, 2),
    Conv(256, 5, padding=2, groups=2),
    Pool(3, 2),
    Conv(384, 3, padding=1),
    Conv(384, 3, padding=1, groups=2),
    Conv(256, 3, padding=1, groups=2),
    Pool(3, 2),
    Fc(4096),
    Fc(4096),
    Fc(1000),
)

# Simonyan and Zisserman, arXiv 1409.1556, Table 1, column D
VGG16: tuple[Layer, ...] = (
    *[Conv(64, 3, padding=1)] * 2,
    Pool(2, 2),
    *[Conv(128, 3, padding=1)] * 2,
    Pool(2, 2),
    *[Conv(256, 3, padding=1)] * 3,
    Pool(2, 2),
    *[Conv(512, 3, padding=1)] * 3,
    Pool(2, 2),
    *[Conv(512, 3, padding=1)] * 3,
    Pool(2, 2),
    Fc(4096),
    Fc(4096),
    Fc(1000),
)


def _inception(one: int, three: tuple[int, int], five: tuple[int, int], pooled: int) -> Beside:
    """A row of GoogLeNet's Table 1: 1x1; 3x3 reduced before; 5x5 reduced before; pooling."""
    return Beside(
        (
            (Conv(one, 1),),
            (Conv(three[0], 1), Conv(three[1], 3, padding=1)),
            (Conv(five[0], 1), Conv(five[1], 5, padding=2)),
            (Pool(3, 1, 1), Conv(pooled, 1)),
        )
    )


# Szegedy et al., arXiv 1409.4842, Table 1, without the classifiers that only training has
GOOGLENET: tuple[Layer, ...] = (
    Conv(64, 7, 2, 3),
    Pool(3, 2, up=True),
    Conv(64, 1),
    Conv(192, 3, padding=1),
    Pool(3, 2, up=True),
    _inception(64, (96, 128), (16, 32), 32),
    _inception(128, (128, 192), (32, 96), 64),
    Pool(3, 2, up=True),
    _inception(192, (96, 208), (16, 48), 64),
    _inception(160, (112, 224), (24, 64), 64),
    _inception(128, (128, 256), (24, 64), 64),
    _inception(112, (144, 288), (32, 64), 64),
    _inception(256, (160, 320), (32, 128), 128),
    Pool(3, 2, up=True),
    _inception(256, (160, 320), (32, 128), 128),
    _inception(384, (192, 384), (48, 128), 128),
    GlobalPool(),
    Fc(1000),
)


def _fire(squeezed: int, expanded: int) -> tuple[Layer, ...]:
    """SqueezeNet's module: 1x1 to few channels, then 1x1 and 3x3 beside each other."""
    return (
        Conv(squeezed, 1),
        Beside(((Conv(expanded, 1),), (Conv(expanded, 3, padding=1),))),
    )


# Iandola et al., arXiv 1602.07360, Table 1: version 1.0
SQUEEZENET: tuple[Layer, ...] = (
    Conv(96, 7, 2),
    Pool(3, 2, up=True),
    *_fire(16, 64),
    *_fire(16, 64),
    *_fire(32, 128),
    Pool(3, 2, up=True),
    *_fire(32, 128),
    *_fire(48, 192),
    *_fire(48, 192),
    *_fire(64, 256),
    Pool(3, 2, up=True),
    *_fire(64, 256),
    Conv(1000, 1),
    GlobalPool(),
)


def _norm(
    channels: int,
    kernel: int | tuple[int, int],
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
) -> Conv:
    return Conv(channels, kernel, stride, padding, norm=True)


def _inception_a(pooled: int) -> Beside:
    return Beside(
        (
            (_norm(64, 1),),
            (_norm(48, 1), _norm(64, 5, padding=2)),
            (_norm(64, 1), *[_norm(96, 3, padding=1)] * 2),
            (Pool(3, 1, 1), _norm(pooled, 1)),
        )
    )


def _inception_c(wide: int) -> Beside:
    row, column = (1, 7), (7, 1)

    def along(channels: int, kernel: tuple[int, int]) -> Conv:
        return _norm(channels, kernel, padding=(kernel[0] // 2, kernel[1] // 2))

    return Beside(
        (
            (_norm(192, 1),),
            (_norm(wide, 1), along(wide, row), along(192, column)),
            (
                *(_norm(wide, 1), along(wide, column), along(wide, row), along(wide, column)),
                along(192, row),
            ),
            (Pool(3, 1, 1), _norm(192, 1)),
        )
    )


def _inception_e() -> Beside:
    split = Beside(((_norm(384, (1, 3), padding=(0, 1)),), (_norm(384, (3, 1), padding=(1, 0)),)))
    return Beside(
        (
            (_norm(320, 1),),
            (_norm(384, 1), split),
            (_norm(448, 1), _norm(384, 3, padding=1), split),
            (Pool(3, 1, 1), _norm(192, 1)),
        )
    )


# Szegedy et al., arXiv 1512.00567, as released: without the classifier that only training has
INCEPTION_V3: tuple[Layer, ...] = (
    _norm(32, 3, 2),
    _norm(32, 3),
    _norm(64, 3, padding=1),
    Pool(3, 2),
    _norm(80, 1),
    _norm(192, 3),
    Pool(3, 2),
    *(_inception_a(32), _inception_a(64), _inception_a(64)),
    Beside(
        (
            (_norm(384, 3, 2),),
            (_norm(64, 1), _norm(96, 3, padding=1), _norm(96, 3, 2)),
            (Pool(3, 2),),
        )
    ),
    *(_inception_c(128), _inception_c(160), _inception_c(160), _inception_c(192)),
    Beside(
        (
            (_norm(192, 1), _norm(320, 3, 2)),
            (
                _norm(192, 1),
                _norm(192, (1, 7), padding=(0, 3)),
                _norm(192, (7, 1), padding=(3, 0)),
                _norm(192, 3, 2),
            ),
            (Pool(3, 2),),
        )
    ),
    *(_inception_e(), _inception_e()),
    GlobalPool(),
    Fc(1000),
)

REFERENCES: tuple[Reference, ...] = (
    # its own paper's rows, which the other adds up, are rounded
    Reference("GoogLeNet", GOOGLENET, 224, Paper(1550, 6.8, 69.8, "Table 8", "of rounded rows")),
    Reference(
        "VGG 16", VGG16, 224, Paper(15300, 138, 71.5, "Table 8", "without fully connected layers")
    ),
    Reference(
        "SqueezeNet",
        SQUEEZENET,
        227,
        Paper(1700, 1.25, 57.5, "Table 9", "counts multiplications and additions apart"),
    ),
    Reference("AlexNet", ALEXNET, 227, Paper(720, 60, 57.2, "Table 9")),
    Reference(
        "Inception V3",
        INCEPTION_V3,
        299,
        Paper(5000, 23.2, 84.0, "Table 10", "its own paper says 5 billion", "Stanford Dogs"),
    ),
)
