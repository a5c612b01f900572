"""The CUDA rules' structure, and the models behind their defaults; no nvcc, no GPU.

Their numbers are tested in test_cuda_numerics.py, the code that comes of them in
test_cuda_compile.py.
"""

from __future__ import annotations

from collections.abc import Callable

import gpu_networks
import numpy as np
import pytest
from tvm import tirx

from schedules import RULES
from schedules.cuda import fma_product, fusion, mma_intrinsics, mma_product
from schedules.cuda.device import DEVICES
from schedules.cuda.mma_intrinsics import HALF as HALVES
from schedules.cuda.mma_intrinsics import TF32, Operand
from tvm_mobilenet import pipeline, target
from tvm_mobilenet.computes.conv2d import Activation
from tvm_mobilenet.computes.gpu import fragments
from tvm_mobilenet.computes.gpu.conv2d import Window, conv2d, separable_conv2d
from tvm_mobilenet.computes.gpu.depthwise import depthwise_conv2d
from tvm_mobilenet.computes.gpu.fragments import (
    TILE,
    a_place,
    b_place,
    c_element,
    c_place,
    tf32_a_place,
    tf32_b_place,
)
from tvm_mobilenet.computes.gpu.head import dense, global_avg_pool2d, pooled_dense
from tvm_mobilenet.computes.gpu.image import Image, pack
from tvm_mobilenet.computes.gpu.stem import stem_conv2d
from tvm_mobilenet.cuda.program import Step

RELU = Activation(low=0.0)
AROUND = Window((3, 3), (1, 1), (1, 1))
HALF = Image(1, 512, 14, 14, "float16")
SINGLE = Image(1, 512, 14, 14)
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


def test_a_golden_file_for_every_rule() -> None:
    assert sorted(FUNCTIONS) == sorted(RULES["cuda"])


@pytest.mark.parametrize("rule", sorted(FUNCTIONS))
def test_structure(rule: str, golden: Callable[[str, str], None]) -> None:
    func = FUNCTIONS[rule]().with_attr("global_symbol", "main")
    assert pipeline.rule_of(func) == rule
    scheduled = pipeline.default_schedule(func, target.resolve("cuda-sm_90").tvm_target())
    golden(f"schedules/cuda/{rule}.tvmscript", scheduled.mod.script() + "\n")


def test_tf32_is_refused_where_tensor_cores_do_not_multiply_it() -> None:
    func = FUNCTIONS["pointwise_conv2d_tf32"]().with_attr("global_symbol", "main")
    with pytest.raises(Exception, match="tf32 needs sm_80 or newer, came sm_75"):
        pipeline.default_schedule(func, target.resolve("cuda-sm_75").tvm_target())


@pytest.mark.parametrize("place", [a_place, b_place, c_place, tf32_a_place, tf32_b_place])
def test_every_element_of_a_tile_has_a_place_of_its_own(place: Callable[..., object]) -> None:
    places = {place(row, column) for row in range(TILE) for column in range(TILE)}
    assert places == {(lane, held) for lane in range(32) for held in range(8)}


def test_results_are_read_where_they_were_put() -> None:
    for lane, held in np.ndindex(32, 8):
        assert c_place(*c_element(lane, held)) == (lane, held)


@pytest.mark.parametrize(
    ("operand", "packed"), [(HALVES, fragments.HALVES), (TF32, fragments.TF32)]
)
def test_instructions_read_what_is_packed(operand: Operand, packed: fragments.Fragments) -> None:
    """`schedules` knows nothing of the computes: the layouts stand in both."""
    for row, column in np.ndindex(TILE, TILE):
        assert operand.a_place(row, column) == packed.a_place(row, column)
        assert operand.b_place(row, column) == packed.b_place(row, column)
        assert mma_intrinsics.c_place(row, column) == c_place(row, column)


@pytest.mark.parametrize("operand", [HALVES, TF32], ids=["fp16", "tf32"])
@pytest.mark.parametrize("arch", sorted(DEVICES))
def test_small_images_fill_the_gpu(arch: str, operand: Operand) -> None:
    """At 14 x 14 and 7 x 7 the tiles get small enough for half the multiprocessors at least."""
    device = DEVICES[arch]
    for pixels, channels in ((196, 512), (49, 1024)):
        rows = -(-pixels // TILE) * TILE
        tiles = (rows // TILE, channels // TILE, channels // TILE)
        block = mma_product.best_block(device, *tiles, operand)
        warps = tiles[0] * tiles[1] // (block.m_each * block.n_each) * block.slices
        assert warps >= device.multiprocessors * device.tensor_cores / 2
        product = fma_product.best_block(device, rows, channels, channels)
        threads = rows * channels // (product.m * product.n) * product.threads
        assert threads >= device.multiprocessors * device.fma_lanes / 2


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
def test_fusing_pays_unless_it_repeats_too_much(precision: str) -> None:
    """112 x 112 x 32 is computed once by every block; 7 x 7 x 1024 would be by dozens of them."""
    kind = target.resolve("cuda-sm_90").tvm_target()
    for batch in (1, 64):
        assert fusion.pays(kind, precision, batch * 112 * 112, 32, 64)
    assert not fusion.pays(kind, precision, 64 * 7 * 7, 1024, 1024)


def test_pooling_goes_to_the_classifier_where_a_launch_costs_more() -> None:
    """One image's 7 x 7 on a large GPU; not more images, nor a GPU of few multiprocessors."""
    large, small = (target.resolve(f"cuda-{arch}").tvm_target() for arch in ("sm_90", "sm_87"))
    assert fusion.pooling_pays(large, "fp16", 1, 49, 1024, 1000)
    assert not fusion.pooling_pays(large, "fp16", 4, 49, 1024, 1000)
    assert not fusion.pooling_pays(small, "fp16", 1, 49, 1024, 1000)
    steps = [step.kernel for step in planned_head("cuda-sm_90", 1)]
    assert steps[-1].startswith("pooled_dense_1x1") and "global" not in "".join(steps)
    assert "global_avg_pool2d_1x1x256" in [step.kernel for step in planned_head("cuda-sm_87", 7)]


def planned_head(name: str, batch: int) -> tuple[Step, ...]:
    plan, _ = gpu_networks.planned(gpu_networks.mobilenet(0.25, 32, batch), name, "fp16")
    return plan.steps


@pytest.mark.parametrize("operand", [HALVES, TF32], ids=["fp16", "tf32"])
def test_slices_where_tiles_are_fewer_than_places(operand: Operand) -> None:
    """7 x 7 x 1024 gives a large GPU 256 tiles; 64 images of 112 x 112 give it enough to do."""
    large = DEVICES["sm_90"]
    assert mma_product.best_block(large, 4, 64, 64, operand).slices > 1
    assert mma_product.best_block(large, 64 * 112 * 112 // TILE, 4, 2, operand).slices == 1
    assert fma_product.best_block(large, 64, 1024, 1024).slices > 1
    assert fma_product.best_block(large, 64 * 112 * 112, 64, 32).slices == 1
