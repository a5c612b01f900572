"""Networks of every kind keep their numbers, and the blocked layout goes from end to end."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import tvm
from support.static_programs import check, compiled, execute, expected, folded, seeded
from torch import nn
from torch.nn import functional

from tvm_mobilenet import models
from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.graph.legalize_cpu import CpuKernels, legalize, needed_halos
from tvm_mobilenet.compiler.graph.read_layers import read_layers
from tvm_mobilenet.kernels.cpu.layout import Halo
from tvm_mobilenet.models import MobileNetConfig
from tvm_mobilenet.network import onnx_export, relax_import
from tvm_mobilenet.numerics import relative_error

IMAGE = (1, 3, 12, 12)
RELATIVE = 1e-4


class Separable(nn.Sequential):
    """Stem, depthwise, pointwise, pooling, classifier: a MobileNet of one block."""

    def __init__(self, *end: nn.Module) -> None:
        super().__init__(
            *(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.ReLU6()),
            *(nn.Conv2d(8, 24, 1), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10)),
            *end,
        )


def test_no_layout_copy_within_a_network(rng: np.random.Generator) -> None:
    program = check(Separable(), IMAGE, rng)
    assert [call.kernel.partition("_")[0] for call in program.calls] == [
        "stem",
        "depthwise",
        "pointwise",
        "global",
        "dense",
    ]


class Forked(nn.Module):
    """One result with two readers, which ask for different halos."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.small = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.large = nn.Conv2d(8, 8, 5, padding=2)
        self.point = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = functional.relu(self.stem(x))
        return self.small(y), functional.relu(self.large(y)), self.point(y)


def test_shared_result_has_the_halo_of_all_its_readers(rng: np.random.Generator) -> None:
    layers = read_layers(folded(seeded(Forked()), IMAGE)["main"])
    assert needed_halos(layers)[layers[0].result] == Halo(2, 2, 2, 2)
    check(Forked(), IMAGE, rng)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.project = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.first(x))
        z: torch.Tensor = y + self.project(functional.relu(self.depthwise(y)))
        return z


class ActivatedTwice(nn.Module):
    """A convolution whose result is used with its activation and without."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.point = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        z: torch.Tensor = self.point(functional.relu(y)) + y
        return z


class GivenOutTwice(nn.Module):
    """A feature in the middle that the next layer reads as well."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = functional.relu(self.first(x))
        return y, self.second(y)


class Between(nn.Module):
    """An operator without a kernel of ours between two convolutions."""

    def __init__(self, operator: Any) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.operator = operator
        self.second = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.second(self.operator(self.first(x)))
        return y


@pytest.mark.in_turns(3)
@pytest.mark.parametrize(
    "module",
    [
        Residual(),
        ActivatedTwice(),
        GivenOutTwice(),
        Between(torch.sigmoid),
        Between(nn.MaxPool2d(2)),
        Between(nn.Hardswish()),
        Between(lambda y: functional.pad(y, (1, 0, 2, 1), value=0.5)),
        Between(lambda y: torch.cat([y[:, 4:], y[:, :4]], 1)),
        Separable(nn.Softmax(1)),
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.Sequential(nn.Conv2d(3, 8, 1, stride=2), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1, stride=2), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3, groups=2), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3, groups=8)),
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, dilation=2)),
        nn.Sequential(nn.ConstantPad2d((1, 2, 0, 1), 0.0), nn.Conv2d(3, 8, 3, 2), nn.ReLU6()),
        nn.Sequential(nn.Conv2d(3, 1, 3), nn.ReLU(), nn.Conv2d(1, 7, 3, padding=1)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5)),
        nn.Sequential(nn.Flatten(), nn.Linear(432, 5), nn.ReLU(), nn.Linear(5, 3)),
        nn.Sequential(nn.Conv2d(3, 8, 12), nn.ReLU(), nn.Conv2d(8, 8, 1)),
        nn.Sequential(nn.ReLU(), nn.Conv2d(3, 8, 3, padding=1), nn.Sigmoid()),
        nn.Sequential(nn.Conv2d(3, 40, (1, 3), (2, 1), (0, 1)), nn.ReLU()),
    ],
    ids=[
        "residual",
        "activated twice",
        "given out twice",
        "sigmoid",
        "max pool",
        "hardswish",
        "pad with another value",
        "slice and concat",
        "softmax",
        "stem alone",
        "1x1 stride 2 of the image",
        "1x1 stride 2",
        "2 groups",
        "depth multiplier 2",
        "dilation",
        "uneven padding",
        "1 channel",
        "no convolution",
        "two classifiers",
        "1x1 image",
        "relu first",
        "1x3 kernel",
    ],
)
def test_network(module: nn.Module, rng: np.random.Generator) -> None:
    check(module, (2, *IMAGE[1:]), rng)


@pytest.mark.in_turns(2)
@pytest.mark.parametrize("vector_width", [4, 16])
def test_vector_widths(
    vector_width: int, small_onnx: Any, small_network: nn.Module, images: Any
) -> None:
    """Unscheduled, for any lanes; the kernels' own tests have them scheduled."""
    mod = pipeline.lower_graph(
        relax_import.import_onnx(small_onnx), legalize(CpuKernels(vector_width))
    )
    machine = tvm.relax.VirtualMachine(
        tvm.compile(mod, tvm.target.Target({"kind": "llvm"})), tvm.cpu()
    )
    config: Any = small_network.config
    x = images(config)
    found = machine["main"](tvm.runtime.tensor(x)).numpy()
    assert relative_error(found, expected(small_network, x)[0]) < RELATIVE


@pytest.mark.in_turns(3)
@pytest.mark.parametrize(
    "options",
    [
        {"activation": "relu6", "padding": "tensorflow", "feature_strides": (8, 16, 32)},
        {"name": "mobilenet_v1_full_convolution"},
        {"name": "mobilenet_v1_shallow", "num_classes": 7},
    ],
    ids=["tensorflow's features", "full convolution", "shallow"],
)
def test_relatives_of_mobilenet(
    options: dict[str, Any], small_config: MobileNetConfig, images: Any
) -> None:
    name = options.pop("name", "mobilenet_v1")
    config = models.config_from(name, small_config.alpha, small_config.resolution, **options)
    assert dataclasses.replace(config) == config
    network = models.build(config)
    x = images(config, 2)
    wanted = expected(network, x)
    model = onnx_export.export(network, x.shape)
    program = compiled(relax_import.import_onnx(model))
    for one, other in zip(execute(program, x, [y.shape for y in wanted]), wanted, strict=True):
        assert relative_error(one, other) < RELATIVE
