"""Layers → calls of our own TensorIR kernels over blocked activations, weights packed.

Activations stay in the blocked layout from the first convolution to the last, through residuals,
squeeze-excite, pooling, resizing and channels that change their place. Every tensor gets the halo
that its consumers' padding needs, so no kernel pads its input; the first convolution reads the
plain image. A large 1x1 convolution after a depthwise one is computed by Strassen's
algorithm, or fused with it, and a 3x3 convolution by Winograd's, where the target has schedules for
that. An operator we have no kernel
for gets plain tensors and stays a Relax call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax, tirx
from tvm.ir import Expr, Var

from schedules.cpu.dot_products import UNSIGNED, Integers
from schedules.cpu.image_tiles import ImageOutput, OverlappingTile
from schedules.filter_window import Window
from tvm_mobilenet.compiler.graph.channels import move_channels
from tvm_mobilenet.compiler.graph.elementwise import as_relax, fuse_elementwise
from tvm_mobilenet.compiler.graph.groups import expand_groups
from tvm_mobilenet.compiler.graph.layer_rewriter import (
    Array,
    LayerRewriter,
    is_pointwise,
    separable_pairs,
    stride_suffix,
)
from tvm_mobilenet.compiler.graph.layers import (
    NO_EPILOGUE,
    Channels,
    ChannelsToSpace,
    Convolution,
    Dense,
    Elementwise,
    Layer,
    Operand,
    Pooling,
    QuantizedConvolution,
    QuantizedDense,
    Resize,
    WindowPooling,
    WithEpilogue,
    is_plain,
    shape_of,
    sources,
    tensors,
)
from tvm_mobilenet.compiler.graph.legalize_bf16 import (
    bf16_dense_convolution,
    bf16_depthwise,
    bf16_matrix_product,
    bf16_stem,
    halo_of_pairs,
    in_pairs,
    stored_in_bf16,
)
from tvm_mobilenet.compiler.graph.legalize_quantized import (
    QUANTIZED,
    fills,
    quantized_convolution,
    quantized_matrix_product,
    real,
    take_images,
    take_integer_sources,
)
from tvm_mobilenet.compiler.graph.legalize_quantized import needed_halo as needed_integer_halo
from tvm_mobilenet.compiler.graph.pooling import pool_windows
from tvm_mobilenet.compiler.graph.quantized import take_quantized
from tvm_mobilenet.compiler.graph.resizing import resize_images
from tvm_mobilenet.compiler.graph.scales import take_scales
from tvm_mobilenet.kernels.cpu import winograd
from tvm_mobilenet.kernels.cpu.bfloat16 import PAIR
from tvm_mobilenet.kernels.cpu.channels import move_channels as moved_channels
from tvm_mobilenet.kernels.cpu.conv2d import (
    conv2d,
    depthwise_conv2d,
    fusing_pays,
    separable_conv2d,
    stem_conv2d,
)
from tvm_mobilenet.kernels.cpu.elementwise import Operand as EpilogueOperand
from tvm_mobilenet.kernels.cpu.elementwise import (
    blocked_operand,
    copy,
    feature_operand,
    read_bf16,
    read_integers,
    with_epilogue,
)
from tvm_mobilenet.kernels.cpu.expressions import LIMITS, SELF, Input, substitute
from tvm_mobilenet.kernels.cpu.head import blocked_avg_pool2d, dense, global_avg_pool2d
from tvm_mobilenet.kernels.cpu.layout import (
    BF16,
    MIN_VECTOR,
    NO_HALO,
    Blocked,
    Halo,
    pack,
    plain_dtype,
    unpack,
)
from tvm_mobilenet.kernels.cpu.overlap import overlap
from tvm_mobilenet.kernels.cpu.pooling import pool2d
from tvm_mobilenet.kernels.cpu.resize import channels_to_space, resize2d
from tvm_mobilenet.kernels.cpu.scaling import scale_weights
from tvm_mobilenet.kernels.cpu.strassen import (
    depthwise_operands,
    operand_shape,
    pack_strassen,
    pays,
    strassen_conv2d,
)
from tvm_mobilenet.kernels.cpu.weights import (
    dense_blocks,
    pack_channels,
    pack_conv2d,
    pack_dense,
    pack_depthwise,
    pack_stem,
    panel_of,
)

STRASSEN = frozenset({"depthwise_operands", "strassen_conv2d"})  # the rules it needs
WINOGRAD = frozenset({"winograd_operands", "winograd_conv2d"})  # and Winograd's
FUSED = "separable_conv2d"
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
CONVOLUTIONS = Convolution | QuantizedConvolution
REAL = Convolution | ChannelsToSpace  # layers that compute vectors of real numbers in any case
AnyArray: TypeAlias = NDArray[np.generic]


@dataclass(frozen=True)
class BlockedTensor:
    value: Var
    layout: Blocked


def legalize(
    vector_width: int,
    rules: Collection[str] = (),
    tile: OverlappingTile | None = None,
    *,
    small_weights: bool = False,
    bf16: bool = False,
    integers: Integers = UNSIGNED,
) -> tvm.transform.Pass:
    """The pass for targets whose vectors hold ``vector_width`` floats.

    ``integers`` says how quantized activations lie.

    Of the kernels that not every target schedules, those with ``rules`` are used. ``tile``
    says which images get tiles that overlap, None that there are none. With ``small_weights`` a
    classifier's are not filled up to whole panels. With ``bf16`` layers are in bfloat16.
    """

    @tvm.transform.module_pass(opt_level=0, name="LegalizeToOurKernels")
    def run(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        legalizer = Legalizer(mod["main"], vector_width, rules, tile, integers, bf16=bf16)
        legalizer.small_weights = small_weights
        legalized = legalizer.run()
        # the importer makes TensorIR of some operators by itself; their calls are kept
        legalized.update({gv: f for gv, f in mod.functions.items() if gv.name_hint != "main"})
        return legalized

    return run


class Legalizer(LayerRewriter):
    """Emits calls of our kernels; ``plain`` and ``blocked`` are the tensors in either layout."""

    small_weights = False

    def __init__(
        self,
        function: relax.Function,
        vector_width: int,
        rules: Collection[str],
        tile: OverlappingTile | None,
        integers: Integers,
        *,
        bf16: bool = False,
    ) -> None:
        super().__init__(function)
        self.bf16 = bf16
        self.vector_width, self.byte_lanes = vector_width, integers.lanes or vector_width
        self.integers_of_target = integers
        self.rules = rules
        self.tile = tile
        layers = self.layers
        if QUANTIZED.issubset(rules):
            layers = take_quantized(layers, function.body.body)
        layers = prepared(layers, function.body.body, self.lanes)
        # plain images, and integers whose real values are read, by what is spared
        layers, self.images = take_images(layers, function)
        layers, self.integers = take_integer_sources(layers, function)
        # what scales the weights of some 1x1 convolutions, by their results
        self.layers, self.scales = (layers, {}) if bf16 else take_scales(layers, function)
        self.in_bf16 = stored_in_bf16(self.layers, BLOCKED.__args__) if bf16 else frozenset()
        self.halos = needed_halos(self.layers, halo_of_pairs if bf16 else needed_halo)
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
        for first, second in separable_pairs(self.layers, function):
            if first.epilogue != NO_EPILOGUE or first.dilation != (1, 1):
                continue
            middle, out = self.layout(first), self.layout(second)
            if STRASSEN.issubset(rules) and pays(middle, out):
                self.as_operands.add(first.result)
            elif FUSED in rules and fusing_pays(out) and self.tile_of(second, out) is None:
                self.fused[first.result] = first
        self.layers = [layer for layer in self.layers if layer.result not in self.fused]
        # what a kernel over blocked tensors reads
        self.read_blocked = {
            self.integers_read(var)
            for layer in self.layers
            if isinstance(layer, BLOCKED)
            for var in sources(layer)
        }
        self.blocked: dict[Var, BlockedTensor] = {}

    # --- layers -------------------------------------------------------------------------------

    def takes(self, layer: Convolution) -> bool:
        return True

    def emitters(self) -> dict[type, Callable[..., None]]:
        return super().emitters() | {
            Channels: self.channels,
            QuantizedConvolution: partial(quantized_convolution, self),
            QuantizedDense: partial(quantized_matrix_product, self),
            Elementwise: self.elementwise,
            ChannelsToSpace: self.channels_to_space,
            Resize: self.resize,
            WindowPooling: self.window_pooling,
        }

    def convolution(self, layer: Convolution) -> None:
        if self.reads_image(layer):
            self.stem(layer)
        elif self.bf16 and in_pairs(layer):
            bf16_depthwise(self, layer) if layer.depthwise else bf16_dense_convolution(self, layer)
        elif layer.source in self.fused:
            self.separable(self.fused[layer.source], layer)
        elif layer.depthwise:
            self.depthwise(layer)
        elif layer.source in self.as_operands:
            self.strassen(layer)
        elif self.suits_winograd(layer):
            self.winograd(layer)
        else:
            self.dense_convolution(layer)

    def stem(self, layer: Convolution) -> None:
        if self.bf16:
            bf16_stem(self, layer)
            return
        out = self.layout(layer)
        top, left, bottom, right = layer.padding
        batch, channels, height, width = shape_of(layer.source)
        image, padding = (batch, channels, height, width), (top, bottom, left, right)
        func = stem_conv2d(image, padding, real(out), window(layer), layer.activation)
        func = self.in_tiles(layer, func, out)
        name = f"stem_conv2d_{out.width}x{out.height}x{out.channels}{stride_suffix(layer)}"
        args = [self.plain[layer.source], pack_stem(layer.weight, out.vector)]
        self.emit_blocked(layer, func, name, args, out)

    def depthwise(self, layer: Convolution) -> None:
        out = self.layout(layer)
        x = self.in_lanes(layer.source, out.vector)
        size = f"{out.width}x{out.height}x{out.channels}{stride_suffix(layer)}"
        args = [x.value, pack_depthwise(layer.weight, out.vector)]
        if layer.result in self.as_operands:
            func = depthwise_operands(x.layout, out, window(layer), layer.activation)
            name, shape = f"depthwise_operands_{size}", operand_shape(out)
            self.emit_blocked(layer, func, name, args, out, shape)
        else:
            func = depthwise_conv2d(real(x.layout), real(out), window(layer), layer.activation)
            func = read_stored(self.in_tiles(layer, func, out), x.layout)
            self.emit_blocked(layer, func, f"depthwise_conv2d_{size}", args, out)

    def separable(self, first: Convolution, second: Convolution) -> None:
        middle, out = self.layout(first), self.layout(second)
        x = self.in_lanes(first.source, middle.vector)
        panel = panel_of(out.blocks)
        func = separable_conv2d(
            x.layout, middle, out, window(first), first.activation, second.activation, panel
        )
        args = [
            x.value,
            pack_depthwise(first.weight, middle.vector),
            pack_channels(first.bias, middle.vector),
            pack_conv2d(second.weight, out.vector, panel),
        ]
        name = f"separable_conv2d_{out.width}x{out.height}x{middle.channels}_{out.channels}"
        self.emit_blocked(second, func, name + stride_suffix(first), args, out)

    def strassen(self, layer: Convolution) -> None:
        x, out = self.blocked[layer.source], self.layout(layer)
        panel = panel_of(out.blocks // 2)
        func = strassen_conv2d(x.layout, out, layer.activation, panel)
        name = f"strassen_conv2d_{out.width}x{out.height}x{x.layout.channels}_{out.channels}"
        args = [x.value, pack_strassen(layer.weight, out.vector, panel)]
        self.emit_blocked(layer, func, name, args, out)

    def suits_winograd(self, layer: Convolution) -> bool:
        shape = (layer.weight.shape[2:], layer.stride, layer.dilation, layer.groups)
        suits = shape == (winograd.KERNEL, (1, 1), (1, 1), 1)
        return suits and WINOGRAD.issubset(self.rules) and winograd.pays(self.layout(layer))

    def winograd(self, layer: Convolution) -> None:
        x, out = self.as_blocked(layer.source), self.layout(layer)
        size = f"{out.width}x{out.height}x{x.layout.channels}"
        func = winograd.winograd_operands(x.layout, out, window(layer))
        shape = winograd.operand_shape(x.layout, out)
        operands = self.call(func, f"winograd_operands_{size}", [x.value], shape)
        panel = panel_of(out.blocks)
        func = winograd.winograd_conv2d(x.layout, out, layer.activation, panel)
        args = [operands, winograd.pack_winograd(layer.weight, out.vector, panel)]
        self.emit_blocked(layer, func, f"winograd_conv2d_{size}_{out.channels}", args, out)

    def dense_convolution(self, layer: Convolution) -> None:
        x, out = self.as_blocked(layer.source), self.layout(layer)
        panel = panel_of(out.blocks // layer.groups)
        taps = window(layer)
        func = conv2d(real(x.layout), real(out), taps, layer.activation, panel, layer.groups)
        func = read_stored(self.in_tiles(layer, func, out), x.layout)
        kind = "pointwise_conv2d" if is_pointwise(layer) else "conv2d"
        name = f"{kind}_{out.width}x{out.height}x{x.layout.channels}_{out.channels}"
        weight: Expr | Array = pack_conv2d(layer.weight, out.vector, panel)
        if layer.result in self.scales:
            weight = self.scaled(weight, self.scales[layer.result])
        self.emit_blocked(layer, func, name + stride_suffix(layer), [x.value, weight], out)

    def scaled(self, weight: Array, by: Var) -> Expr:
        """A 1x1 convolution's packed weights, times a tensor of one pixel."""
        scale = self.as_blocked(by)
        func = scale_weights(scale.layout, weight.shape)
        panels, _, _, channels, panel, v = weight.shape
        name = f"scale_weights_{channels}_{panels * panel * v}"
        return self.call(func, name, [scale.value, weight], weight.shape)

    def in_tiles(self, layer: Convolution, func: tirx.PrimFunc, out: Blocked) -> tirx.PrimFunc:
        """The kernel, over tiles that overlap where no good one divides the result."""
        tile = self.tile_of(layer, out)
        return func if tile is None else overlap(func, (out.height, out.width), tile)

    def tile_of(self, layer: Convolution, out: Blocked) -> tuple[int | None, int] | None:
        """Rows and columns of tiles that overlap, None where none do."""
        if self.tile is None:
            return None
        size, kernel = (out.height, out.width), layer.weight.shape[2:]
        return self.tile(ImageOutput(*size, out.vector, kernel, layer.stride, layer.depthwise))

    def emit_blocked(
        self,
        layer: Convolution,
        func: tirx.PrimFunc,
        name: str,
        args: list[Expr | Array],
        out: Blocked,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        """Emit the layer's kernel with its bias and its epilogue.

        ``shape`` is the result's where it is not the layout's own.
        """
        args = [*args, pack_channels(layer.bias, out.vector)]
        self.emit_extended(layer, func, name, args, out, shape)

    def emit_extended(
        self,
        layer: WithEpilogue,
        func: tirx.PrimFunc,
        name: str,
        args: Sequence[Expr | AnyArray],
        out: Blocked,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        """Emit the kernel with the layer's epilogue."""
        if layer.epilogue != NO_EPILOGUE:
            beside = [self.beside(one, out) for one in layer.epilogue.operands]
            operands = [as_operand(value, layout, out) for value, layout in beside]
            func = with_epilogue(func, layer.epilogue.expression, operands, out.fill, out.dtype)
            args = [*args, *(value for value, _ in beside)]
            name += "_fused"
        else:
            func = stored(func, out)
        value = self.call(func, name, args, shape or out.shape, out.dtype)
        self.blocked[layer.result] = BlockedTensor(value, out)

    def beside(self, operand: Operand, out: Blocked) -> tuple[Expr | Array, Blocked]:
        """An operand of arithmetic over blocked tensors like ``out``, and how it lies."""
        if isinstance(operand, Var):
            tensor = self.in_lanes(operand, out.vector)
            return tensor.value, tensor.layout
        layout = Blocked(1, out.channels, 1, 1, out.vector)
        return pack_channels(operand, out.vector).reshape(layout.shape), layout

    def elementwise(self, layer: Elementwise) -> None:
        vars_read = tensors(layer.operands)
        if all(var in self.plain and var not in self.blocked for var in vars_read):
            values = [self.plain_operand(one, layer.result) for one in layer.operands]
            self.plain[layer.result] = self.builder.emit(as_relax(layer.expression, values))
            return
        out = self.layout(layer)
        whole = next(i for i, one in enumerate(layer.operands) if is_whole(one, layer.result))
        order = [whole, *(i for i in range(len(layer.operands)) if i != whole)]
        beside = [self.beside(layer.operands[i], out) for i in order]
        (_, first), *others = beside
        inputs = [Input(order.index(i)) for i in range(len(order))]
        copied = copy(real(first), real(out))
        func = with_epilogue(
            read_integers(copied, first.dtype)
            if first.dtype in LIMITS
            else read_stored(copied, first),
            substitute(layer.expression, inputs),
            [as_operand(value, layout, out) for value, layout in others],
            out.fill,
            out.dtype,
        )
        name = f"elementwise_{out.width}x{out.height}x{out.channels}"
        value = self.call(func, name, [value for value, _ in beside], out.shape, out.dtype)
        self.blocked[layer.result] = BlockedTensor(value, out)

    def window_pooling(self, layer: WindowPooling) -> None:
        out = self.layout(layer)
        x = self.in_lanes(self.integers_read(layer.source), out.vector)
        top, left, *_ = layer.padding
        window = Window(layer.kernel, layer.stride, (top, left))
        name = f"{layer.kind.partition('_')[0]}_pool2d_{out.width}x{out.height}x{out.channels}"
        func = pool2d(real(x.layout), real(out), window, layer.kind)
        func = read_stored(self.reading(layer.source, func), x.layout)
        self.emit_extended(layer, func, name, [x.value], out)

    def channels(self, layer: Channels) -> None:
        out = self.layout(layer)
        read = sources(layer)
        xs = [self.as_blocked(var) for var in read]
        places = tuple((read.index(var), channel) for var, channel in layer.channels)
        func = moved_channels(tuple(x.layout for x in xs), out, places)
        name = f"move_channels_{out.width}x{out.height}x{out.channels}"
        value = self.call(func, name, [x.value for x in xs], out.shape, out.dtype)
        self.blocked[layer.result] = BlockedTensor(value, out)

    def resize(self, layer: Resize) -> None:
        out = self.layout(layer)
        x = self.in_lanes(self.integers_read(layer.source), out.vector)
        func = resize2d(real(x.layout), real(out), layer.rows[0].shape[1])
        func = stored(read_stored(self.reading(layer.source, func), x.layout), out)
        name = f"resize2d_{out.width}x{out.height}x{out.channels}"
        args = [x.value, *layer.rows, *layer.columns]
        value = self.call(func, name, args, out.shape, out.dtype)
        self.blocked[layer.result] = BlockedTensor(value, out)

    def channels_to_space(self, layer: ChannelsToSpace) -> None:
        x, out = self.as_blocked(layer.source), self.layout(layer)
        func = channels_to_space(real(x.layout), real(out), layer.factor)
        func = read_stored(func, x.layout)
        name = f"channels_to_space_{out.width}x{out.height}x{out.channels}"
        self.emit_extended(layer, func, name, [x.value], out)

    def plain_operand(self, operand: Operand, result: Var) -> Expr:
        """An operand of Relax's own operators."""
        if isinstance(operand, Var):
            return self.as_plain(operand)
        rank = len(shape_of(result))
        return relax.const(operand.reshape(-1, *(1,) * (rank - 2)).astype(np.float32))

    def pooling(self, layer: Pooling) -> None:
        if layer.result in self.read_blocked:
            out = self.layout(layer)
            x = self.in_lanes(self.integers_read(layer.source), out.vector)
            name = f"blocked_avg_pool2d_{x.layout.width}x{x.layout.height}x{x.layout.channels}"
            func = self.reading(layer.source, blocked_avg_pool2d(real(x.layout), real(out)))
            func = read_stored(func, x.layout)
            self.emit_extended(layer, func, name, [x.value], out)
            return
        x = self.as_blocked(self.integers_read(layer.source))
        name = f"global_avg_pool2d_{x.layout.width}x{x.layout.height}x{x.layout.channels}"
        shape = (x.layout.batch, x.layout.channels)
        func = self.reading(layer.source, global_avg_pool2d(real(x.layout)))
        func = read_stored(func, x.layout)
        func, name, args = with_feature_epilogue(layer, func, name, [x.value], shape[1])
        mean: Expr = self.call(func, name, args, shape, dtype_of(layer))
        if shape_of(layer.result) != shape:
            mean = self.builder.emit(relax.op.reshape(mean, shape_of(layer.result)))
        self.plain[layer.result] = mean

    def dense(self, layer: Dense) -> None:
        if self.bf16 and layer.weight.shape[0] % PAIR == 0:
            bf16_matrix_product(self, layer)
            return
        v = self.vector_width
        features_in, features_out = layer.weight.shape
        panel, blocks = dense_blocks(features_out, v, full_panels=not self.small_weights)
        batch = math.prod(shape_of(layer.source)[:-1])
        func = dense(batch, features_in, features_out, blocks, panel, v, layer.activation)
        args = [
            self.as_rows(layer.source),
            pack_dense(layer.weight, v, blocks, panel),
            layer.bias,
        ]
        name = f"dense_{features_in}_{features_out}"
        self.emit_rows(layer, func, name, args, (batch, features_out))

    def emit_rows(
        self,
        layer: Dense | QuantizedDense,
        func: tirx.PrimFunc,
        name: str,
        args: list[Expr | AnyArray],
        shape: tuple[int, int],
    ) -> None:
        """Emit a kernel over rows of features, with the layer's epilogue."""
        func, name, args = with_feature_epilogue(layer, func, name, args, shape[1])
        self.give_rows(layer, self.call(func, name, args, shape, dtype_of(layer)))

    # --- layouts ------------------------------------------------------------------------------

    def layout(self, layer: Layer) -> Blocked:
        """How the layer's result lies in memory."""
        batch, channels, height, width = shape_of(layer.result)
        halo = self.halos.get(layer.result, NO_HALO)
        lanes, fill = self.lanes_of(layer, channels), self.fills.get(layer.result, 0)
        return Blocked(
            batch, channels, height, width, lanes, halo, self.stored_dtype(layer.result), fill
        )

    def stored_dtype(self, var: Var) -> str:
        """Of a tensor in the blocked layout."""
        return BF16 if var in self.in_bf16 else str(var.ty.dtype)

    def lanes_of(self, layer: Layer, channels: int) -> int:
        """Channels a vector of what ``layer`` computes."""
        if layer.result in self.windows:
            return self.lanes(self.windows[layer.result])
        integers = isinstance(layer, QuantizedConvolution) or (
            dtype_of(layer) in LIMITS and not isinstance(layer, REAL)
        )
        if isinstance(layer, CONVOLUTIONS) and layer.groups > 1:
            most = self.byte_lanes if integers else self.vector_width
            return math.gcd(most, channels // layer.groups)
        return self.lanes(channels, integers=integers)

    def lanes(self, channels: int, *, integers: bool = False) -> int:
        """Channels a vector: the target's, or fewer where a tensor has fewer channels."""
        enough = 1 << (channels - 1).bit_length()
        most = self.byte_lanes if integers else self.vector_width
        return min(most, max(MIN_VECTOR, enough))

    def reads_image(self, layer: Convolution) -> bool:
        """A dense convolution from a plain tensor with too few channels to fill a vector."""
        channels = layer.weight.shape[1]
        return (
            not layer.depthwise
            and is_plain(layer)
            and channels < MIN_VECTOR
            and layer.source in self.plain
        )

    def as_blocked(self, var: Var) -> BlockedTensor:
        if var not in self.blocked:
            batch, channels, height, width = shape_of(var)
            halo, fill = self.halos.get(var, NO_HALO), self.fills.get(var, 0)
            dtype = self.stored_dtype(var)
            lanes = self.lanes(channels, integers=dtype in LIMITS)
            layout = Blocked(batch, channels, height, width, lanes, halo, dtype, fill)
            name = f"pack_{width}x{height}x{channels}"
            value = self.call(pack(layout), name, [self.plain[var]], layout.shape, dtype)
            self.blocked[var] = BlockedTensor(value, layout)
        return self.blocked[var]

    def in_lanes(self, var: Var, lanes: int) -> BlockedTensor:
        """The tensor in vectors of so many channels: what keeps each in its lane reads it so.

        A grouped convolution leaves narrower vectors than its channels would fill.
        """
        tensor = self.as_blocked(var)
        x = tensor.layout
        if x.vector == lanes:
            return tensor
        out = replace(x, vector=lanes)
        places = tuple((0, channel) for channel in range(x.channels))
        name = f"move_channels_{x.width}x{x.height}x{x.channels}"
        func = moved_channels((x,), out, places)
        value = self.call(func, name, [tensor.value], out.shape, out.dtype)
        return BlockedTensor(value, out)

    def integers_read(self, var: Var) -> Var:
        """The integers that a kernel reads instead of ``var``, their real values, where it does."""
        return self.integers[var][0] if var in self.integers else var

    def reading(self, var: Var, func: tirx.PrimFunc) -> tirx.PrimFunc:
        """The kernel, which reads ``var``, over the integers that are read instead."""
        return read_integers(func, self.integers[var][1]) if var in self.integers else func

    def unpack_var(self, var: Var) -> Expr:
        tensor = self.blocked[var]
        layout = tensor.layout
        name = f"unpack_{layout.width}x{layout.height}x{layout.channels}"
        dtype = plain_dtype(layout)
        return self.call(unpack(layout), name, [tensor.value], shape_of(var), dtype)


def prepared(layers: Sequence[Layer], results: Expr, lanes: Callable[[int], int]) -> list[Layer]:
    """What is computed otherwise than the importer has it; ``results`` are the network's.

    ``lanes`` says how many of a tensor's channels are in a vector.
    """
    images = resize_images(pool_windows(layers), lanes)
    channels = move_channels(expand_groups(images), results)
    return fuse_elementwise(channels, results)


def window(layer: Convolution) -> Window:
    top, left, *_ = layer.padding
    return Window(layer.weight.shape[2:], layer.stride, (top, left), layer.dilation)


def read_stored(func: tirx.PrimFunc, x: Blocked) -> tirx.PrimFunc:
    """The kernel, made for float32, whose first tensor is stored as ``x`` is."""
    return read_bf16(func) if x.dtype == BF16 else func


def stored(func: tirx.PrimFunc, out: Blocked) -> tirx.PrimFunc:
    """The kernel, made for float32, whose result is stored as ``out`` is."""
    return with_epilogue(func, SELF, dtype=BF16) if out.dtype == BF16 else func


def as_operand(value: Expr | Array, layout: Blocked, out: Blocked) -> EpilogueOperand:
    return blocked_operand(layout, out, constant=isinstance(value, np.ndarray))


def with_feature_epilogue(
    layer: Dense | QuantizedDense | Pooling,
    func: tirx.PrimFunc,
    name: str,
    args: Sequence[Expr | AnyArray],
    features: int,
) -> tuple[tirx.PrimFunc, str, list[Expr | AnyArray]]:
    """A kernel over rows of features, its name and what it reads, with the layer's epilogue."""
    if layer.epilogue == NO_EPILOGUE:
        return func, name, list(args)
    constants = [one for one in layer.epilogue.operands if not isinstance(one, Var)]
    operands = [feature_operand(features) for _ in constants]
    func = with_epilogue(func, layer.epilogue.expression, operands)
    return func, name + "_fused", [*args, *constants]


def dtype_of(layer: Layer) -> str:
    return str(layer.result.ty.dtype)


def is_whole(operand: Operand, result: Var) -> bool:
    """Whether it is a tensor of the result's size."""
    return isinstance(operand, Var) and shape_of(operand) == shape_of(result)


def needed_halo(layer: Convolution) -> Halo:
    """The whole padding, even where a stride leaves its last row unread: fewer distinct kernels."""
    top, left, bottom, right = layer.padding
    return Halo(top, bottom, left, right)


def needed_halos(
    layers: list[Layer], of_convolution: Callable[[Convolution], Halo] = needed_halo
) -> dict[Var, Halo]:
    """For each tensor the halo that serves all the convolutions that read it."""
    halos: dict[Var, Halo] = {}
    for layer in layers:
        needed = (
            of_convolution(layer)
            if isinstance(layer, Convolution)
            else needed_integer_halo(layer)
            if isinstance(layer, QuantizedConvolution)
            else None
        )
        if needed is not None:
            (source, *_) = sources(layer)
            halos[source] = halos.get(source, NO_HALO).union(needed)
    return halos
