"""Images that no tile divides: which tiles they get, and that networks stay right."""

from __future__ import annotations

import numpy as np
import pytest
from support.static_programs import check, relax_of
from torch import nn

from schedules.cpu.image_tiles import ImageOutput, PixelRun, Tile
from schedules.x86.overlapping_tiles import overlapping_tile
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.compiler.pipeline import kernels_of
from tvm_mobilenet.hardware import target
from tvm_mobilenet.scheduling.rules import overlapping_tile_of

POINTWISE, SQUARE = (1, 1), (3, 3)


def dense(
    width: int,
    lanes: int = 16,
    kernel: tuple[int, int] = POINTWISE,
    blocks: int = 16,
    depth: int = 128,
) -> ImageOutput:
    return ImageOutput(
        width, width, lanes, kernel, (1, 1), depthwise=False, blocks=blocks, depth=depth
    )


def depthwise(
    width: int, stride: int = 1, kernel: tuple[int, int] = SQUARE, lanes: int = 16
) -> ImageOutput:
    return ImageOutput(
        width, width, lanes, kernel, (stride, stride), depthwise=True, blocks=16, depth=1
    )


@pytest.mark.parametrize(
    ("output", "tile"),
    [
        (dense(112), None),
        (dense(17), None),  # one tile
        (dense(65), None),  # 5 times 13
        (dense(31), (None, 8)),
        (dense(129), (None, 13)),  # 10 tiles for 129 columns, one of them computed twice
        (dense(257), (None, 13)),
        (dense(257, lanes=8, kernel=SQUARE), (None, 6)),
        (dense(14, lanes=8, kernel=SQUARE), None),
        (dense(257, lanes=8), PixelRun(6, 11009)),
        (dense(14, lanes=8), PixelRun(6, 33)),
        (dense(7, lanes=8), PixelRun(5, 10)),  # for 49 pixels: six would compute 54
        (dense(14, lanes=8, blocks=3), None),  # 2x2 pixels by three vectors
        (dense(7, lanes=8, blocks=3), PixelRun(4, 13)),
        (dense(112, lanes=8, depth=8), None),  # too short a sum for what a run costs
        (dense(2, lanes=8), None),
        (depthwise(7), None),
        (depthwise(112), None),
        (depthwise(257), (4, 4)),
        (depthwise(129, stride=2), (2, 4)),
        (depthwise(257, kernel=(5, 5)), (1, 13)),
        (depthwise(257, lanes=8), None),
    ],
)
def test_the_tile(output: ImageOutput, tile: Tile | None) -> None:
    assert overlapping_tile(output) == tile


@pytest.mark.parametrize(
    ("name", "output", "tile"),
    [
        ("arm-rpi4", dense(14, lanes=4), None),
        ("arm-rpi4", dense(129, lanes=4), None),  # 43 times 3, and as many rows
        ("arm-rpi4", dense(17, lanes=4), (None, 9)),
        ("arm-rpi3", dense(257, lanes=4), (None, 9)),
        ("arm-rpi4", dense(257, lanes=8), None),
        ("arm-rpi4", depthwise(7, lanes=4), None),
        ("arm-rpi4", depthwise(14, lanes=4), None),
        ("arm-rpi4", depthwise(257, lanes=4), (4, 4)),
        ("arm-rpi3", depthwise(257, lanes=4), (2, 8)),
        ("arm-rpi4", depthwise(17, 2, lanes=4), (1, 6)),
    ],
)
def test_the_tile_on_arm(
    name: str, output: ImageOutput, tile: tuple[int | None, int] | None
) -> None:
    rule = overlapping_tile_of(target.resolve(name).tvm_target())
    assert rule is not None
    assert rule(output) == tile


def kernels_on_arm(size: int) -> list[str]:
    """Of a depthwise convolution and the 1x1 one after it, which are one where tiles divide it."""
    block = nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1), nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.Conv2d(16, 32, 1)
    )
    options = CompileOptions(target.resolve("arm-rpi4"))
    mod = relax_of(block, (1, 3, size, size))
    return [kernel.name.partition("_")[0] for kernel in kernels_of(mod, options)]


def test_on_arm_what_overlaps_is_not_fused() -> None:
    assert kernels_on_arm(112)[1:] == ["separable", "unpack"]
    assert kernels_on_arm(113)[1:] == ["depthwise", "pointwise", "unpack"]


class Everything(nn.Sequential):
    """A stem, depthwise and dense convolutions of several kinds, with an epilogue between."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(3, 16, 3, 2, 1), nn.Hardswish()),
            *(nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.ReLU()),
            nn.Conv2d(16, 24, 1),
            *(nn.Conv2d(24, 24, 5, 2, 2, groups=24), nn.SiLU()),
            nn.Conv2d(24, 32, 3, 1, 1),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)),
        )


@pytest.mark.isa("avx2")
@pytest.mark.parametrize("size", [(61, 75), (59, 92)], ids=str)
def test_a_network(size: tuple[int, int], rng: np.random.Generator) -> None:
    program = check(Everything(), (1, 3, *size), rng)
    assert "T.min(" in program.module.script(), "no tile overlaps: another size is wanted here"
