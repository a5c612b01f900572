"""The kernels of the 16 MobileNets, as the pipeline makes them of a network's stage table.

PyTorch and ONNX are left out: 16 exports would take a minute. tests/compiler/test_variants.py goes
that way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import tvm
from support.arrays import Array, normal
from support.kernel_cases import RELU, Convolution, Dense, Pooling, Separable
from tvm import relax, tirx
from tvm.ir import Constant

from tvm_mobilenet import models
from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.graph.legalize_cpu import CpuKernels, legalize
from tvm_mobilenet.kernels.cpu.conv2d import fusing_pays
from tvm_mobilenet.kernels.cpu.layout import WIDE_VECTOR, Blocked, Halo
from tvm_mobilenet.kernels.cpu.strassen import pays
from tvm_mobilenet.kernels.cpu.weights import panel_of
from tvm_mobilenet.models import MobileNetConfig, stages, variants
from tvm_mobilenet.models.stages import Layer

VARIANTS = tuple(
    models.config_from("mobilenet_v1", alpha, resolution) for alpha, resolution in variants.VARIANTS
)


@dataclass(frozen=True)
class Workload:
    """One distinct kernel, and the first variant and place where it occurs.

    ``id`` is the same for kernels that are the same: the layer's shape, and whether what reads its
    result needs a halo.
    """

    id: str
    config: MobileNetConfig
    place: int


def distinct(configs: tuple[MobileNetConfig, ...] = VARIANTS) -> list[Workload]:
    """Every kernel that one of the networks calls, once."""
    found: dict[str, Workload] = {}
    for config in configs:
        for place, name in enumerate(names(config)):
            found.setdefault(name, Workload(name, config, place))
    return list(found.values())


def names(config: MobileNetConfig) -> Iterator[str]:
    """A name for every kernel call of the network, in order."""
    *trunk, classifier = stages.layers(config)
    for layer, follower in zip(trunk, [*trunk[1:], None], strict=True):
        kind = "stem" if layer.name == "stem" else layer.op.removesuffix("3x3")
        size = f"{layer.out_size}x{layer.out_size}x{layer.in_channels}"
        channels = "" if layer.groups > 1 else f"_{layer.out_channels}"
        stride = f"-s{layer.stride}" if layer.stride > 1 else ""
        yield f"{kind}-{size}{channels}{stride}{'-halo' if padding(follower) else ''}"
    last = trunk[-1]
    yield f"pool-{last.out_size}x{last.out_size}x{last.out_channels}"
    yield f"dense-{classifier.in_channels}_{classifier.out_channels}"


def padding(layer: Layer | None) -> int:
    return layer.kernel // 2 if layer else 0


@dataclass(frozen=True)
class NetworkKernel:
    """A kernel call of a lowered network: the function and its packed constants, unscheduled."""

    func: tirx.PrimFunc
    constants: tuple[Array, ...]
    layer: Layer | None  # None for the pooling
    plain: tuple[Array, Array] | None
    follower: Layer | None

    def check(self, kernel: Callable[..., object], rng: np.random.Generator) -> None:
        """Run a compiled form of the function and compare it with PyTorch."""
        if isinstance(self.case, Pooling):
            self.case.check(kernel, rng)
        else:
            assert self.plain is not None
            weight, bias = self.constants
            self.case.compare(kernel, rng, self.plain, (weight, bias))

    @property
    def case(self) -> Convolution | Dense | Pooling:
        """The shapes, read off the function's own buffers."""
        shapes = [tuple(int(dim) for dim in buffer.shape) for buffer in self.func.params]
        if self.layer is None:
            _, blocks, height, width, v = shapes[0]
            if v >= WIDE_VECTOR:
                blocks, height = height, blocks
            return Pooling(blocks * v, (height, width), v)
        if self.layer.op == "fully_connected":
            blocks = int(np.prod(shapes[1])) // (self.layer.in_channels * shapes[1][-1])
            features = (self.layer.in_channels, self.layer.out_channels)
            return Dense(features, blocks, shapes[1][-2], shapes[1][-1])
        around, after = padding(self.layer), padding(self.follower)
        stem = len(shapes[0]) == 4
        kind = "stem" if stem else "depthwise" if self.layer.groups > 1 else "conv2d"
        return Convolution(
            kind,
            (self.layer.in_channels, self.layer.out_channels),
            (self.layer.in_size, self.layer.in_size),
            (1 if stem else shapes[0][-1], shapes[-1][-1]),
            (self.layer.kernel, self.layer.kernel),
            (self.layer.stride, self.layer.stride),
            (around, around, around, around),
            RELU,
            Halo(after, after, after, after),
        )


def fast_products(
    vector_width: int, configs: tuple[MobileNetConfig, ...] = VARIANTS
) -> list[Convolution]:
    """Every Strassen product of the networks, and the depthwise kernel before it, once."""
    found: dict[str, Convolution] = {}
    v = (vector_width, vector_width)
    for config in configs:
        *trunk, _ = stages.layers(config)
        for before, layer, follower in zip(trunk, trunk[1:], [*trunk[2:], None], strict=False):
            size, channels = layer.out_size, (layer.in_channels, layer.out_channels)
            x, out = (Blocked(1, count, size, size, vector_width) for count in channels)
            if layer.kernel > 1 or not pays(x, out):
                continue
            halo = Halo(*4 * (padding(follower),))
            panel = panel_of(out.blocks // 2)
            same = 4 * (padding(before),)
            for case in (
                Convolution(
                    "operands",
                    2 * (before.in_channels,),
                    2 * (before.in_size,),
                    v,
                    2 * (before.kernel,),
                    2 * (before.stride,),
                    same,
                    RELU,
                ),
                Convolution(
                    "strassen", channels, 2 * (size,), v, activation=RELU, halo=halo, panel=panel
                ),
            ):
                found.setdefault(case.id, case)
    return list(found.values())


def fused_blocks(
    vector_width: int, configs: tuple[MobileNetConfig, ...] = VARIANTS
) -> list[Separable]:
    """Every depthwise-separable block of the networks that one kernel computes, once."""
    found: dict[str, Separable] = {}
    for config in configs:
        *trunk, _ = stages.layers(config)
        for before, layer, follower in zip(trunk, trunk[1:], [*trunk[2:], None], strict=False):
            size = layer.out_size
            out = Blocked(1, layer.out_channels, size, size, vector_width)
            if layer.kernel > 1 or not fusing_pays(out):
                continue
            first = Convolution(
                "depthwise",
                2 * (before.in_channels,),
                2 * (before.in_size,),
                2 * (vector_width,),
                2 * (before.kernel,),
                2 * (before.stride,),
                4 * (padding(before),),
                RELU,
            )
            halo, panel = Halo(*4 * (padding(follower),)), panel_of(out.blocks)
            case = Separable(first, out.channels, vector_width, RELU, halo, panel)
            found.setdefault(case.id, case)
    return list(found.values())


def kernel(workload: Workload, vector_width: int) -> NetworkKernel:
    return network(workload.config, vector_width)[workload.place]


@cache
def network(config: MobileNetConfig, vector_width: int) -> list[NetworkKernel]:
    """Every kernel call of the network, in order."""
    module, weights = relax_module(config)
    lowered = pipeline.lower_graph(module, legalize(CpuKernels(vector_width)))
    calls = [
        binding.value
        for block in lowered["main"].body.blocks
        for binding in block.bindings
        if getattr(getattr(binding.value, "op", None), "name", None) == "relax.call_tir"
    ]
    *trunk, classifier = stages.layers(config)
    layers: list[Layer | None] = [*trunk, None, classifier]
    plain = [*weights[:-1], None, weights[-1]]
    assert len(calls) == len(layers), "one kernel a layer"
    return [
        NetworkKernel(
            lowered[call.args[0]].with_attr("global_symbol", "main"),
            tuple(arg.value.numpy() for arg in call.args[1].fields if isinstance(arg, Constant)),
            layer,
            weight,
            follower,
        )
        for call, layer, weight, follower in zip(
            calls, layers, plain, [*layers[1:], None], strict=True
        )
    ]


def relax_module(
    config: MobileNetConfig, batch: int = 1
) -> tuple[tvm.IRModule, list[tuple[Array, Array]]]:
    """A network as the importer gives it, batch norm folded, with (weight, bias) of each layer."""
    rng = np.random.default_rng(config.seed)
    builder = relax.BlockBuilder()
    x: Any = relax.Var("input", relax.TensorType((batch, *config.input_shape), "float32"))
    weights: list[tuple[Array, Array]] = []
    with builder.function("main", [x]):
        with builder.dataflow():
            for layer in stages.layers(config):
                shape = (layer.out_channels, layer.in_channels // layer.groups)
                weight = normal(rng, *shape, layer.kernel, layer.kernel)
                weight /= np.float32(np.sqrt(layer.fan_in))
                bias = normal(rng, layer.out_channels)
                if layer.op == "fully_connected":
                    x = builder.emit(relax.op.mean(x, [2, 3]))
                    weight = np.ascontiguousarray(weight[:, :, 0, 0].T)
                    x = builder.emit(relax.op.matmul(x, relax.const(weight)))
                    x = builder.emit(relax.op.add(x, relax.const(bias)))
                else:
                    x = convolution(builder, x, layer, weight, bias)
                weights.append((weight, bias))
            output = builder.emit_output(x)
        builder.emit_func_output(output)
    return builder.finalize(), weights


def convolution(
    builder: relax.BlockBuilder, x: Any, layer: Layer, weight: Array, bias: Array
) -> Any:
    y = relax.op.nn.conv2d(
        x, relax.const(weight), layer.stride, padding(layer), groups=layer.groups
    )
    y = builder.emit(relax.op.add(builder.emit(y), relax.const(bias.reshape(1, -1, 1, 1))))
    return builder.emit(relax.op.nn.relu(y))
