"""The CUDA rules' structure, and the models behind their defaults; no nvcc, no GPU.

Their numbers are tested in test_cuda_numerics.py, the code that comes of them in
test_cuda_compile.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support import gpu_networks
from tvm import relax, tirx

from schedules import RULES
from schedules.cuda import fma_product, fusion, mma_product
from schedules.cuda.depthwise_half import After
from schedules.cuda.device import GpuModel, device_of
from schedules.cuda.fragments import (
    TILE,
    a_place,
    b_place,
    c_element,
    c_place,
    tf32_a_place,
    tf32_b_place,
)
from schedules.cuda.kernel_times import KernelTimes
from schedules.cuda.mma_intrinsics import HALF as HALVES
from schedules.cuda.mma_intrinsics import TF32, Operand
from schedules.cuda.tiles import Tile, tile_of, tiles_of
from schedules.cuda.workload import Convolution
from schedules.filter_window import Window
from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.cuda.program import Launch
from tvm_mobilenet.hardware import target
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.gpu.conv2d import conv2d, separable_conv2d
from tvm_mobilenet.kernels.gpu.depthwise import depthwise_conv2d
from tvm_mobilenet.kernels.gpu.head import dense, global_avg_pool2d, pooled_dense
from tvm_mobilenet.kernels.gpu.image import Image, pack
from tvm_mobilenet.kernels.gpu.pointwise_depthwise import pointwise_depthwise_conv2d
from tvm_mobilenet.kernels.gpu.stem import stem_conv2d
from tvm_mobilenet.scheduling.rules import default_schedule, rule_of

RELU = Activation(low=0.0)
AROUND = Window((3, 3), (1, 1), (1, 1))
HALF = Image(1, 512, 14, 14, "float16")
SINGLE = Image(1, 512, 14, 14)
QUARTER = Tile((7, 7), (8, 8))  # of such an image
FUNCTIONS: dict[str, Callable[[], tirx.PrimFunc]] = {
    "conv2d": lambda: conv2d(Image(1, 64, 14, 14), Image(1, 64, 14, 14), AROUND, RELU),
    "conv2d_mma": lambda: conv2d(
        Image(1, 64, 14, 14, "float16"), Image(1, 64, 14, 14, "float16"), AROUND, RELU
    ),
    "conv2d_tf32": lambda: conv2d(
        Image(1, 64, 14, 14), Image(1, 64, 14, 14), AROUND, RELU, tf32=True
    ),
    "dense": lambda: dense(1, 1024, 1000, "float16", Activation()),
    "depthwise_conv2d": lambda: depthwise_conv2d(HALF, HALF, AROUND, RELU),
    "global_avg_pool2d": lambda: global_avg_pool2d(Image(1, 1024, 7, 7, "float16")),
    "layout": lambda: pack(HALF),
    "pointwise_conv2d": lambda: conv2d(SINGLE, SINGLE, Window(), RELU),
    "pointwise_conv2d_mma": lambda: conv2d(HALF, HALF, Window(), RELU),
    "pointwise_conv2d_tf32": lambda: conv2d(SINGLE, SINGLE, Window(), RELU, tf32=True),
    "pointwise_depthwise_conv2d": lambda: pointwise_depthwise_conv2d(
        SINGLE, SINGLE, SINGLE, AROUND, QUARTER, RELU, RELU
    ),
    "pointwise_depthwise_conv2d_mma": lambda: pointwise_depthwise_conv2d(
        HALF, HALF, HALF, AROUND, QUARTER, RELU, RELU
    ),
    "pointwise_depthwise_conv2d_tf32": lambda: pointwise_depthwise_conv2d(
        SINGLE, SINGLE, SINGLE, AROUND, QUARTER, RELU, RELU, tf32=True
    ),
    "pooled_dense": lambda: pooled_dense(Image(1, 1024, 7, 7, "float16"), 1000, Activation()),
    "separable_conv2d": lambda: separable_conv2d(SINGLE, SINGLE, SINGLE, AROUND, RELU, RELU),
    "separable_conv2d_mma": lambda: separable_conv2d(HALF, HALF, HALF, AROUND, RELU, RELU),
    "separable_conv2d_tf32": lambda: separable_conv2d(
        SINGLE, SINGLE, SINGLE, AROUND, RELU, RELU, tf32=True
    ),
    "stem_conv2d": lambda: stem_conv2d(
        (1, 3, 224, 224),
        Image(1, 32, 112, 112, "float16"),
        Window((3, 3), (2, 2), (1, 1)),
        RELU,
    ),
}


ARCHITECTURES = [name.removeprefix("cuda-") for name in target.known() if name.startswith("cuda-")]


def device(arch: str) -> GpuModel:
    return device_of(target.resolve(f"cuda-{arch}").tvm_target())


def test_a_golden_file_for_every_rule() -> None:
    assert sorted(FUNCTIONS) == sorted(RULES["cuda"])


@pytest.mark.parametrize("rule", sorted(FUNCTIONS))
def test_structure(rule: str, golden: Callable[[str, str], None]) -> None:
    func = FUNCTIONS[rule]().with_attr("global_symbol", "main")
    assert rule_of(func) == rule
    scheduled = default_schedule(func, target.resolve("cuda-sm_90").tvm_target())
    golden(f"schedules/cuda/{rule}.tvmscript", scheduled.mod.script() + "\n")


def test_tf32_is_refused_before_sm_80() -> None:
    func = FUNCTIONS["pointwise_conv2d_tf32"]().with_attr("global_symbol", "main")
    with pytest.raises(Exception, match="tf32 needs sm_80 or newer, got sm_75"):
        default_schedule(func, target.resolve("cuda-sm_75").tvm_target())


@pytest.mark.parametrize("place", [a_place, b_place, c_place, tf32_a_place, tf32_b_place])
def test_every_element_of_a_tile_has_a_place_of_its_own(place: Callable[..., object]) -> None:
    places = {place(row, column) for row in range(TILE) for column in range(TILE)}
    assert places == {(lane, held) for lane in range(32) for held in range(8)}


def test_results_are_read_where_they_were_put() -> None:
    for lane, held in np.ndindex(32, 8):
        assert c_place(*c_element(lane, held)) == (lane, held)


@pytest.mark.parametrize("operand", [HALVES, TF32], ids=["fp16", "tf32"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_small_images_fill_the_gpu(arch: str, operand: Operand) -> None:
    """At 14 x 14 and 7 x 7 the tiles get small enough for half the multiprocessors at least."""
    gpu = device(arch)
    for pixels, channels in ((196, 512), (49, 1024)):
        rows = -(-pixels // TILE) * TILE
        tiles = (rows // TILE, channels // TILE, channels // TILE)
        block = mma_product.best_block(gpu, *tiles, operand)
        warps = tiles[0] * tiles[1] // (block.m_each * block.n_each) * block.slices
        assert warps >= gpu.multiprocessors * gpu.tensor_cores / 2
        product = fma_product.best_block(gpu, rows, channels, channels)
        threads = rows * channels // (product.m * product.n) * product.threads
        assert threads >= gpu.multiprocessors * gpu.fma_lanes / 2


@pytest.mark.parametrize(
    ("size", "tile", "stride", "before"),
    [(14, 7, 1, 1), (14, 2, 1, 1), (15, 4, 2, 1), (14, 7, 2, 0), (7, 7, 1, 1), (9, 3, 3, 2)],
)
def test_a_tile_holds_what_its_outputs_meet(size: int, tile: int, stride: int, before: int) -> None:
    """By trying every output and tap along one axis."""
    results = -(-size // stride)
    window = Window((3, 1), (stride, 1), (before, 0))
    conv = Convolution(
        depthwise=True, source=(1, size, 1, 16), result=(1, results, 1, 16), window=window
    )
    met = [
        {
            row
            for output in range(start, min(start + tile, results))
            for row in range(output * stride - before, output * stride - before + 3)
            if 0 <= row < size
        }
        for start in range(0, results, tile)
    ]
    assert tile_of(conv, (tile, 1)).inputs == (max(max(rows) - min(rows) + 1 for rows in met), 1)


def test_tiles_leave_room_for_a_warps_registers() -> None:
    conv = gpu_networks.chain()[2]  # 112 x 112 x 64, every second pixel
    assert {tile.pixels for tile in tiles_of(conv, TILE)} >= {1, 49}
    assert max(tile.rows(TILE) for tile in tiles_of(conv, TILE)) <= 256


class RandomTimes:
    """Of layers and pairs, drawn once each."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.times: dict[tuple[Convolution, ...], float] = {}

    def alone(self, *layers: Convolution) -> float:
        return self.times.setdefault(layers, float(self.rng.uniform(len(layers) ** 0.5, 2)))

    def pair(self, first: Convolution, second: Convolution) -> tuple[float, Tile | None]:
        return self.alone(first, second), None


def test_the_cheapest_pairs_of_all(rng: np.random.Generator) -> None:
    chain = gpu_networks.chain()[:9]
    times: Any = RandomTimes(rng)

    def total(pairs: tuple[int, ...]) -> float:
        together = sum(times.alone(*chain[first : first + 2]) for first in pairs)
        paired = {layer for first in pairs for layer in (first, first + 1)}
        rest = sum(times.alone(c) for i, c in enumerate(chain) if i not in paired)
        return float(together + rest)

    firsts = range(len(chain) - 1)
    matchings = [
        pairs
        for count in range(len(chain) // 2 + 1)
        for pairs in itertools.combinations(firsts, count)
        if all(b - a > 1 for a, b in itertools.pairwise(pairs))
    ]
    time, pairs = fusion.cheapest(times, chain)
    assert time == pytest.approx(min(map(total, matchings)))
    assert time == pytest.approx(total(tuple(pair.first for pair in pairs)))


# of 1.0-224: by S a separable kernel, by P a 1x1 and a depthwise convolution, by . one layer
PAIRS = [
    ("cuda-sm_75", "fp32", 8, "SSSSSSSSSSSS.."),
    ("cuda-sm_86", "fp32", 64, ".PPP.SS.PPPPP..."),
    ("cuda-sm_86", "tf32", 1, ".P.SSS.P..........P."),
    ("cuda-sm_86", "fp16", 64, ".PPPPP.SSSSSS.."),
    ("cuda-sm_90", "fp16", 1, ".PPPPPPPPPPPP."),
    ("cuda-sm_90", "fp32", 64, "SSSSSS.............."),
]


@pytest.mark.parametrize(("name", "precision", "batch", "wanted"), PAIRS)
def test_pairs_of_the_network(name: str, precision: str, batch: int, wanted: str) -> None:
    """Launches decide for one image, memory for many, what is computed twice against both."""
    chain = [scaled(layer, batch) for layer in gpu_networks.chain()]
    pairs = fusion.cheapest_pairs(target.resolve(name).tvm_target(), precision, chain)
    kernels = ["."] * len(chain)
    for pair in pairs:
        kernels[pair.first : pair.first + 2] = ["P" if pair.tile else "S", ""]
    assert "".join(kernels) == wanted


def scaled(layer: Convolution, batch: int) -> Convolution:
    return replace(layer, source=(batch, *layer.source[1:]), result=(batch, *layer.result[1:]))


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
def test_separable_fusion_does_not_pay_with_many_channels(precision: str) -> None:
    """112 x 112 x 32 is computed once by every block; 7 x 7 x 1024 would be by dozens of them."""
    times = KernelTimes(device("sm_90"), precision)
    for batch in (1, 64):
        first, second = (scaled(layer, batch) for layer in gpu_networks.chain()[:2])
        assert times.separable(first, second) < times.alone(first) + times.alone(second)
    first, second = (scaled(layer, 64) for layer in gpu_networks.chain()[-2:])
    assert times.separable(first, second) > times.alone(first) + times.alone(second)


@pytest.mark.parametrize("operand", [HALVES, TF32], ids=["fp16", "tf32"])
def test_a_block_has_the_rows_that_its_half_asks_for(operand: Operand) -> None:
    half = After(rows=112, outputs=98, taps=9, value_bytes=operand.bytes)
    gpu = device("sm_86")
    best = mma_product.best_block(gpu, 7 * 3, 32, 32, operand, half)
    assert best.m_tiles == 7
    assert fma_product.best_block(gpu, 112 * 3, 512, 512, half).m == 112
    with pytest.raises(ValueError, match="empty"):  # nobody has so much shared memory
        mma_product.best_block(gpu, 700, 32, 32, operand, replace(half, rows=112 * 100))


def test_what_others_read_too_is_not_fused() -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("input", relax.TensorType((1, 32, 8, 8), "float32"))
    weights = (np.ones((32, 32, 1, 1), np.float32), np.ones((32, 1, 3, 3), np.float32))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(x, relax.const(weights[0])))
            z = relax.op.nn.conv2d(y, relax.const(weights[1]), padding=(1, 1), groups=32)
            z = builder.emit_output(relax.op.add(builder.emit(z), y))
        builder.emit_func_output(z)
    pairs = gpu_networks.unpooled("fp16", gpu_networks.pointwise_depthwise)
    lowered = pipeline.lower_graph(builder.finalize(), pairs)
    names = [kernel.name.partition("_conv2d")[0] for kernel in pipeline.extract_kernels(lowered)]
    assert {"pointwise", "depthwise"} <= set(names) and "pointwise_depthwise" not in names


def test_pooling_is_fused_with_the_classifier_where_a_launch_costs_more() -> None:
    """One image's 7 x 7 on a large GPU; not more images, nor a GPU of few multiprocessors."""
    large, small = (target.resolve(f"cuda-{arch}").tvm_target() for arch in ("sm_90", "sm_87"))
    assert fusion.pooling_pays(large, "fp16", 1, 49, 1024, 1000)
    assert not fusion.pooling_pays(large, "fp16", 4, 49, 1024, 1000)
    assert not fusion.pooling_pays(small, "fp16", 1, 49, 1024, 1000)
    steps = [step.kernel for step in planned_head("cuda-sm_90", 1)]
    assert steps[-1].startswith("pooled_dense_1x1") and "global" not in "".join(steps)
    assert "global_avg_pool2d_1x1x256" in [step.kernel for step in planned_head("cuda-sm_87", 7)]


def planned_head(name: str, batch: int) -> tuple[Launch, ...]:
    plan, _ = gpu_networks.planned(gpu_networks.mobilenet(0.25, 32, batch), name, "fp16")
    return plan.steps


@pytest.mark.parametrize("operand", [HALVES, TF32], ids=["fp16", "tf32"])
def test_the_reduction_is_sliced_where_tiles_are_few(operand: Operand) -> None:
    """7 x 7 x 1024 gives a large GPU 256 tiles; 64 images of 112 x 112 give it enough to do."""
    large = device("sm_90")
    assert mma_product.best_block(large, 4, 64, 64, operand).slices > 1
    assert mma_product.best_block(large, 64 * 112 * 112 // TILE, 4, 2, operand).slices == 1
    assert fma_product.best_block(large, 64, 1024, 1024).slices > 1
    assert fma_product.best_block(large, 64 * 112 * 112, 64, 32).slices == 1
