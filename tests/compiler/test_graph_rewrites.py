"""What the graph's rewrites make of arithmetic, norms, parallel branches and padding."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from support.rewritten import IMAGE, Applied, Each, Function, kernels
from support.static_programs import check, compiled, execute
from torch import nn
from torch.nn import functional

from tvm_mobilenet.network import onnx_export, relax_import

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
