"""Layers → calls of our own TensorIR kernels over blocked activations, weights packed.

Activations stay in the blocked layout from the first convolution to the last, through residuals,
squeeze-excite, pooling, resizing and channels that change their place. Every tensor gets the halo
that its consumers' padding needs, so no kernel pads its input; the first convolution reads the
plain image. An operator we have no kernel for gets plain tensors and stays a Relax call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

import tvm
from tvm import relax
from tvm.ir import Expr, Var

from schedules.cpu.dot_products import UNSIGNED, Integers
from schedules.cpu.image_tiles import OverlappingTile
from schedules.cpu.pair_products import PAIR
from schedules.x86.tile_products import TILE_RULES
from tvm_mobilenet.compiler.graph.blocked_tensors import BlockedTensor, BlockedTensors
from tvm_mobilenet.compiler.graph.channels import move_channels
from tvm_mobilenet.compiler.graph.elementwise import fuse_elementwise
from tvm_mobilenet.compiler.graph.groups import expand_groups
from tvm_mobilenet.compiler.graph.layer_rewriter import is_pointwise, separable_pairs
from tvm_mobilenet.compiler.graph.layers import (
    NO_EPILOGUE,
    Channels,
    ChannelsToSpace,
    Convolution,
    Dense,
    Elementwise,
    Layer,
    Pooling,
    QuantizedConvolution,
    QuantizedDense,
    Resize,
    WindowPooling,
    is_plain,
    sources,
)
from tvm_mobilenet.compiler.graph.legalize_bf16 import (
    bf16_dense_convolution,
    bf16_depthwise,
    bf16_matrix_product,
    bf16_stem,
    halo_of_pairs,
    images_read,
    in_pairs,
)
from tvm_mobilenet.compiler.graph.legalize_float import (
    FUSED,
    STRASSEN,
    float_convolution,
    float_matrix_product,
    float_stem,
)
from tvm_mobilenet.compiler.graph.legalize_images import (
    channels,
    channels_to_space,
    elementwise,
    pooling,
    resize,
    window_pooling,
)
from tvm_mobilenet.compiler.graph.legalize_quantized import (
    QUANTIZED,
    fills,
    quantized_convolution,
    quantized_matrix_product,
    take_images,
    take_integer_sources,
)
from tvm_mobilenet.compiler.graph.legalize_quantized import needed_halo as needed_integer_halo
from tvm_mobilenet.compiler.graph.legalize_tiles import bf16_tiles, suits_tiles
from tvm_mobilenet.compiler.graph.pooling import pool_windows
from tvm_mobilenet.compiler.graph.quantized import take_quantized
from tvm_mobilenet.compiler.graph.resizing import resize_images, take_transposed
from tvm_mobilenet.compiler.graph.scales import take_scales
from tvm_mobilenet.compiler.graph.windows import round_windows
from tvm_mobilenet.kernels.cpu.conv2d import fusing_pays
from tvm_mobilenet.kernels.cpu.layout import MIN_VECTOR, NO_HALO, Halo
from tvm_mobilenet.kernels.cpu.strassen import pays

# what reads blocked tensors and leaves one
BLOCKED = (
    Channels
    | ChannelsToSpace
    | Convolution
    | QuantizedConvolution
    | Elementwise
    | Resize
    | WindowPooling
)


@dataclass(frozen=True)
class CpuKernels:
    """Which kernels a CPU's target has, and how tensors lie for them.

    Vectors hold ``vector_width`` floats; ``integers`` says how quantized activations lie. Of the
    kernels that not every target schedules, those with ``rules`` are used. ``tile`` says which
    images get tiles that overlap, None that there are none. With ``bf16`` layers are in bfloat16,
    and a dense convolution sums ``bf16_depth`` channels a step. ``looks_up``: instructions look
    bytes up. With ``small_weights`` a classifier's are not filled up to whole panels.
    """

    vector_width: int
    rules: Collection[str] = ()
    tile: OverlappingTile | None = None
    integers: Integers = UNSIGNED
    bf16: bool = False
    bf16_depth: int = PAIR
    looks_up: bool = False
    small_weights: bool = False


def legalize(kernels: CpuKernels, of: type[Legalizer] | None = None) -> tvm.transform.Pass:
    """The pass for targets with these kernels; ``of`` is another class, with some of its own."""

    @tvm.transform.module_pass(opt_level=0, name="LegalizeToOurKernels")
    def run(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        legalized = (of or Legalizer)(mod["main"], kernels).run()
        # the importer makes TensorIR of some operators by itself; their calls are kept
        legalized.update({gv: f for gv, f in mod.functions.items() if gv.name_hint != "main"})
        return legalized

    return run


class Legalizer(BlockedTensors):
    """Emits calls of our kernels; ``plain`` and ``blocked`` are the tensors in either layout."""

    scales_weights = True  # where the image has numbers for the weights' channels

    def __init__(self, function: relax.Function, kernels: CpuKernels) -> None:
        super().__init__(function)
        rules, integers = kernels.rules, kernels.integers
        bf16, bf16_depth = kernels.bf16, kernels.bf16_depth
        self.bf16, self.bf16_depth = bf16, bf16_depth
        self.vector_width = kernels.vector_width
        self.byte_lanes = integers.lanes or kernels.vector_width
        self.integers_of_target = integers
        self.rules, self.tiles = rules, TILE_RULES.issubset(rules)
        self.tile, self.looks_up = kernels.tile, kernels.looks_up
        self.small_weights = kernels.small_weights
        layers = self.layers
        if QUANTIZED.issubset(rules):
            layers = take_transposed(layers, self.lanes)
            layers = take_quantized(layers, function.body.body)
        layers = prepared(layers, function.body.body, self.lanes)
        # plain images, and integers whose real values are read, by what is spared
        layers, self.images = take_images(layers, function)
        layers, self.integers = take_integer_sources(layers, function)
        # what scales the weights of some 1x1 convolutions, by their results
        scaled = self.scales_weights and not bf16
        self.layers, self.scales = take_scales(layers, function) if scaled else (layers, {})
        self.in_bf16 = images_read(self.layers, BLOCKED.__args__) if bf16 else frozenset()
        self.halos = needed_halos(
            self.layers,
            partial(halo_of_pairs, depth=bf16_depth) if bf16 else needed_halo,
            integers.depth,
        )
        self.fills = fills(self.layers)
        # how many channels those have that are the pixels of another tensor
        self.windows = {
            layer.source: int(layer.result.ty.shape[1])
            for layer in self.layers
            if isinstance(layer, ChannelsToSpace)
        }
        # depthwise results that are left as the operands of the 1x1 convolution after them
        self.as_operands: set[Var] = set()
        # depthwise convolutions that the 1x1 convolution after them computes, by their results
        self.fused: dict[Var, Convolution] = {}
        self.pair_layers(function)
        self.layers = [layer for layer in self.layers if layer.result not in self.fused]
        # what a kernel over blocked tensors reads
        self.read_blocked = {
            self.integers_read(var)
            for layer in self.layers
            if isinstance(layer, BLOCKED)
            for var in sources(layer)
        }
        self.blocked: dict[Var, BlockedTensor] = {}

    def pair_layers(self, function: relax.Function) -> None:
        """Note which depthwise convolutions the 1x1 convolution after them has to do with."""
        for first, second in separable_pairs(self.layers, function):
            if first.epilogue != NO_EPILOGUE or first.dilation != (1, 1):
                continue
            middle, out = self.layout(first), self.layout(second)
            if STRASSEN.issubset(self.rules) and pays(middle, out):
                self.as_operands.add(first.result)
            elif FUSED in self.rules and fusing_pays(out) and self.tile_of(second, out) is None:
                self.fused[first.result] = first

    # --- layers -------------------------------------------------------------------------------

    def takes(self, layer: Convolution) -> bool:
        return True

    def emitters(self) -> dict[type, Callable[..., None]]:
        return super().emitters() | {
            Channels: partial(channels, self),
            QuantizedConvolution: partial(quantized_convolution, self),
            QuantizedDense: partial(quantized_matrix_product, self),
            Elementwise: partial(elementwise, self),
            ChannelsToSpace: partial(channels_to_space, self),
            Resize: partial(resize, self),
            WindowPooling: partial(window_pooling, self),
        }

    def convolution(self, layer: Convolution) -> None:
        # with tiles come dot products of pairs at half the rate of FMAs: for what memory bounds
        pairs = self.bf16 and not self.tiles
        if self.reads_image(layer):
            bf16_stem(self, layer) if pairs else float_stem(self, layer)
        elif self.bf16 and not layer.depthwise and suits_tiles(self, layer):
            bf16_tiles(self, layer)
        elif self.bf16 and in_pairs(layer, self.bf16_depth) and (pairs or is_pointwise(layer)):
            bf16_depthwise(self, layer) if layer.depthwise else bf16_dense_convolution(self, layer)
        else:
            float_convolution(self, layer)

    def reads_image(self, layer: Convolution) -> bool:
        """A dense convolution from a plain tensor with too few channels to fill a vector."""
        channels = layer.weight.shape[1]
        return (
            not layer.depthwise
            and is_plain(layer)
            and channels < MIN_VECTOR
            and layer.source in self.plain
        )

    def pooling(self, layer: Pooling) -> None:
        pooling(self, layer)

    def dense(self, layer: Dense) -> None:
        in_bf16 = self.bf16 and layer.weight.shape[0] % PAIR == 0
        bf16_matrix_product(self, layer) if in_bf16 else float_matrix_product(self, layer)


def prepared(layers: Sequence[Layer], results: Expr, lanes: Callable[[int], int]) -> list[Layer]:
    """What is computed otherwise than the importer has it; ``results`` are the network's.

    ``lanes`` says how many of a tensor's channels are in a vector.
    """
    images = resize_images(pool_windows(layers), lanes)
    channels = move_channels(expand_groups(images), results)
    return round_windows(fuse_elementwise(channels, results), results)


def needed_halo(layer: Convolution) -> Halo:
    """The whole padding, even where a stride leaves its last row unread: fewer distinct kernels."""
    top, left, bottom, right = layer.padding
    return Halo(top, bottom, left, right)


def needed_halos(
    layers: list[Layer],
    of_convolution: Callable[[Convolution], Halo] = needed_halo,
    depth: int = UNSIGNED.depth,
) -> dict[Var, Halo]:
    """For each tensor the halo that serves all the convolutions that read it.

    Those of integers sum ``depth`` channels a step.
    """
    halos: dict[Var, Halo] = {}
    for layer in layers:
        needed = (
            of_convolution(layer)
            if isinstance(layer, Convolution)
            else needed_integer_halo(layer, depth)
            if isinstance(layer, QuantizedConvolution)
            else None
        )
        if needed is not None:
            (source, *_) = sources(layer)
            halos[source] = halos.get(source, NO_HALO).union(needed)
    return halos
