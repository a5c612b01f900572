"""Layers → calls of our own kernels for GPUs: channels last, two layers fused where it pays.

The counterpart of legalize_cpu.py. Everything between the first convolution
and the pooling is in ``precision``; the network's input and output stay float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.ir import Expr, Var

from schedules.cuda import workload
from schedules.cuda.fusion import Pair
from schedules.cuda.tiles import Tile
from schedules.filter_window import Window
from tvm_mobilenet.compiler.graph.layer_rewriter import (
    Array,
    LayerRewriter,
    convolution_chains,
    readers,
    stride_suffix,
    window_of,
)
from tvm_mobilenet.compiler.graph.layers import Convolution, Dense, Layer, Pooling, shape_of
from tvm_mobilenet.kernels.gpu.conv2d import conv2d, separable_conv2d
from tvm_mobilenet.kernels.gpu.depthwise import depthwise_conv2d
from tvm_mobilenet.kernels.gpu.head import dense, global_avg_pool2d, pooled_dense
from tvm_mobilenet.kernels.gpu.image import Image, pack, unpack
from tvm_mobilenet.kernels.gpu.pointwise_depthwise import pointwise_depthwise_conv2d
from tvm_mobilenet.kernels.gpu.stem import stem_conv2d
from tvm_mobilenet.kernels.gpu.weights import (
    pack_bias,
    pack_conv2d,
    pack_dense,
    pack_depthwise,
    pack_stem,
)

DTYPES = {"fp32": "float32", "tf32": "float32", "fp16": "float16"}
MAX_STEM_CHANNELS = 4  # of an image that is read as it comes: RGB, or with one more
MATRIX_BATCH = 8  # images from which the classifier is a product of matrices


@dataclass(frozen=True)
class Fusion:
    """What pays as one kernel.

    ``pairs(chain)``: which neighbours of a chain of depthwise and 1x1 convolutions;
    ``pooled(batch, pixels of an image, channels, outputs)``: pooling and the classifier after it.
    """

    pairs: Callable[[Sequence[workload.Convolution]], list[Pair]]
    pooled: Callable[[int, int, int, int], bool]


def legalize_gpu(precision: str, fusion: Fusion) -> tvm.transform.Pass:
    """The pass; ``fusion`` says where one kernel is better than two.

    ``precision`` is fp32, tf32 (float32, its products of matrices on tensor cores) or fp16.
    """

    @tvm.transform.module_pass(opt_level=0, name="LegalizeToOurGpuKernels")
    def run(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        legalized = _Legalizer(mod["main"], precision, fusion).run()
        legalized.update({gv: f for gv, f in mod.functions.items() if gv.name_hint != "main"})
        return legalized

    return run


@dataclass(frozen=True)
class ImageTensor:
    value: Var
    image: Image


class _Legalizer(LayerRewriter):
    def __init__(self, function: relax.Function, precision: str, fusion: Fusion) -> None:
        super().__init__(function)
        self.dtype, self.tf32 = DTYPES[precision], precision == "tf32"
        self.fused = fused_pairs(self.layers, function, fusion)
        self.pooled = pooled_pairs(self.layers, function, fusion)
        # the consumer of a fused layer computes it
        left = self.fused.keys() | self.pooled.keys()
        self.layers = [layer for layer in self.layers if layer.result not in left]
        self.images: dict[Var, ImageTensor] = {}

    # --- layers -------------------------------------------------------------------------------

    def convolution(self, layer: Convolution) -> None:
        if layer.source in self.fused:
            self.pair(*self.fused[layer.source], layer)
            return
        out, window, bias = self.image_of(layer.result), window_of(layer), pack_bias(layer.bias)
        if self.reads_image(layer):
            batch, channels, height, width = shape_of(layer.source)
            image = (batch, channels, height, width)
            func = stem_conv2d(image, out, window, layer.activation)
            args = [self.plain[layer.source], pack_stem(layer.weight), bias]
            self.image(layer, func, name_of("stem_conv2d", layer), args, out)
            return
        x = self.as_image(layer.source)
        if layer.depthwise:
            func = depthwise_conv2d(x.image, out, window, layer.activation)
            weight, kind = pack_depthwise(layer.weight, self.dtype), "depthwise_conv2d"
        else:
            func = conv2d(x.image, out, window, layer.activation, tf32=self.tf32)
            weight = pack_conv2d(layer.weight, self.dtype, tf32=self.tf32)
            kind = "pointwise_conv2d" if window == Window() else "conv2d"
        self.image(layer, func, name_of(kind, layer), [x.value, weight, bias], out)

    def pair(self, first: Convolution, tile: Tile | None, second: Convolution) -> None:
        if tile is None:
            self.separable(first, second)
        else:
            self.pointwise_depthwise(first, second, tile)

    def separable(self, first: Convolution, second: Convolution) -> None:
        x = self.as_image(first.source)
        middle, out = self.image_of(first.result), self.image_of(second.result)
        window, activations = window_of(first), (first.activation, second.activation)
        func = separable_conv2d(x.image, middle, out, window, *activations, tf32=self.tf32)
        args = [
            x.value,
            pack_depthwise(first.weight, self.dtype),
            pack_bias(first.bias),
            pack_conv2d(second.weight, self.dtype, tf32=self.tf32),
            pack_bias(second.bias),
        ]
        name = name_of("separable_conv2d", second) + stride_suffix(first)
        self.image(second, func, name, args, out)

    def pointwise_depthwise(self, first: Convolution, second: Convolution, tile: Tile) -> None:
        x = self.as_image(first.source)
        middle, out = self.image_of(first.result), self.image_of(second.result)
        activations = (first.activation, second.activation)
        func = pointwise_depthwise_conv2d(
            x.image, middle, out, window_of(second), tile, *activations, tf32=self.tf32
        )
        args = [
            x.value,
            pack_conv2d(first.weight, self.dtype, tf32=self.tf32),
            pack_bias(first.bias),
            pack_depthwise(second.weight, self.dtype),
            pack_bias(second.bias),
        ]
        name = name_of("pointwise_depthwise_conv2d", first) + stride_suffix(second)
        self.image(second, func, name, args, out)

    def pooling(self, layer: Pooling) -> None:
        x = self.as_image(layer.source)
        name = f"global_avg_pool2d_{x.image.width}x{x.image.height}x{x.image.channels}"
        batch, channels = x.image.batch, x.image.channels
        mean: Expr = self.call(
            global_avg_pool2d(x.image), name, [x.value], (batch, channels), "float32"
        )
        if shape_of(layer.result) != (batch, channels):
            mean = self.builder.emit(relax.op.reshape(mean, shape_of(layer.result)))
        self.plain[layer.result] = mean

    def dense(self, layer: Dense) -> None:
        features_in, features_out = layer.weight.shape
        batch = math.prod(shape_of(layer.source)[:-1])
        name = f"dense_{features_in}_{features_out}"
        if batch >= MATRIX_BATCH:
            self.dense_as_product(layer, name)
            return
        packed = [pack_dense(layer.weight, self.dtype), layer.bias.astype(np.float32)]
        shape = (batch, features_out)
        if layer.source in self.pooled:
            x = self.as_image(self.pooled[layer.source].source)
            func = pooled_dense(x.image, features_out, layer.activation)
            name = f"pooled_dense_{x.image.width}x{x.image.height}x{features_in}_{features_out}"
            self.plain[layer.result] = self.call(func, name, [x.value, *packed], shape, "float32")
            return
        func = dense(batch, features_in, features_out, self.dtype, layer.activation)
        args = [self.as_rows(layer.source), *packed]
        self.give_rows(layer, self.call(func, name, args, shape, "float32"))

    def dense_as_product(self, layer: Dense, name: str) -> None:
        """For many images: a 1x1 convolution over images of one pixel."""
        features_in, features_out = layer.weight.shape
        batch = math.prod(shape_of(layer.source)[:-1])
        x = Image(batch, features_in, 1, 1, self.dtype)
        out = Image(batch, features_out, 1, 1)
        packed = self.call(
            pack(x), f"pack_{features_in}", [self.as_rows(layer.source)], x.shape, self.dtype
        )
        weight = np.ascontiguousarray(layer.weight.T)[:, :, None, None]
        result = self.call(
            conv2d(x, out, Window(), layer.activation, tf32=self.tf32),
            name,
            [packed, pack_conv2d(weight, self.dtype, tf32=self.tf32), pack_bias(layer.bias)],
            out.shape,
            "float32",
        )
        name = f"unpack_{features_out}"
        rows = self.call(unpack(out), name, [result], (batch, features_out), "float32")
        self.give_rows(layer, rows)

    # --- layouts ------------------------------------------------------------------------------

    def image_of(self, var: Var) -> Image:
        batch, channels, height, width = shape_of(var)
        return Image(batch, channels, height, width, self.dtype)

    def reads_image(self, layer: Convolution) -> bool:
        """A dense convolution from a plain tensor of few channels."""
        channels = layer.weight.shape[1]
        return not layer.depthwise and channels <= MAX_STEM_CHANNELS and layer.source in self.plain

    def as_image(self, var: Var) -> ImageTensor:
        if var not in self.images:
            image = self.image_of(var)
            name = f"pack_{image.width}x{image.height}x{image.channels}"
            value = self.call(pack(image), name, [self.plain[var]], image.shape, image.dtype)
            self.images[var] = ImageTensor(value, image)
        return self.images[var]

    def unpack_var(self, var: Var) -> Expr:
        tensor = self.images[var]
        image = tensor.image
        name = f"unpack_{image.width}x{image.height}x{image.channels}"
        return self.call(unpack(image), name, [tensor.value], shape_of(var))

    def image(
        self,
        layer: Convolution,
        func: tirx.PrimFunc,
        name: str,
        args: list[Expr | Array],
        out: Image,
    ) -> None:
        value = self.call(func, name, args, out.shape, out.dtype)
        self.images[layer.result] = ImageTensor(value, out)


def fused_pairs(
    layers: list[Layer], function: relax.Function, fusion: Fusion
) -> dict[Var, tuple[Convolution, Tile | None]]:
    """Layers that the convolution after them computes, by their result, and by which tiles."""
    return {
        chain[pair.first].result: (chain[pair.first], pair.tile)
        for chain in convolution_chains(layers, function)
        for pair in fusion.pairs([workload_of(layer) for layer in chain])
    }


def workload_of(layer: Convolution) -> workload.Convolution:
    source, result = channels_last(layer.source), channels_last(layer.result)
    return workload.Convolution(layer.depthwise, source, result, window_of(layer))


def channels_last(var: Var) -> tuple[int, int, int, int]:
    batch, channels, height, width = shape_of(var)
    return batch, height, width, channels


def pooled_pairs(
    layers: list[Layer], function: relax.Function, fusion: Fusion
) -> dict[Var, Pooling]:
    """Poolings that the classifier after them computes, by their result."""
    made_by = {layer.result: layer for layer in layers}
    counts = readers(layers, function)
    pairs = {}
    for layer in layers:
        if not isinstance(layer, Dense):
            continue
        first = made_by.get(layer.source)
        if not isinstance(first, Pooling) or counts[first.result] != 1:
            continue
        batch, channels, height, width = shape_of(first.source)
        outputs = layer.weight.shape[1]
        if batch < MATRIX_BATCH and fusion.pooled(batch, height * width, channels, outputs):
            pairs[first.result] = first
    return pairs


def name_of(kind: str, layer: Convolution) -> str:
    _, channels, height, width = shape_of(layer.result)
    size = f"{width}x{height}x{channels}"
    if not layer.depthwise:
        size = f"{width}x{height}x{layer.weight.shape[1]}_{channels}"
    return f"{kind}_{size}{stride_suffix(layer)}"
