"""Zeros around an image → the padding of the convolutions that read it.

TensorFlow's padding comes as a Pad node before each convolution, and TVM's importer makes such an
operator of every ``auto_pad``, of those too that add nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from tvm.ir import Expr, Var

from tvm_mobilenet.compiler.graph.layers import (
    Convolution,
    Layer,
    Other,
    is_call,
    sources,
    variables,
)

Padding = tuple[int, int, int, int]


def fold_padding(layers: Sequence[Layer], results: Expr) -> list[Layer]:
    """``layers`` without the paddings that convolutions can do; ``results`` are the network's."""
    padded: dict[Var, tuple[Var, Padding]] = {}  # results of paddings: of what, and by how much
    folded: list[Layer] = []
    for layer in layers:
        zeros = zero_padding(layer)
        if zeros is not None:
            padded[layer.result] = together(zeros, padded)
        if isinstance(layer, Convolution):
            source, padding = together((layer.source, layer.padding), padded)
            layer = replace(layer, source=source, padding=padding)
        folded.append(layer)
    read = {var for layer in folded for var in sources(layer)} | set(variables(results))
    return [layer for layer in folded if layer.result not in padded or layer.result in read]


def together(
    inner: tuple[Var, Padding], padded: Mapping[Var, tuple[Var, Padding]]
) -> tuple[Var, Padding]:
    """A padding, and that of what it reads, as one."""
    source, padding = inner
    if source not in padded:
        return inner
    source, more = padded[source]
    top, left, bottom, right = np.add(padding, more).tolist()
    return source, (top, left, bottom, right)


def zero_padding(layer: Layer) -> tuple[Var, Padding] | None:
    """The tensor that ``layer`` puts zeros around, and how many: (top, left, bottom, right)."""
    if not isinstance(layer, Other) or not is_call(layer.value, "relax.nn.pad"):
        return None
    value, source = layer.value, layer.value.args[0]
    widths = [int(width) for width in value.attrs.pad_width]
    zeros = str(value.attrs.pad_mode) == "constant" and float(value.attrs.pad_value) == 0
    if not isinstance(source, Var) or not zeros or len(widths) != 8 or any(widths[:4]):
        return None
    if min(widths) < 0:  # ONNX's way to crop
        return None
    top, bottom, left, right = widths[4:]
    return source, (top, left, bottom, right)
