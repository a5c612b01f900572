"""What the graph's rewrites make of a network's operators: which kernels run, and right numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from support.static_programs import check, compiled, execute
from torch import nn
from torch.nn import functional

from tvm_mobilenet.network import onnx_export, relax_import

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
        self.convs = nn.ModuleList(nn.Conv2d(3, channels, 3, padding=1) for _ in functions)
        self.functions = functions

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pairs = zip(self.functions, self.convs, strict=True)
        return tuple(function(conv(x)) for function, conv in pairs)


# Elementwise arithmetic


ACTIVATIONS: list[Function] = [
    functional.silu,
    functional.hardswish,
    lambda x: x * functional.relu6(x + 3) / 6,
    functional.hardsigmoid,
    torch.sigmoid,
    torch.tanh,
    functional.gelu,
    lambda x: functional.gelu(x, approximate="tanh"),
    lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3))),
    functional.mish,
    lambda x: torch.log(1 + torch.exp(x)),
    lambda x: x**2 - x**5 + (x.abs() + 0.1) ** -1.5,
    lambda x: x * ((x + 3).clamp(0, 6) * (1 / 6)),
    lambda x: x * torch.minimum(torch.maximum(x + 3, torch.tensor(0.0)), torch.tensor(6.0)) / 6,
    lambda x: torch.log(torch.sigmoid(x)),
    functional.softplus,
    lambda x: functional.threshold(x, 0.1, -0.5),
    lambda x: torch.where(x < 0, x * 0.3, x),
    lambda x: torch.where(x >= torch.linspace(-1, 1, 8).reshape(8, 1, 1), x, -x) + (x <= 0).float(),
    lambda x: functional.leaky_relu(x, 0.2),
    lambda x: functional.prelu(x, torch.linspace(-1, 1, 8)),
    lambda x: functional.prelu(x, torch.tensor([0.25])),
    lambda x: torch.exp(-torch.abs(x)) - torch.minimum(x, torch.tensor(0.5)),
    lambda x: (x - 1) * 2,
    lambda x: functional.relu(x) * torch.linspace(-1, 1, 8).reshape(8, 1, 1) + 1,
]


def test_activations_are_computed_by_the_convolutions(rng: np.random.Generator) -> None:
    found = kernels(Each(ACTIVATIONS), rng)
    assert sorted(found) == ["stem"] * len(ACTIVATIONS) + ["unpack"] * len(ACTIVATIONS)


def test_other_broadcasts_are_left_to_tvm(rng: np.random.Generator) -> None:
    functions: list[Function] = [
        lambda x: x + torch.arange(12.0),
        lambda x: x * torch.linspace(-1, 1, 12).reshape(12, 1),
        lambda x: x**2.3,
    ]
    found = kernels(Each(functions), rng)
    assert sorted(found)[-6:] == ["stem"] * 3 + ["unpack"] * 3
    assert len(found) == 9


class Residual(nn.Module):
    """An inverted residual: its sum is computed by the projection."""

    def __init__(self, end: Function) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.expand = nn.Conv2d(8, 24, 1)
        self.depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.project = nn.Conv2d(24, 8, 1)
        self.end = end

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.first(x))
        z = functional.relu6(self.depthwise(functional.relu6(self.expand(y))))
        return self.end(self.project(z) + y).mean((2, 3))


@pytest.mark.parametrize("end", [nn.Identity(), functional.relu, functional.hardswish])
def test_a_residual_is_added_by_the_convolution(end: Function, rng: np.random.Generator) -> None:
    expected = ["stem", "pointwise", "depthwise", "pointwise", "global"]
    assert kernels(Residual(end), rng) == expected


class Excited(nn.Module):
    """Squeeze-excite between a depthwise convolution and its projection."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 24, 3, padding=1)
        self.depthwise = nn.Conv2d(24, 24, 5, padding=2, groups=24)
        self.squeeze, self.excite = nn.Conv2d(24, 7, 1), nn.Conv2d(7, 24, 1)
        self.project = nn.Conv2d(24, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.silu(self.depthwise(functional.silu(self.first(x))))
        scale = functional.silu(self.squeeze(y.mean((2, 3), keepdim=True)))
        z: torch.Tensor = self.project(y * torch.sigmoid(self.excite(scale)))
        return z.mean((2, 3))


def test_squeeze_excite_stays_in_the_blocked_layout(rng: np.random.Generator) -> None:
    squeeze = ["blocked", "pointwise", "pointwise", "elementwise"]
    assert kernels(Excited(), rng) == ["stem", "depthwise", *squeeze, "pointwise", "global"]


class SumOfTwo(nn.Module):
    """Two convolutions of different images summed: the later one adds the other's result."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.third = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.first(x))
        z: torch.Tensor = functional.relu(self.second(y) + self.third(functional.relu(y - 1)))
        return z.mean((2, 3))


def test_of_two_convolutions_the_later_one_adds(rng: np.random.Generator) -> None:
    expected = ["stem", "pointwise", "elementwise", "winograd", "global"]
    assert sorted(kernels(SumOfTwo(), rng)) == sorted(expected)


# Norms and parallel branches


class Branches(nn.Module):
    """A layer of MobileOne as it is trained: convolutions beside each other, each with its norm."""

    def __init__(self, depthwise: bool, stride: int, identity: bool) -> None:
        super().__init__()
        groups = 8 if depthwise else 1
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.large = nn.Sequential(
            nn.Conv2d(8, 8, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(8)
        )
        self.small = nn.Sequential(
            nn.Conv2d(8, 8, 1, stride, groups=groups, bias=False), nn.BatchNorm2d(8)
        )
        self.other = nn.Conv2d(8, 8, (1, 5), stride, (0, 2), groups=groups)
        self.identity = nn.BatchNorm2d(8) if identity else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.stem(x))
        z = self.large(y) + self.small(y) - 0.5 * self.other(y)
        return functional.relu(z if self.identity is None else z + self.identity(y)).mean((2, 3))


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize(("stride", "identity"), [(1, True), (1, False), (2, False)])
def test_parallel_branches_become_one_convolution(
    depthwise: bool, stride: int, identity: bool, rng: np.random.Generator
) -> None:
    kind = "depthwise" if depthwise else "conv2d"
    assert kernels(Branches(depthwise, stride, identity), rng) == ["stem", kind, "global"]


class Unlike(nn.Module):
    """Branches that are no single convolution: one reads more than the other, one is clamped."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one, self.two = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.stem(x))
        z: torch.Tensor = functional.relu(self.one(y)) + self.two(y) + self.one(y)
        return z.mean((2, 3))


def test_what_is_clamped_first_is_a_branch_of_its_own(rng: np.random.Generator) -> None:
    found = kernels(Unlike(), rng)
    assert found.count("pointwise") == 1
    assert found.count("winograd") == 1


class Applied(nn.Module):
    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


@pytest.mark.parametrize("bias", [False, True])
def test_norms_go_into_the_weights(bias: bool, rng: np.random.Generator) -> None:
    """After a bias too, and spelled as a product and a sum."""
    scale, shift = torch.linspace(0.5, 2, 8), torch.linspace(-1, 1, 8)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=bias),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 1, bias=bias),
        Applied(lambda x: x * scale.reshape(8, 1, 1) + shift.reshape(1, 8, 1, 1)),
    )
    assert kernels(module, rng) == ["stem", "pointwise", "unpack"]


# Padding


def padded(pads: list[int], *, automatic: bool = False) -> onnx.ModelProto:
    """A depthwise and a 1x1 convolution, each with a Pad node or ``auto_pad`` before it."""
    rng = np.random.default_rng(1)
    filters = rng.standard_normal((8, 1, 3, 3), dtype=np.float32)
    weights = rng.standard_normal((8, 8, 1, 1), dtype=np.float32)
    constants = [
        onnx.numpy_helper.from_array(np.array(pads, np.int64), "pads"),
        onnx.numpy_helper.from_array(filters, "filters"),
        onnx.numpy_helper.from_array(weights, "weights"),
    ]
    first = {"auto_pad": "SAME_UPPER"} if automatic else {}
    nodes = [
        helper.make_node("Pad", ["image", "pads"], ["padded"]),
        helper.make_node("Conv", ["padded", "filters"], ["y"], group=8, strides=[2, 2], **first),
        helper.make_node("Conv", ["y", "weights"], ["z"], auto_pad="SAME_LOWER"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 8, 8, 8])
    result = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 8, None, None])
    graph = helper.make_graph(nodes, "padded", [image], [result], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize(
    "pads",
    [[0, 0, 0, 0, 0, 0, 1, 1], [0, 0, 2, 1, 0, 0, 0, 3], [0] * 8],
    ids=["TensorFlow's", "uneven", "none"],
)
@pytest.mark.parametrize("automatic", [False, True])
def test_zeros_around_an_image_are_the_convolutions_padding(
    pads: list[int], automatic: bool, rng: np.random.Generator
) -> None:
    model = padded(pads, automatic=automatic)
    program = compiled(relax_import.import_onnx(model))
    names = [call.kernel.partition("_")[0] for call in program.calls]
    assert names == ["pack", "depthwise", "pointwise", "unpack"]
    x = rng.standard_normal((1, 8, 8, 8), dtype=np.float32)
    (wanted,) = onnx_export.evaluate(model, x)
    (found,) = execute(program, x, [wanted.shape])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


class PaddedTwice(nn.Module):
    """A padding that a convolution reads, and something else."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = functional.pad(x, (1, 0, 2, 1))
        return self.conv(y), y


def test_a_padding_that_is_given_out_stays(rng: np.random.Generator) -> None:
    check(PaddedTwice(), IMAGE, rng)


@pytest.mark.parametrize(
    "pad",
    [
        nn.ConstantPad2d(1, 0.5),
        nn.ReflectionPad2d(1),
        nn.ZeroPad2d((-1, 1, 0, 0)),
    ],
    ids=["of another value", "reflected", "cropped"],
)
def test_other_paddings_are_no_convolutions(pad: nn.Module, rng: np.random.Generator) -> None:
    check(nn.Sequential(pad, nn.Conv2d(3, 8, 3)), IMAGE, rng)


# Pooling over windows


def test_pooling(rng: np.random.Generator) -> None:
    pools = [
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d((2, 3), ceil_mode=True),
        nn.MaxPool2d(3, 1),
        nn.AvgPool2d(3, 2, 1),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.AvgPool2d((3, 2), (1, 2)),
    ]
    found = kernels(Each(pools), rng)
    assert [found.count(kind) for kind in ("max", "mean", "stem", "unpack")] == [3, 4, 7, 7]


def test_other_pooling_is_left_to_tvm(rng: np.random.Generator) -> None:
    pools = [
        nn.MaxPool2d(3, 1, 1, dilation=2),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        nn.MaxPool2d(9, 1, 4),
    ]
    check(Each(pools), IMAGE, rng)


def test_pooling_stays_in_the_blocked_layout(rng: np.random.Generator) -> None:
    stages = [nn.Conv2d(3, 8, 3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 1), nn.AvgPool2d(2)]
    module = nn.Sequential(*stages, nn.Conv2d(8, 4, 1))
    expected = ["stem", "max", "pointwise", "mean", "pointwise", "unpack"]
    assert kernels(module, rng) == expected


# Channels that change their place


class Shuffled(nn.Module):
    """Two units of ShuffleNet V2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, 2, 1)
        self.branches = nn.ModuleList(nn.Conv2d(6, 6, 1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.stem(x))
        for branch in self.branches:
            first, second = y.chunk(2, dim=1)
            y = torch.cat((first, functional.relu(branch(second))), dim=1)
            batch, channels, height, width = y.shape
            y = y.reshape(batch, 2, channels // 2, height, width).transpose(1, 2)
            y = y.reshape(batch, channels, height, width)
        return y.mean((2, 3))


def test_a_shuffle_is_one_copy_where_it_is_read(rng: np.random.Generator) -> None:
    units = ["move", "pointwise", "move", "pointwise", "move"]
    assert kernels(Shuffled(), rng) == ["stem", *units, "global"]


class Joined(nn.Module):
    """Channels of several tensors, one of them the image, cut out and given out."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 5, 1), nn.Conv2d(10, 8, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = torch.cat((self.one(x), x, self.one(x)[:, 1:3]), dim=1)
        a, b = torch.split(y, [3, 7], dim=1)
        return self.two(y), a, b * 2


def test_channels_of_several_tensors(rng: np.random.Generator) -> None:
    check(Joined(), IMAGE, rng)


class SplitRows(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first, second, third = torch.split(x, 5, dim=2)
        return first + 1, second - first, third * 2


def test_parts_along_another_dimension(rng: np.random.Generator) -> None:
    check(SplitRows(), IMAGE, rng)


# Convolutions with groups


def test_groups_and_dilation(rng: np.random.Generator) -> None:
    convs = [
        nn.Conv2d(12, 24, 3, padding=1, groups=3),
        nn.Conv2d(12, 6, 1, groups=2),
        nn.Conv2d(12, 36, 3, groups=12),
        nn.Conv2d(12, 12, 3, padding=2, dilation=2, groups=12),
        nn.Conv2d(12, 20, 3, stride=2, dilation=(1, 3)),
        nn.Conv2d(12, 24, 3, padding=2, dilation=2, groups=4),
    ]
    found = kernels(Each([nn.Sequential(conv, nn.SiLU()) for conv in convs], 12), rng)
    kinds = {kind: found.count(kind) for kind in ("conv2d", "depthwise", "pointwise", "move")}
    assert kinds == {"conv2d": 3, "depthwise": 2, "pointwise": 1, "move": 1}
    assert len(found) == 6 + 7 + 6, "each has its stem, and a result that is unpacked"


class AfterGroups(nn.Module):
    """A grouped convolution leaves vectors of 8 channels, where everything else has 16."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped = nn.Conv2d(3, 48, 1), nn.Conv2d(48, 48, 1, groups=6)
        self.depthwise = nn.Conv2d(48, 48, 3, padding=1, groups=48)
        self.scale = nn.Conv2d(48, 48, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = functional.relu(self.first(x))
        z = functional.silu(self.grouped(y))
        scale = torch.sigmoid(self.scale(z.mean((2, 3), keepdim=True)))
        pooled = functional.max_pool2d(z, 2)
        larger = functional.interpolate(z, scale_factor=2.0)
        return self.depthwise(z) + y, z * scale - y, pooled, larger, z.mean((2, 3))


def test_what_reads_the_narrow_vectors_of_groups(rng: np.random.Generator) -> None:
    check(AfterGroups(), IMAGE, rng)


# Matrix products


class Tokens(nn.Module):
    """A matrix for each pixel, as vision transformers have them: (N, pixels, features)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 20)
        self.two = nn.Linear(20, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.conv(x).flatten(2).transpose(1, 2)
        y: torch.Tensor = self.two(functional.relu(self.one(tokens)))
        return y


def test_products_of_more_than_two_dimensions(rng: np.random.Generator) -> None:
    assert kernels(Tokens(), rng) == ["stem", "unpack", "transpose", "dense", "dense"]


# Images made larger


@pytest.mark.parametrize(
    "resize",
    [
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Upsample((7, 30), mode="nearest"),
        nn.Upsample(scale_factor=3, mode="bilinear"),
        nn.Upsample((15, 9), mode="bilinear", align_corners=True),
        nn.Upsample((5, 24), mode="bilinear"),
    ],
    ids=["twice", "nearest", "thrice", "corners", "smaller"],
)
def test_resizing_stays_in_the_blocked_layout(resize: nn.Module, rng: np.random.Generator) -> None:
    module = nn.Sequential(nn.Conv2d(3, 20, 3), resize, nn.Conv2d(20, 4, 3, padding=1))
    assert kernels(module, rng) == ["stem", "resize2d", "winograd", "unpack"]


def test_cubic_interpolation_is_left_to_tvm(rng: np.random.Generator) -> None:
    check(nn.Upsample(scale_factor=2, mode="bicubic"), IMAGE, rng)


@pytest.mark.parametrize("channels", [1, 20])
@pytest.mark.parametrize("size", [(2, 2), (3, 1)], ids=["2x2", "3x1"])
def test_windows_side_by_side_are_a_1x1_convolution(
    channels: int, size: tuple[int, int], rng: np.random.Generator
) -> None:
    larger = nn.ConvTranspose2d(8, channels, size, size)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), larger, nn.BatchNorm2d(channels), nn.SiLU())
    assert kernels(module, rng) == ["stem", "pointwise", "channels", "unpack"]


@pytest.mark.parametrize(
    "larger",
    [nn.ConvTranspose2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(3, 6, 2, 2, groups=3)],
    ids=["that overlap", "with groups"],
)
def test_other_transposed_convolutions(larger: nn.Module, rng: np.random.Generator) -> None:
    check(larger, IMAGE, rng)
