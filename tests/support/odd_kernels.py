"""Kernels of odd shapes: 1 and 7 channels, 1x1 images, a batch of 3, uneven padding and halos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st
from support.bf16_cases import Bf16Convolution, Bf16Dense
from support.blocked_cases import (
    Beside,
    BlockedPooling,
    Channels,
    ChannelsToSpace,
    Elementwise,
    Extended,
    ExtendedDense,
    Resizing,
    WindowPooling,
)
from support.fp16_cases import HalfConvolution, HalfDense, HalfSeparable
from support.kernel_cases import (
    NONE,
    RELU,
    RELU6,
    Case,
    Convolution,
    Dense,
    Packing,
    Pooling,
    Separable,
    Unpacking,
)
from support.quantized_cases import (
    IMAGE,
    RESULT,
    ElementwiseIntegers,
    IntegerPooling,
    QuantizedConvolution,
    QuantizedDense,
    of_signed,
    signed,
)

from schedules.cpu.image_tiles import PixelRun, Tile
from tvm_mobilenet.kernels.cpu.conv2d import Activation
from tvm_mobilenet.kernels.cpu.expressions import (
    SELF,
    Input,
    apply,
    clip,
    dequantize,
    gelu,
    leaky_relu,
    quantize,
    relu,
    silu,
)
from tvm_mobilenet.kernels.cpu.layout import NO_HALO, Blocked, Halo
from tvm_mobilenet.kernels.cpu.weights import MATRIX_PANELS, panel_of

RING = Halo(1, 1, 1, 1)
UNEVEN = Halo(2, 1, 0, 3)
SAME = (1, 1, 1, 1)  # padding (top, bottom, left, right)
TENSORFLOW = (0, 1, 0, 1)

LAYOUTS = [
    Blocked(1, 16, 5, 6, 16),
    Blocked(1, 1, 3, 3, 4, RING),
    Blocked(3, 7, 4, 2, 8, UNEVEN),
    Blocked(1, 24, 1, 1, 16, Halo(0, 1, 0, 1)),
    Blocked(2, 33, 2, 3, 16),
]

POINTWISE = [
    Convolution("conv2d", (16, 32), (5, 6), activation=RELU),
    Convolution("conv2d", (16, 32), (5, 6), halo=RING),
    Convolution("conv2d", (1, 1), (3, 3), (4, 4)),
    Convolution("conv2d", (7, 7), (4, 3), (8, 8), activation=RELU6, halo=UNEVEN),
    Convolution("conv2d", (8, 16), (4, 5), (8, 16), activation=RELU, halo=RING),
    Convolution("conv2d", (16, 8), (4, 5), (16, 8)),
    Convolution("conv2d", (24, 40), (1, 1), (16, 16)),
    Convolution("conv2d", (24, 40), (3, 2), (16, 16), spare=UNEVEN),
    Convolution("conv2d", (16, 16), (4, 4), batch=3, halo=RING),
    Convolution("conv2d", (16, 16), (5, 6), stride=(2, 2)),
    Convolution("conv2d", (20, 60), (3, 5), activation=RELU, halo=RING, panel=2),
    Convolution("conv2d", (8, 48), (3, 5), (8, 16), panel=3),
]
DENSE_KXK = [
    Convolution("conv2d", (8, 16), (6, 5), (8, 16), (3, 3), padding=SAME, activation=RELU),
    Convolution("conv2d", (16, 16), (7, 7), kernel=(3, 3), stride=(2, 2), padding=SAME, halo=RING),
    Convolution("conv2d", (16, 64), (4, 4), kernel=(3, 3), padding=SAME, halo=RING, panel=2),
    Convolution("conv2d", (7, 1), (6, 6), (8, 4), (3, 3), (2, 2), TENSORFLOW, RELU6),
    Convolution("conv2d", (1, 7), (1, 1), (4, 8), (3, 3), padding=SAME),
    Convolution("conv2d", (16, 16), (5, 4), kernel=(3, 3), padding=SAME, spare=UNEVEN, batch=3),
    Convolution("conv2d", (4, 4), (7, 6), (4, 4), (5, 2), (1, 2), (0, 2, 1, 0)),
]
DEPTHWISE = [
    Convolution("depthwise", (32, 32), (6, 5), kernel=(3, 3), padding=SAME, activation=RELU),
    Convolution("depthwise", (16, 16), (7, 7), kernel=(3, 3), stride=(2, 2), padding=SAME),
    Convolution("depthwise", (1, 1), (4, 4), (4, 4), (3, 3), padding=SAME, halo=RING),
    Convolution("depthwise", (7, 7), (6, 6), (8, 8), (3, 3), (2, 2), TENSORFLOW, RELU6, UNEVEN),
    Convolution("depthwise", (24, 24), (1, 1), kernel=(3, 3), padding=SAME),
    Convolution("depthwise", (16, 16), (5, 4), kernel=(3, 3), padding=SAME, spare=RING, batch=3),
    Convolution("depthwise", (8, 8), (5, 6), (8, 8), (5, 3), (1, 2), (2, 2, 0, 1), spare=UNEVEN),
]
STEM = [
    Convolution("stem", (3, 32), (8, 10), kernel=(3, 3), stride=(2, 2), padding=SAME, halo=RING),
    Convolution("stem", (3, 8), (6, 6), (8, 8), (3, 3), (2, 2), TENSORFLOW, RELU6, RING),
    Convolution("stem", (1, 7), (5, 5), (8, 8), (3, 3), padding=SAME, activation=RELU),
    Convolution("stem", (2, 1), (1, 1), (4, 4), (3, 3), padding=SAME, batch=3, halo=UNEVEN),
    Convolution("stem", (3, 16), (6, 7), kernel=(1, 1)),
    Convolution("stem", (3, 16), (9, 7), kernel=(3, 3), stride=(2, 2), activation=RELU),
]
FILTERS = [replace(one, halo=NO_HALO) for one in DEPTHWISE]  # what only a 1x1 convolution reads
# for targets whose schedules fuse depthwise-separable blocks
SEPARABLE: list[Case] = [
    Separable(FILTERS[0], 32, activation=RELU, halo=RING, panel=2),
    Separable(FILTERS[1], 48, activation=RELU6, panel=3),
    Separable(FILTERS[2], 1, vector=4),
    Separable(FILTERS[3], 7, vector=8, halo=UNEVEN),
    Separable(FILTERS[4], 16),
    Separable(FILTERS[5], 20, activation=RELU),
    Separable(FILTERS[6], 40, vector=16, halo=RING),
]
OPERANDS = [
    Convolution("operands", (32, 32), (6, 5), kernel=(3, 3), padding=SAME, activation=RELU),
    Convolution("operands", (32, 32), (8, 7), kernel=(3, 3), stride=(2, 2), padding=SAME),
    Convolution("operands", (16, 16), (2, 1), (8, 8), (3, 3), padding=SAME, spare=RING, batch=3),
    Convolution("operands", (48, 48), (5, 8), (8, 8), (3, 3), (1, 2), (1, 2, 0, 1), RELU6),
]
STRASSEN = [
    Convolution("strassen", (32, 64), (4, 5), activation=RELU, halo=RING, panel=2),
    Convolution("strassen", (64, 96), (6, 7), activation=RELU6, panel=3),
    Convolution("strassen", (16, 16), (2, 1), (8, 8), batch=3, halo=UNEVEN),
    Convolution("strassen", (48, 32), (8, 3), (8, 16)),
]
HEAD: list[Case] = [
    Pooling(32, (7, 7)),
    Pooling(1, (3, 2), 4, UNEVEN),
    Pooling(7, (1, 1), 8, batch=3),
    Pooling(40, (4, 4), halo=RING),
    Dense((32, 20), 2),
    Dense((7, 1), 1, 1, 4, RELU, batch=3),
    Dense((1, 7), 3, 3, 8, RELU6),
    Dense((16, 33), 8, 4, 8, batch=2),
]
HARD_SWISH = apply("multiply", SELF, apply("divide", clip(apply("add", SELF, 3.0), 0, 6), 6.0))
SUM = relu(apply("add", SELF, Input(1)))
ELEMENTWISE = [
    Elementwise(Blocked(1, 32, 5, 6, 16), SUM, (Beside("whole", RING),), RING),
    Elementwise(Blocked(2, 7, 3, 1, 8, UNEVEN), silu(SELF)),
    Elementwise(Blocked(3, 24, 4, 7, 16), apply("multiply", SELF, Input(1)), (Beside("pixel"),)),
    Elementwise(Blocked(1, 1, 1, 1, 4), gelu(SELF), halo=UNEVEN),
    Elementwise(Blocked(2, 20, 2, 9, 4), leaky_relu(SELF, Input(1)), (Beside("channels"),)),
    Elementwise(
        Blocked(2, 9, 3, 8, 8, RING),
        apply("subtract", apply("tanh", Input(2)), apply("multiply", HARD_SWISH, Input(1))),
        (Beside("pixel", UNEVEN), Beside("whole")),
    ),
]
EXTENDED: list[Case] = [
    Extended(POINTWISE[0], SUM, (Beside("whole", RING),)),
    Extended(POINTWISE[3], silu(apply("add", SELF, Input(1))), (Beside("whole"),)),
    Extended(POINTWISE[6], clip(SELF, 0, 1)),
    Extended(POINTWISE[10], HARD_SWISH),
    Extended(DENSE_KXK[1], leaky_relu(SELF, Input(1)), (Beside("channels"),)),
    Extended(DEPTHWISE[1], HARD_SWISH),
    Extended(DEPTHWISE[3], apply("multiply", SELF, Input(1)), (Beside("pixel"),)),
    Extended(STEM[1], HARD_SWISH),
    Extended(STEM[3], apply("add", SELF, Input(1)), (Beside("whole", UNEVEN),)),
    ExtendedDense(Dense((32, 20), 2), apply("multiply", Input(1), gelu(SELF))),
    ExtendedDense(Dense((7, 33), 8, 4, 8, RELU, batch=2), apply("add", silu(SELF), Input(1))),
]
WINDOWS = [
    Convolution("windows", (20, 16), (5, 6), kernel=(3, 3), padding=SAME),
    Convolution("windows", (8, 8), (9, 4), (8, 8), (3, 3), padding=(0, 2, 1, 0), spare=UNEVEN),
]
WINOGRAD = [
    Convolution("winograd", (16, 32), (6, 8), kernel=(3, 3), padding=SAME, halo=RING, panel=2),
    Convolution("winograd", (20, 24), (5, 7), (16, 8), (3, 3), padding=SAME, activation=RELU6),
    Convolution("winograd", (8, 16), (4, 5), (8, 16), (3, 3), padding=(0, 0, 2, 1), batch=3),
]
# for targets whose schedules know Strassen's and Winograd's algorithms
FAST_PRODUCTS: list[Case] = [
    *OPERANDS,
    *STRASSEN,
    *WINDOWS,
    *WINOGRAD,
    Extended(WINOGRAD[1], SUM, (Beside("whole", UNEVEN),)),
    Extended(STRASSEN[0], SUM, (Beside("whole", UNEVEN),)),
    Extended(STRASSEN[2], silu(SELF)),
]
POOLING: list[Case] = [
    WindowPooling("max", Blocked(1, 24, 7, 8, 16, RING), (3, 3), (2, 2), SAME, RING),
    WindowPooling("max", Blocked(2, 5, 4, 5, 8), (2, 2), (2, 2)),
    WindowPooling("mean", Blocked(1, 16, 6, 5, 16), (3, 2), (1, 2), (1, 1, 0, 1), UNEVEN),
    WindowPooling("mean_of_image", Blocked(2, 9, 5, 5, 4, UNEVEN), (3, 3), (2, 2), SAME),
    BlockedPooling(Blocked(1, 40, 4, 4, 16, RING)),
    BlockedPooling(Blocked(3, 7, 1, 5, 8)),
]
LARGER: list[Case] = [
    Resizing(Blocked(1, 20, 3, 5, 16, RING), (6, 10), 1, RING),
    Resizing(Blocked(2, 7, 4, 1, 8), (7, 3), 2),
    Resizing(Blocked(1, 16, 6, 6, 16, UNEVEN), (4, 2), 2, UNEVEN),
    ChannelsToSpace(Blocked(1, 24, 6, 4, 16, RING), (2, 2)),
    ChannelsToSpace(Blocked(2, 1, 3, 8, 4), (3, 1), UNEVEN),
]
CHANNELS = [
    Channels((Blocked(1, 7, 3, 4, 8), Blocked(1, 5, 3, 4, 4, RING)), ((1, 4), (0, 0), (1, 0)), 8),
    Channels((Blocked(2, 33, 2, 3, 16),), tuple((0, 32 - i) for i in range(33)), 16, UNEVEN),
]
GROUPED = [
    Convolution("conv2d", (24, 48), (5, 4), (8, 8), groups=3, activation=RELU, halo=RING),
    Convolution("conv2d", (8, 8), (4, 4), (8, 4), (3, 3), padding=SAME, groups=2, batch=2),
    Convolution("conv2d", (32, 64), (3, 5), (16, 16), (3, 3), padding=SAME, groups=2, panel=2),
]
DILATED = [
    Convolution("conv2d", (16, 32), (9, 8), kernel=(3, 3), padding=(2, 2, 2, 2), dilation=(2, 2)),
    Convolution("depthwise", (20, 20), (8, 9), kernel=(3, 2), stride=(2, 1), dilation=(2, 3)),
]
# for targets whose schedules take tiles that overlap
OVERLAPPING: list[Case] = [
    Convolution("conv2d", (16, 32), (5, 17), activation=RELU, halo=RING, panel=2, tile=(None, 7)),
    Convolution("conv2d", (7, 20), (3, 13), (8, 16), (3, 3), (1, 2), SAME, tile=(None, 6)),
    Convolution("depthwise", (20, 20), (7, 11), kernel=(3, 3), padding=SAME, tile=(2, 4)),
    Convolution("depthwise", (8, 8), (9, 11), (8, 8), (5, 5), (2, 1), (2, 2, 2, 2), tile=(1, 7)),
    Convolution("stem", (3, 16), (13, 23), (4, 16), (3, 3), (2, 2), SAME, RELU6, tile=(None, 8)),
]
# for those whose schedules take runs of pixels
RUNS: list[Case] = [
    Convolution(
        "conv2d", (7, 16), (7, 7), (8, 8), activation=RELU, halo=RING, tile=PixelRun(5, 10)
    ),
    Convolution("conv2d", (16, 24), (5, 3), (8, 8), batch=2, spare=UNEVEN, tile=PixelRun(4, 4)),
    Convolution("conv2d", (8, 16), (2, 9), (16, 8), panel=2, halo=UNEVEN, tile=PixelRun(6, 4)),
    Convolution("strassen", (32, 32), (6, 7), (8, 8), activation=RELU6, tile=PixelRun(6, 4)),
    Convolution("winograd", (16, 24), (5, 9), (8, 8), (3, 3), padding=SAME, tile=PixelRun(4, 4)),
]
AS_BYTE = quantize(SELF, RESULT)
SUM_AS_BYTE = quantize(relu(apply("add", SELF, dequantize(Input(1), IMAGE))), RESULT)
OWN_SCALE = apply("saturate_int_uint8", apply("add", apply("multiply", SELF, 30.0), 100.0))
QUANTIZED: list[Case] = [
    QuantizedConvolution(POINTWISE[0], OWN_SCALE),
    QuantizedConvolution(POINTWISE[1], AS_BYTE),
    QuantizedConvolution(POINTWISE[3]),
    QuantizedConvolution(POINTWISE[6], quantize(silu(SELF), RESULT)),
    QuantizedConvolution(POINTWISE[9], AS_BYTE),
    QuantizedConvolution(POINTWISE[10], SUM_AS_BYTE, beside=True),
    QuantizedConvolution(DENSE_KXK[0], AS_BYTE),
    QuantizedConvolution(DENSE_KXK[3]),
    QuantizedConvolution(DENSE_KXK[6]),
    QuantizedConvolution(GROUPED[0], AS_BYTE),
    QuantizedConvolution(DILATED[0]),
    *(QuantizedConvolution(one, AS_BYTE) for one in (*DEPTHWISE[:4], DEPTHWISE[5])),
    QuantizedConvolution(DEPTHWISE[4], quantize(HARD_SWISH, RESULT)),
    QuantizedConvolution(DEPTHWISE[6]),
    *(QuantizedConvolution(one, AS_BYTE) for one in STEM[:4]),
    QuantizedConvolution(STEM[5]),
    QuantizedDense(Dense((32, 20), 2)),
    QuantizedDense(Dense((16, 33), 8, 4, 8, RELU, batch=2), AS_BYTE),
    QuantizedDense(Dense((4, 7), 3, 3, 8, RELU6)),
    ElementwiseIntegers(LAYOUTS[0], quantize(silu(dequantize(SELF, IMAGE)), RESULT), RING),
    ElementwiseIntegers(LAYOUTS[2], dequantize(SELF, IMAGE), UNEVEN),
    IntegerPooling(Blocked(2, 40, 4, 5, 16, RING)),
    IntegerPooling(Blocked(1, 7, 3, 3, 8)),
]
# the same over int8, for targets that multiply those, and by matrices or registers of bytes
BY_MATRICES = [
    Convolution("conv2d", (16, 24), (5, 6), (8, 8), activation=RELU, halo=RING),
    Convolution("conv2d", (13, 7), (3, 2), (8, 8), batch=2, spare=UNEVEN),
    Convolution("conv2d", (16, 24), (3, 5), (8, 8), spare=RING, halo=RING),
    Convolution("conv2d", (8, 16), (4, 7), (8, 8), (3, 3), padding=SAME, spare=RING, panel=2),
    Convolution("conv2d", (8, 16), (6, 8), (8, 8), (3, 3), padding=SAME),
]
# convolutions over int8, and of how many steps 16 bits hold the sums
IN_WORDS = [
    (Convolution("conv2d", (64, 48), (3, 5), activation=RELU, halo=RING), 2, False),
    (Convolution("conv2d", (128, 7), (5, 2), batch=2), 4, True),
    (Convolution("conv2d", (96, 20), (7, 7), stride=(2, 2)), 2, True),
    (Convolution("conv2d", (64, 16), (4, 3), kernel=(3, 3), padding=SAME), 4, False),
]
BY_REGISTERS = [
    Convolution("conv2d", (32, 48), (5, 6), activation=RELU, halo=RING),
    Convolution("conv2d", (19, 7), (7, 7), (16, 8), batch=2),
    Convolution("conv2d", (16, 16), (6, 9), kernel=(3, 3), stride=(2, 2), padding=SAME),
    Convolution("conv2d", (32, 32), (4, 4), (16, 16), kernel=(3, 3), padding=SAME, groups=2),
]
# results in units, in fixed point, by any instruction; the zero point after ReLU and another
IN_UNITS = apply("saturate_int_int8", SELF)
FIXED = [
    *((one, 4) for one in (POINTWISE[0], DENSE_KXK[1], GROUPED[0], DEPTHWISE[1], STEM[0], STEM[4])),
    *((one, 8) for one in BY_MATRICES),
    *((one, 16) for one in (*BY_REGISTERS, DEPTHWISE[0], *STEM[:2])),
]
SIGNED: list[Case] = [
    *map(signed, QUANTIZED),
    *(signed(QuantizedConvolution(one, AS_BYTE, depth=8)) for one in BY_MATRICES),
    *(signed(QuantizedConvolution(one, AS_BYTE, depth=16)) for one in BY_REGISTERS),
    *(
        signed(QuantizedConvolution(one, AS_BYTE, depth=16, together=together, table=table))
        for one, together, table in IN_WORDS
    ),
    *(signed(QuantizedConvolution(one, AS_BYTE, depth=16)) for one in (*DEPTHWISE[:4:3], STEM[2])),
    *(
        QuantizedConvolution(
            replace(one, activation=Activation()),
            IN_UNITS,
            dtype="int8",
            depth=depth,
            offset=(-128, 3)[place % 2],
        )
        for place, (one, depth) in enumerate(FIXED)
    ),
]
IN_BF16: list[Case] = [
    Bf16Convolution(POINTWISE[0]),
    Bf16Convolution(POINTWISE[3], silu(SELF)),
    Bf16Convolution(POINTWISE[6], SELF),
    Bf16Convolution(POINTWISE[9]),
    Bf16Convolution(POINTWISE[10], SUM, beside=True),
    Bf16Convolution(POINTWISE[11], SELF),
    Bf16Convolution(DENSE_KXK[0], SELF),
    Bf16Convolution(DENSE_KXK[3]),
    Bf16Convolution(DENSE_KXK[6], SELF),
    Bf16Convolution(GROUPED[0], SELF),
    Bf16Convolution(DILATED[0]),
    *(Bf16Convolution(one, SELF) for one in DEPTHWISE[:4]),
    Bf16Convolution(DEPTHWISE[5]),
    Bf16Convolution(DEPTHWISE[6], HARD_SWISH),
    *(Bf16Convolution(one, SELF) for one in STEM[:4]),
    Bf16Convolution(STEM[5]),
    Bf16Dense(Dense((32, 20), 2)),
    Bf16Dense(Dense((16, 33), 8, 4, 8, RELU, batch=2)),
    Bf16Dense(Dense((6, 7), 3, 3, 8, RELU6)),
]


def by_matrices(case: Case) -> Case:
    """In vectors of four, of which a step of a dense convolution multiplies a whole one."""
    if isinstance(case, Bf16Dense):
        _, features = case.real.features
        panels = -(-features // (4 * case.real.panel))
        return replace(case, real=replace(case.real, vector=4, blocks=panels * case.real.panel))
    assert isinstance(case, Bf16Convolution)
    real = replace(case.real, vectors=(4, 4))
    real = replace(real, panel=panel_of(real.out.blocks // real.groups, MATRIX_PANELS))
    return replace(case, real=real, depth=case.depth if real.depthwise else 4)


# for targets that multiply matrices of them; the last has two channels a vector
IN_MATRICES: list[Case] = [
    *map(by_matrices, IN_BF16),
    *(
        by_matrices(Bf16Convolution(one, SELF))
        for one in (*BY_MATRICES, *DENSE_KXK[1:6:2], POINTWISE[2])
    ),
    Bf16Convolution(
        Convolution("conv2d", (8, 12), (3, 5), (4, 2), (3, 3), padding=SAME, groups=2), depth=4
    ),
]


def by_eights(one: Convolution) -> Convolution:
    """As it is, in vectors of at most the eight channels that NEON has of float16."""
    first, second = one.vectors
    return replace(one, vectors=(min(first, 8), min(second, 8)))


# sums of more products than float16 adds up
LONG = [
    Convolution("conv2d", (256, 32), (5, 6), (8, 8), activation=RELU, halo=RING, panel=2),
    Convolution("conv2d", (184, 24), (3, 4), (8, 8), activation=RELU6, panel=3, batch=2),
    Convolution("conv2d", (72, 16), (4, 5), (8, 8), (3, 3), padding=SAME, halo=UNEVEN),
    Convolution("conv2d", (320, 16), (4, 5), (8, 8), groups=2),
    Convolution("conv2d", (80, 8), (7, 7), (8, 8), (5, 5), (2, 2), (2, 2, 2, 2), spare=RING),
]
WIDE = Convolution("depthwise", (144, 144), (6, 8), (8, 8), (3, 3), padding=SAME, activation=RELU)
IN_FP16: list[Case] = [
    *(HalfConvolution(by_eights(one)) for one in (*POINTWISE, *DENSE_KXK, *DEPTHWISE, *STEM)),
    *(HalfConvolution(by_eights(one)) for one in (GROUPED[0], DILATED[0])),
    *map(HalfConvolution, LONG),
    HalfConvolution(by_eights(POINTWISE[0]), plain=True),
    HalfConvolution(by_eights(POINTWISE[3]), silu(SELF)),
    HalfConvolution(by_eights(POINTWISE[10]), SUM, beside=True),
    HalfConvolution(LONG[0], SUM, beside=True),
    HalfConvolution(LONG[2], plain=True),
    HalfConvolution(by_eights(DEPTHWISE[6]), HARD_SWISH),
    HalfConvolution(by_eights(STEM[0]), HARD_SWISH),
    HalfSeparable(Separable(by_eights(FILTERS[0]), 32, 8, RELU, RING, panel=2)),
    HalfSeparable(Separable(by_eights(FILTERS[3]), 7, vector=8, halo=UNEVEN)),
    HalfSeparable(Separable(WIDE, 24, 8, RELU6, panel=3)),
    HalfDense(Dense((32, 20), 8, 8, 8)),
    HalfDense(Dense((300, 33), 8, 4, 8, RELU, batch=2)),
    HalfDense(Dense((7, 5), 3, 3, 8, RELU6)),
]
CASES: list[Case] = [
    *map(Packing, LAYOUTS),
    *map(Unpacking, LAYOUTS),
    *POINTWISE,
    *DENSE_KXK,
    *DEPTHWISE,
    *STEM,
    *HEAD,
    *ELEMENTWISE,
    *EXTENDED,
    *POOLING,
    *LARGER,
    *CHANNELS,
    *GROUPED,
    *DILATED,
    *QUANTIZED,
]


def share(cases: Sequence[Case], place: int, shares: int) -> list[Case]:
    """Of so many shares the one at ``place``, and a case of every kind that is not in it."""
    chosen = list(cases[place % shares :: shares])
    for case in cases:
        if kind_of(case) not in map(kind_of, chosen):
            chosen.append(case)
    return chosen


def kind_of(case: Case) -> tuple[str, str]:
    return type(case).__name__, getattr(getattr(case, "real", case), "kind", "")


def over_bytes(
    kind: str,
    lanes: int = 16,
    dtype: str = "uint8",
    depth: int = 4,
    *,
    offset: int | None = None,
    together: int = 1,
    table: bool = False,
) -> Case:
    """A kernel of 1.0-224, of integers, its result quantized."""
    if kind == "dense":
        dense = Dense((1024, 1000), 1024 // lanes, 8, lanes)
        return QuantizedDense(dense, dtype=dtype)
    real = {
        "conv2d": Convolution("conv2d", (512, 512), (14, 14), halo=RING, panel=2),
        "depthwise": Convolution("depthwise", (512, 512), (14, 14), kernel=(3, 3), padding=SAME),
        "depthwise-s2": Convolution(
            "depthwise", (512, 512), (28, 28), (16, 16), (3, 3), (2, 2), SAME
        ),
        "stem": Convolution("stem", (3, 32), (224, 224), (16, 16), (3, 3), (2, 2), SAME),
    }[kind]
    real = replace(real, vectors=(lanes, lanes))
    if depth > 4:
        real = replace(real, panel=1)
    expression = AS_BYTE if dtype == "uint8" else of_signed(AS_BYTE)
    if offset is not None:
        expression = IN_UNITS
    return QuantizedConvolution(
        real,
        expression,
        dtype=dtype,
        depth=depth,
        offset=offset,
        together=together,
        table=table,
    )


@st.composite
def convolutions(draw: st.DrawFn, *, overlapping: bool = False) -> Convolution:
    """Any small convolution whose kernel fits its padded image, ``overlapping``: in tiles, too."""
    kind = draw(st.sampled_from(["conv2d", "depthwise", "stem"]))
    vectors = st.sampled_from([4, 8, 16])
    count = st.integers(1, 20)
    channels, lanes = draw(count), draw(vectors)
    small = st.integers(0, 2)
    padding = draw(st.tuples(small, small, small, small))
    size = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    kernel = (
        draw(st.integers(1, min(4, size[0] + padding[0] + padding[1]))),
        draw(st.integers(1, min(4, size[1] + padding[2] + padding[3]))),
    )
    depthwise = kind == "depthwise"
    case = Convolution(
        kind,
        (channels, channels if depthwise else draw(count)),
        size,
        (lanes, lanes if depthwise else draw(vectors)),
        kernel,
        draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        padding,
        draw(st.sampled_from([NONE, RELU, RELU6, Activation(-0.5, 0.25), Activation(high=1.0)])),
        draw(st.builds(Halo, small, small, small, small)),
        NO_HALO if kind == "stem" else draw(st.builds(Halo, small, small, small, small)),
        draw(st.integers(1, 3)),
    )
    if not overlapping:
        return case
    rows, columns = case.out.height, case.out.width
    tiled_rows = st.integers(1, rows) if depthwise else st.none()
    tiles: list[st.SearchStrategy[Tile | None]] = [
        st.none(),
        st.tuples(tiled_rows, st.integers(1, columns)),
    ]
    if kind == "conv2d":
        tiles.append(st.integers(1, rows * columns).map(lambda size: run_of(size, rows * columns)))
    return replace(case, tile=draw(st.one_of(tiles)))


def run_of(size: int, pixels: int) -> PixelRun:
    """The tile of so many pixels, of an image of ``pixels``."""
    return PixelRun(size, -(-pixels // size))
