"""Where a network's 3x3 convolutions are computed by Winograd's algorithm, and how exactly."""

from __future__ import annotations

import numpy as np
import pytest
from support.arrays import transformed_windows
from support.static_programs import check, relax_of, seeded
from torch import nn

from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.cpu.backends import StaticBackend
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.hardware import target
from tvm_mobilenet.kernels.cpu.layout import Blocked
from tvm_mobilenet.kernels.cpu.winograd import TO_OUTPUTS, pack_winograd, pays

IMAGE = (2, 3, 11, 8)


class Residual(nn.Module):
    """A 3x3 convolution with something in its epilogue, between two that are not Winograd's."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Conv2d(3, 24, 1)
        self.middle = nn.Conv2d(24, 24, 3, padding=1)
        self.last = nn.Conv2d(24, 20, 3, 2, padding=1)

    def forward(self, x):  # type: ignore[no-untyped-def]
        x = self.start(x)
        return self.last(nn.functional.silu(self.middle(x) + x))


def test_a_network(rng: np.random.Generator) -> None:
    kernels = [call.kernel for call in check(Residual(), IMAGE, rng).calls]
    assert kernels == [
        "stem_conv2d_8x11x24",
        "winograd_operands_8x11x24",
        "winograd_conv2d_8x11x24_24_fused",
        "conv2d_4x6x24_20_s2",
        "unpack_4x6x20",
    ]


def test_without_it_and_on_arm_the_sums_are_direct() -> None:
    module = relax_of(seeded(Residual()), IMAGE)
    for name, winograd in (("x86-64-v3", False), ("arm-rpi4", True)):
        options = CompileOptions(target.resolve(name), winograd=winograd)
        lowered = pipeline.lower_graph(module, StaticBackend(options).legalize())
        assert not [k for k in pipeline.extract_kernels(lowered) if k.name.startswith("winograd")]


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((56, 56), True),
        ((7, 7), True),
        ((5, 5), True),
        ((4, 4), True),
        ((3, 3), False),  # 16 outputs are computed for 9
        ((2, 2), False),  # one tile, for which all the weights are read
        ((1, 64), False),  # no two rows
    ],
)
def test_pays(size: tuple[int, int], wanted: bool) -> None:
    assert pays(Blocked(1, 64, *size, 16)) is wanted


def test_operations_are_counted_as_the_direct_sums() -> None:
    lowered = pipeline.lower_graph(
        relax_of(seeded(Residual()), IMAGE),
        StaticBackend(CompileOptions(target.resolve("x86-64-v3"))).legalize(),
    )
    flops = {kernel.name: kernel.flops for kernel in pipeline.extract_kernels(lowered)}
    assert flops["winograd_conv2d_8x11x24_24_fused"] == 2 * 9 * 2 * 24 * 24 * 8 * 11


@pytest.mark.parametrize("panel", [1, 2])
def test_the_sixteen_products_make_the_convolution(panel: int, rng: np.random.Generator) -> None:
    """In float64, by the packed weights and the operands alone."""
    weight = rng.standard_normal((16, 12, 3, 3), dtype=np.float32)
    image = rng.standard_normal((1, 6, 3, 8, 4), dtype=np.float32)  # N, H, C/4, W, 4
    packed = pack_winograd(weight, 8, panel)  # (O/8/panel, 16, I, panel, 8)
    right = packed.transpose(1, 2, 0, 3, 4).reshape(16, 12, 16).astype(np.float64)
    planes = np.ascontiguousarray(image.transpose(0, 2, 1, 3, 4))
    left = transformed_windows(planes, (0, 0), (4, 6))  # (1, 2, 16, 3, 3, 4)
    left = left.transpose(2, 0, 1, 4, 3, 5).reshape(16, 6, 12)
    products = (left @ right).reshape(4, 4, 2, 3, 16)
    matrix = np.array(TO_OUTPUTS)
    tiles = np.einsum("ia,jb,abhwo->ohiwj", matrix, matrix, products)
    pixels = planes[0].transpose(0, 3, 1, 2).reshape(12, 6, 8).astype(np.float64)
    direct = sum(
        np.einsum("oi,ihw->ohw", weight[:, :, kh, kw], pixels[:, kh : kh + 4, kw : kw + 6])
        for kh in range(3)
        for kw in range(3)
    )
    np.testing.assert_allclose(tiles.reshape(16, 4, 6), direct, atol=1e-4)
