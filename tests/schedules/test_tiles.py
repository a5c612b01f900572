"""Convolutions by the tile registers of AMX: right numbers at odd shapes, and the code meant.

Their code runs wherever the CPU has AVX512_BF16: without AMX its instructions are emulated.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
import tvm
from support import odd_kernels
from support.kernel_cases import RELU6, Convolution
from support.tile_cases import (
    CASES,
    HAS_TILES,
    NAME,
    Bf16Tiles,
    ByteTiles,
    spec_that_runs,
    tile_unit,
    tiles,
)

from schedules.x86.pixel_tiles import PixelTiles, depth_of, pixel_tiles
from tvm_mobilenet.compiler.cpu.lowering import lower
from tvm_mobilenet.hardware import target
from tvm_mobilenet.kernels.cpu.expressions import SELF
from tvm_mobilenet.scheduling.rules import default_schedule
from tvm_mobilenet.scheduling.space import KernelSpace


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_odd_shapes(case: ByteTiles | Bf16Tiles, rng: np.random.Generator) -> None:
    spec = spec_that_runs()
    plain = case.func().with_attr("global_symbol", "main")
    library = lower(default_schedule(plain, spec.tvm_target()).mod, spec.tvm_target())
    before = tile_unit().counts()
    with tiles():
        case.check(library["main"], rng)
    if HAS_TILES:
        return
    after = tile_unit().counts()
    products = after.of_bytes - before.of_bytes, after.of_bf16 - before.of_bf16
    assert products[isinstance(case, Bf16Tiles)] > 0 == products[isinstance(case, ByteTiles)]
    threads = after.configurations - before.configurations
    assert threads == after.releases - before.releases > 0


@pytest.mark.parametrize("case", [CASES[0], CASES[8]], ids=lambda case: case.id)
def test_another_decision(case: ByteTiles | Bf16Tiles, rng: np.random.Generator) -> None:
    spec = spec_that_runs().with_cores(1)
    space = KernelSpace(case.func(), spec.tvm_target())
    assert space.size > 1
    other = space.at([knob.options[0] for knob in space.knobs])
    assert other.point != space.default.point
    # a record's trace is replayed in a process that has run no rule
    replayed = space.replay(other.trace_json)
    library = lower(replayed.schedule.mod, spec.tvm_target())
    with tiles():
        case.check(library["main"], rng)


# The geometry


@pytest.mark.parametrize(
    ("image", "steps", "rows", "columns"),
    [
        ((112, 112), 1, 1, 16),
        ((28, 28), 4, 1, 14),  # two tiles a row, where 16 pixels leave one alone
        ((14, 14), 8, 1, 14),
        ((7, 7), 16, 2, 7),  # four tiles, the last a row higher
    ],
)
def test_tiles_of_the_usual_images(
    image: tuple[int, int], steps: int, rows: int, columns: int
) -> None:
    assert pixel_tiles(*image, steps) == PixelTiles(image, rows, columns)


def test_tiles_fit_registers_and_cover_the_image() -> None:
    for height in range(1, 20):
        for width in range(1, 20):
            found = pixel_tiles(height, width, 4)
            down, across = found.counts
            assert found.pixels <= 16
            assert (down - 1) * found.rows < height <= down * found.rows
            assert (across - 1) * found.columns < width <= across * found.columns
            assert found.rows <= height and found.columns <= width


@pytest.mark.parametrize(
    ("channels", "steps", "each"),
    [
        (16, 1, 16),
        (24, 1, 32),
        (64, 1, 64),
        (96, 2, 48),
        (144, 3, 48),
        (160, 3, 64),
        (1024, 16, 64),
    ],
)
def test_steps_of_bytes(channels: int, steps: int, each: int) -> None:
    found = depth_of(channels, 1)
    assert (found.steps, found.channels) == (steps, each)


# Assembly: cross-compiled, so no target has to be at hand

TILE = re.compile(r"^\s*(tile\w+|tdp\w+|ldtilecfg)\b(.*)$", re.M)
LARGE = [
    # kernels of 1.0-224, and whether weights stay
    (ByteTiles, (32, 64), (112, 112), True),
    (ByteTiles, (128, 128), (56, 56), True),
    (ByteTiles, (512, 512), (14, 14), False),
    (Bf16Tiles, (256, 256), (28, 28), False),
]


@pytest.mark.parametrize(("of", "channels", "size", "stays"), LARGE)
def test_instructions(
    of: type[ByteTiles | Bf16Tiles], channels: tuple[int, int], size: tuple[int, int], stays: bool
) -> None:
    spec = target.resolve(NAME)
    expression = odd_kernels.AS_BYTE if of is ByteTiles else SELF
    case = of(Convolution("conv2d", channels, size, activation=RELU6), expression)
    assembly = compiled(case, spec.tvm_target())
    found = TILE.findall(assembly)
    names = [name for name, _ in found]
    product, other = ("tdpbusd", "tdpbf16ps")[:: 1 if of is ByteTiles else -1]
    assert names.count("ldtilecfg") == names.count("tilerelease") == 1, "once for a thread"
    assert names.count(product) >= 4
    assert other not in names
    # what is stored are the sums; a register that is spilled would be stored, and loaded again
    sums = {operands.split(",")[0].strip() for name, operands in found if name == "tilezero"}
    stored = [operands.split(",")[0].strip() for name, operands in found if name == "tilestored"]
    assert sorted(stored) == sorted(sums)
    start, end = names.index("tilezero"), names.index("tilestored")
    loads = names[start:end].count("tileloadd")
    steps = names[start:end].count(product)
    assert loads == (steps // 2 if stays else steps), "pixels alone, or as many weights"
    # in between, what is made of the sums before those: its operands come from memory alone
    between = assembly[assembly.index("tilezero") : assembly.rindex("tilestored")]
    assert ("vcvtdq2ps" if of is ByteTiles else "vcvtne2ps2bf16") in between
    spilled = re.compile(r"^\s*vmovu?a?ps\s+%zmm\d+, -?\d*\(%rsp\)", re.M)
    assert not spilled.search(assembly)


def compiled(case: ByteTiles | Bf16Tiles, found: tvm.target.Target) -> str:
    plain = case.func().with_attr("global_symbol", "main")
    library = lower(default_schedule(plain, found).mod, found)
    assembly: str = library.inspect_source("asm")
    return assembly
