"""Scales of a tensor's channels that the 1x1 convolution after them takes into its weights.

Squeeze-excite ends in a product of each channel with a number that every image has anew. Where
nothing but a 1x1 convolution reads that product, its weights can be multiplied instead: they are
fewer than the pixels of large images, and a pass over those is spared.
"""

from __future__ import annotations

from dataclasses import replace

from tvm import relax
from tvm.ir import Var

from tvm_mobilenet.compiler.graph.layer_rewriter import is_pointwise, readers
from tvm_mobilenet.compiler.graph.layers import Convolution, Elementwise, Layer, shape_of
from tvm_mobilenet.kernels.cpu.expressions import SELF, Input, apply

PRODUCTS = (apply("multiply", SELF, Input(1)), apply("multiply", Input(1), SELF))


def take_scales(
    layers: list[Layer], function: relax.Function
) -> tuple[list[Layer], dict[Var, Var]]:
    """The layers without such products, and what scales a convolution's weights, by its result."""
    counts = readers(layers, function)
    products = {
        layer.result: layer
        for layer in layers
        if isinstance(layer, Elementwise) and counts[layer.result] == 1
    }
    scales: dict[Var, Var] = {}
    kept: list[Layer] = []
    taken: set[Var] = set()
    for layer in layers:
        if isinstance(layer, Convolution) and is_pointwise(layer) and layer.source in products:
            tensor_and_scale = factors(products[layer.source])
            if tensor_and_scale is not None and pays(layer):
                tensor, scales[layer.result] = tensor_and_scale
                taken.add(layer.source)
                layer = replace(layer, source=tensor)
        kept.append(layer)
    return [layer for layer in kept if layer.result not in taken], scales


def factors(layer: Elementwise) -> tuple[Var, Var] | None:
    """The tensor and the scale of its channels, where the layer is nothing but their product."""
    if layer.expression not in PRODUCTS:
        return None
    batch, channels, *_ = shape = shape_of(layer.result)
    for tensor, scale in (layer.operands, layer.operands[::-1]):
        if not isinstance(tensor, Var) or not isinstance(scale, Var):
            return None
        if shape_of(tensor) == shape and shape_of(scale) == (batch, channels, 1, 1):
            return tensor, scale
    return None


def pays(layer: Convolution) -> bool:
    """Whether one image shares the weights, and has more pixels than they have outputs."""
    batch, channels, height, width = shape_of(layer.result)
    return batch == 1 and channels < height * width
