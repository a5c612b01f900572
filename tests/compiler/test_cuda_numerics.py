"""The numbers of the GPU kernels, on a GPU that is this CPU: the very source that nvcc gets.

Every network runs with its threads in both orders, and what nobody wrote is NaN.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tvm
from support import gpu_networks
from support.family_network import SHAPE, Family
from support.gpu_networks import Network, Pairs
from support.static_programs import relax_of, seeded
from torch.nn import functional
from tvm import relax
from tvm.target import Target

from schedules.cuda.fusion import Pair
from schedules.cuda.tiles import tiles_of
from schedules.cuda.workload import Convolution
from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.cuda.backend import schedule_the_rest
from tvm_mobilenet.compiler.cuda.lowering import lower
from tvm_mobilenet.kernels.gpu.image import TILE
from tvm_mobilenet.kernels.gpu.weights import round_to_tf32
from tvm_mobilenet.scheduling.space import Candidate, KernelSpace, Knob, Rejected
from tvm_mobilenet.scheduling.traces import Option

# (target, precision, alpha, resolution, batch): every kind of tile, channels that fill none,
# images of one pixel at the end, and batches below and above where the classifier is a product
CASES = [
    ("cuda-sm_90", "fp32", 1.0, 64, 1),
    ("cuda-sm_90", "fp16", 1.0, 64, 1),
    ("cuda-sm_75", "fp16", 0.75, 64, 1),
    ("cuda-sm_87", "fp32", 0.33, 64, 3),
    ("cuda-sm_86", "fp16", 0.33, 32, 9),
    ("cuda-sm_80", "tf32", 0.33, 32, 9),
]


@pytest.mark.in_turns(3)
@pytest.mark.parametrize(("name", "precision", "alpha", "resolution", "batch"), CASES)
def test_networks(
    name: str,
    precision: str,
    alpha: float,
    resolution: int,
    batch: int,
    tmp_path: Path,
    rng: np.random.Generator,
    monkeypatch: Any,
) -> None:
    network = gpu_networks.mobilenet(alpha, resolution, batch)
    plan, kind = gpu_networks.planned(network, name, precision)
    gpu_networks.run_emulated(network, plan, kind, precision, tmp_path, rng, monkeypatch)


@pytest.mark.parametrize(
    ("fuse", "precision", "wanted"),
    [
        (gpu_networks.separable, "fp32", {"separable"}),
        (gpu_networks.alone, "fp16", {"depthwise", "pointwise"}),
    ],
    ids=["separable", "alone"],
)
def test_fusing_changes_nothing(
    fuse: Pairs,
    precision: str,
    wanted: set[str],
    tmp_path: Path,
    rng: np.random.Generator,
    monkeypatch: Any,
) -> None:
    network = gpu_networks.mobilenet(0.25, 32)
    plan, kind = gpu_networks.planned(network, "cuda-sm_90", precision, fuse)
    kinds = {step.kernel.partition("_conv2d")[0] for step in plan.steps if "conv2d" in step.kernel}
    assert kinds == {"stem", *wanted}
    gpu_networks.run_emulated(network, plan, kind, precision, tmp_path, rng, monkeypatch)


@pytest.mark.in_turns(3)
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
def test_random_decisions(
    precision: str, tmp_path: Path, rng: np.random.Generator, monkeypatch: Any
) -> None:
    """A point of every kernel's space that the tuner could come to."""
    at_random = AtRandom(rng)
    network = gpu_networks.mobilenet(0.25, 64)
    plan, kind = gpu_networks.planned(network, "cuda-sm_90", precision, None, at_random)
    assert at_random.others > 5
    gpu_networks.run_emulated(network, plan, kind, precision, tmp_path, rng, monkeypatch)


class AtRandom:
    """Schedules kernels by random decisions; ``others`` counts those that are not the default's."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.others = rng, 0

    def __call__(self, mod: tvm.IRModule, kind: Target) -> tvm.IRModule:
        scheduled = dict(mod.functions.items())
        for kernel in pipeline.extract_kernels(mod):
            chosen = self.candidate(KernelSpace(kernel.func, kind))
            func = chosen.schedule.mod["main"].without_attr("global_symbol")
            scheduled[mod.get_global_var(kernel.name)] = func
        return tvm.IRModule(scheduled)

    def candidate(self, space: KernelSpace) -> Candidate:
        for _ in range(20):
            try:
                candidate = space.instantiate(self.choose)
            except Rejected:
                continue
            self.others += candidate.point != space.default.point
            return candidate
        return space.default

    def choose(self, _: int, knob: Knob) -> Option:
        return knob.options[self.rng.integers(len(knob.options))]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
def test_other_convolutions(
    precision: str, tmp_path: Path, rng: np.random.Generator, monkeypatch: Any
) -> None:
    """A dense 3x3 convolution with TensorFlow's padding, and an image as the output."""
    weight = rng.standard_normal((24, 6, 3, 3), dtype=np.float32)
    bias = rng.standard_normal(24, dtype=np.float32)
    builder = relax.BlockBuilder()
    x = relax.Var("input", relax.TensorType((2, 6, 10, 14), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(x, relax.const(weight), (2, 2), (0, 0, 1, 1)))
            y = builder.emit(relax.op.add(y, relax.const(bias.reshape(1, -1, 1, 1))))
            y = builder.emit_output(relax.op.clip(y, 0, 6))
        builder.emit_func_output(y)

    def reference(image: Any) -> Any:
        padded = functional.pad(torch.from_numpy(image).double(), (0, 1, 0, 1))
        filters, shift = (torch.from_numpy(array).double() for array in (weight, bias))
        return functional.conv2d(padded, filters, shift, 2).clip(0, 6).numpy()

    network = Network(builder.finalize(), (2, 6, 10, 14), (2, 24, 5, 7), reference)
    plan, kind = gpu_networks.planned(network, "cuda-sm_90", precision)
    assert [step.kernel.partition("_")[0] for step in plan.steps] == ["pack", "conv2d", "unpack"]
    gpu_networks.run_emulated(network, plan, kind, precision, tmp_path, rng, monkeypatch)


@pytest.mark.parametrize(
    ("stride", "precision"), [(1, "fp32"), (2, "tf32"), (1, "fp16"), (2, "fp16")]
)
def test_a_1x1_and_a_depthwise_convolution(
    stride: int, precision: str, tmp_path: Path, rng: np.random.Generator, monkeypatch: Any
) -> None:
    """As one kernel of a random tile and decisions, of shapes that fill none, padded unevenly."""
    weight = rng.standard_normal((40, 120, 1, 1), dtype=np.float32)
    filters = rng.standard_normal((40, 1, 3, 3), dtype=np.float32)
    bias = rng.standard_normal(40, dtype=np.float32)
    before, after = 2 - stride, 1
    padding = (before, before, after, after)
    builder = relax.BlockBuilder()
    x = relax.Var("input", relax.TensorType((2, 120, 6, 10), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.nn.conv2d(x, relax.const(weight)))
            y = builder.emit(relax.op.add(y, relax.const(bias.reshape(1, -1, 1, 1))))
            y = builder.emit(relax.op.clip(y, 0, 6))
            z = relax.op.nn.conv2d(y, relax.const(filters), stride, padding, groups=40)
            z = builder.emit_output(relax.op.nn.relu(builder.emit(z)))
        builder.emit_func_output(z)

    def reference(image: Any) -> Any:
        first, second, shift = (torch.from_numpy(a).double() for a in (weight, filters, bias))
        middle = functional.conv2d(torch.from_numpy(image).double(), first, shift).clip(0, 6)
        padded = functional.pad(middle, (before, after, before, after))
        return functional.relu(functional.conv2d(padded, second, None, stride, groups=40)).numpy()

    shape = (2, 40, 6 // stride, 10 // stride)
    network = Network(builder.finalize(), (2, 120, 6, 10), shape, reference)

    def pairs(chain: Sequence[Convolution]) -> list[Pair]:
        tiles = tiles_of(chain[1], TILE)
        return [Pair(0, tiles[rng.integers(len(tiles))])]

    plan, kind = gpu_networks.planned(network, "cuda-sm_86", precision, pairs, AtRandom(rng))
    assert [step.kernel.partition("_")[0] for step in plan.steps] == ["pack", "pointwise", "unpack"]
    gpu_networks.run_emulated(network, plan, kind, precision, tmp_path, rng, monkeypatch)


@pytest.mark.in_turns(3)
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
@pytest.mark.parametrize("slices", [2, 4])
def test_slices_of_the_inner_dimension(
    slices: int, precision: str, tmp_path: Path, rng: np.random.Generator, monkeypatch: Any
) -> None:
    """A 1x1 convolution whose inner dimension warps share out, of a shape that fills no tile."""
    weight = rng.standard_normal((40, 120, 1, 1), dtype=np.float32)
    builder = relax.BlockBuilder()
    x = relax.Var("input", relax.TensorType((2, 120, 7, 5), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit_output(relax.op.nn.conv2d(x, relax.const(weight)))
        builder.emit_func_output(y)

    def sliced(mod: tvm.IRModule, kind: Target) -> tvm.IRModule:
        scheduled = dict(gpu_networks.by_default(mod, kind).functions.items())
        (kernel,) = (k for k in pipeline.extract_kernels(mod) if k.name.startswith("pointwise"))
        space = KernelSpace(kernel.func, kind)
        chosen = space.at([slices.bit_length() - 1, *space.default.point[1:]])
        loops = set(
            re.findall(r'thread_binding\((\d+), thread="threadIdx.z"', str(chosen.schedule.mod))
        )
        assert loops == {str(slices)}
        func = chosen.schedule.mod["main"].without_attr("global_symbol")
        scheduled[mod.get_global_var(kernel.name)] = func
        return tvm.IRModule(scheduled)

    network = Network(
        builder.finalize(),
        (2, 120, 7, 5),
        (2, 40, 7, 5),
        lambda image: np.einsum("oi,nihw->nohw", weight[..., 0, 0].astype(np.float64), image),
    )
    plan, kind = gpu_networks.planned(network, "cuda-sm_80", precision, None, sliced)
    gpu_networks.run_emulated(network, plan, kind, precision, tmp_path, rng, monkeypatch)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("decisions", ["default", "random"])
def test_pooling_in_the_classifier(
    decisions: str, precision: str, tmp_path: Path, rng: np.random.Generator, monkeypatch: Any
) -> None:
    """As one kernel, of a shape that fills neither tiles nor threads."""
    weight = rng.standard_normal((40, 30), dtype=np.float32)
    bias = rng.standard_normal(30, dtype=np.float32)
    builder = relax.BlockBuilder()
    x = relax.Var("input", relax.TensorType((2, 40, 3, 5), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.mean(x, [2, 3]))
            y = builder.emit(relax.op.matmul(y, relax.const(weight)))
            y = builder.emit_output(relax.op.add(y, relax.const(bias)))
        builder.emit_func_output(y)
    network = Network(
        builder.finalize(),
        (2, 40, 3, 5),
        (2, 30),
        lambda image: image.astype(np.float64).mean((2, 3)) @ weight + bias,
    )
    plan, kind = gpu_networks.planned(
        network,
        "cuda-sm_90",
        precision,
        gpu_networks.alone,
        gpu_networks.by_default if decisions == "default" else AtRandom(rng),
        pooled=lambda *_: True,
    )
    assert [step.kernel.partition("_")[0] for step in plan.steps] == ["pack", "pooled"]
    gpu_networks.run_emulated(network, plan, kind, precision, tmp_path, rng, monkeypatch)


def test_the_emulated_gpu_detects_a_missing_barrier(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: Any
) -> None:
    network = gpu_networks.mobilenet(0.25, 32)
    plan, kind = gpu_networks.planned(network, "cuda-sm_90", "fp32")

    def without_barriers(*given: Any) -> Any:
        source, kernels = lower(*given)
        assert "__syncthreads();" in source
        return source.replace("__syncthreads();", ""), kernels

    monkeypatch.setattr(gpu_networks, "lower", without_barriers)
    with pytest.raises(AssertionError):
        gpu_networks.run_emulated(network, plan, kind, "fp32", tmp_path, rng, monkeypatch)


def test_the_emulated_gpu_detects_unrounded_tf32(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: Any
) -> None:
    network = gpu_networks.mobilenet(0.25, 32)
    plan, kind = gpu_networks.planned(network, "cuda-sm_90", "tf32")

    def without_rounding(*given: Any) -> Any:
        source, kernels = lower(*given)
        rounding = "return __uint_as_float(bits);"
        assert rounding in source
        return source.replace(rounding, "return x;"), kernels

    monkeypatch.setattr(gpu_networks, "lower", without_rounding)
    with pytest.raises(AssertionError):
        gpu_networks.run_emulated(network, plan, kind, "tf32", tmp_path, rng, monkeypatch)


def test_weights_are_rounded_as_the_instruction_rounds() -> None:
    """To nearest, ties away from zero; what tf32 holds, inf and NaN stay."""
    given = np.array([1, 1 + 2**-11, -1 - 2**-11, 1 + 2**-12, 2 - 2**-12, np.inf], np.float32)
    wanted = np.array([1, 1 + 2**-10, -1 - 2**-10, 1, 2, np.inf], np.float32)
    np.testing.assert_array_equal(round_to_tf32(given), wanted)
    assert np.isnan(round_to_tf32(np.array([np.nan], np.float32))).all()


@pytest.mark.parametrize(("name", "precision"), [("cuda-sm_90", "fp32"), ("cuda-sm_75", "fp16")])
def test_everything_the_family_uses(
    name: str, precision: str, tmp_path: Path, rng: np.random.Generator, monkeypatch: Any
) -> None:
    """Operators without a kernel of ours are scheduled by TVM's own default."""
    module = seeded(Family())
    network = gpu_networks.Network(
        relax_of(module, SHAPE),
        SHAPE,
        (1, 10),
        lambda x: module.double()(torch.from_numpy(x).double()).detach().numpy(),
    )
    plan, kind = gpu_networks.planned(network, name, precision, schedule=all_by_default)
    gpu_networks.run_emulated(network, plan, kind, precision, tmp_path, rng, monkeypatch)


def all_by_default(mod: tvm.IRModule, target: Target) -> tvm.IRModule:
    return schedule_the_rest(gpu_networks.by_default(mod, target), target)
