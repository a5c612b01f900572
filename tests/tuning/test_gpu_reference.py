"""What a GPU's kernel must compute, by NumPy: every kind has it, and the unscheduled one agrees."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tvm
from tvm import tirx

from schedules import RULES
from schedules.cuda.tiles import Tile
from schedules.filter_window import Window
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.gpu.conv2d import conv2d, separable_conv2d
from tvm_mobilenet.kernels.gpu.depthwise import depthwise_conv2d
from tvm_mobilenet.kernels.gpu.head import dense, global_avg_pool2d, pooled_dense
from tvm_mobilenet.kernels.gpu.image import Image, pack, unpack
from tvm_mobilenet.kernels.gpu.pointwise_depthwise import pointwise_depthwise_conv2d
from tvm_mobilenet.kernels.gpu.stem import stem_conv2d
from tvm_mobilenet.scheduling.space import workload_module
from tvm_mobilenet.tuning.workers import case, gpu_reference
from tvm_mobilenet.tuning.workers.arguments import arguments_of
from tvm_mobilenet.tuning.workers.blocked_arrays import Array
from tvm_mobilenet.tuning.workers.kernel_form import NoReference

RELU6, LINEAR = Activation(0.0, 6.0), Activation()
UNEVEN = Window((3, 3), (2, 2), (0, 1))
AROUND = Window((3, 3), (1, 1), (1, 1))
X, Y = Image(2, 24, 6, 10), Image(2, 40, 6, 10)
HALF = Image(2, 24, 6, 10, "float16"), Image(2, 40, 6, 10, "float16")
SMALL = Image(2, 24, 3, 5)
FUNCTIONS: dict[str, Callable[[], tirx.PrimFunc]] = {
    "conv2d": lambda: conv2d(X, Image(2, 40, 3, 5), UNEVEN, RELU6),
    "pointwise": lambda: conv2d(X, Y, Window(), LINEAR),
    "pointwise_mma": lambda: conv2d(*HALF, Window(), RELU6),
    "pointwise_tf32": lambda: conv2d(X, Y, Window(), RELU6, tf32=True),
    "depthwise": lambda: depthwise_conv2d(X, SMALL, UNEVEN, RELU6),
    "depthwise_wide": lambda: depthwise_conv2d(X, X, Window((5, 3), (1, 1), (2, 1)), LINEAR),
    "separable": lambda: separable_conv2d(X, SMALL, Image(2, 40, 3, 5), UNEVEN, RELU6, LINEAR),
    "separable_mma": lambda: separable_conv2d(HALF[0], *HALF, AROUND, RELU6, RELU6),
    "pointwise_depthwise": lambda: pointwise_depthwise_conv2d(
        X, Y, Image(2, 40, 3, 5), UNEVEN, Tile((3, 1), (6, 3)), RELU6, LINEAR
    ),
    "pointwise_depthwise_mma": lambda: pointwise_depthwise_conv2d(
        *HALF, HALF[1], AROUND, Tile((2, 5), (4, 6)), RELU6, RELU6
    ),
    "stem": lambda: stem_conv2d((2, 3, 7, 9), Image(2, 24, 4, 5), UNEVEN, RELU6),
    "global_avg_pool2d": lambda: global_avg_pool2d(X),
    "dense": lambda: dense(2, 24, 10, "float16", RELU6),
    "pooled_dense": lambda: pooled_dense(HALF[0], 10, LINEAR),
    "pack": lambda: pack(X),
    "unpack": lambda: unpack(HALF[0]),
}


@pytest.mark.parametrize("kind", sorted(FUNCTIONS))
def test_the_unscheduled_kernel_agrees(kind: str, rng: np.random.Generator) -> None:
    func = FUNCTIONS[kind]().with_attr("global_symbol", "main")
    arrays = random_arrays(func, rng)
    arrays[-1][:] = np.nan
    tensors = [tvm.runtime.tensor(array) for array in arrays]
    tvm.compile(tvm.IRModule({"main": func}), target="llvm")["main"](*tensors)
    wanted = gpu_reference.output(func, arrays[:-1], arrays[-1])
    tolerance = 2e-2 if "mma" in kind else 1e-4
    np.testing.assert_allclose(tensors[-1].numpy(), wanted, rtol=tolerance, atol=tolerance)


def test_a_reference_for_every_rule() -> None:
    rules = {rule.removesuffix("_mma").removesuffix("_tf32") for rule in RULES["cuda"]}
    assert rules == set(gpu_reference.REFERENCES)


def test_a_cpus_kernel_is_not_taken_for_a_gpus() -> None:
    from support.tuning_kernels import matmul

    func = matmul(8, 32, 16, "dense").func
    arrays = [np.zeros([int(dim) for dim in param.shape], np.float32) for param in func.params]
    with pytest.raises(NoReference, match="dense in a form the reference does not know"):
        gpu_reference.output(func, arrays[:-1], arrays[-1])


def random_arrays(func: tirx.PrimFunc, rng: np.random.Generator) -> list[Array]:
    arguments = arguments_of(workload_module(func))
    return case.random_values(arguments, int(rng.integers(1 << 30)))
