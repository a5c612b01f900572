"""The ARM rules, for NEON on aarch64 and armv7."""

from __future__ import annotations

from functools import partial

from schedules.arm_cpu import (
    bf16_conv2d,
    bf16_depthwise_conv2d,
    dense,
    depthwise_conv2d,
    half_dense,
    pointwise_conv2d,
    quantized_conv2d,
    quantized_dense,
    quantized_depthwise_conv2d,
    quantized_stem_conv2d,
    separable_conv2d,
    stem_conv2d,
)
from schedules.arm_cpu.overlapping_tiles import overlapping_tile
from schedules.cpu import elementwise, global_avg_pool2d, layout, move_channels
from schedules.cpu.image_tiles import OverlappingTile
from schedules.cpu.pair_products import PAIR_PRODUCTS
from schedules.primitives import Rule

OVERLAPPING_TILE: OverlappingTile = overlapping_tile

NARROW_VECTORS = 8  # of four channels: what legalization packs side by side, one stream of weights
RULES: dict[str, Rule] = {
    "bf16_conv2d": bf16_conv2d.schedule,
    "bf16_dense": partial(quantized_dense.schedule, dots=PAIR_PRODUCTS, most=NARROW_VECTORS),
    "bf16_depthwise_conv2d": bf16_depthwise_conv2d.schedule,
    "bf16_stem_conv2d": bf16_conv2d.schedule,
    "blocked_avg_pool2d": global_avg_pool2d.schedule,
    "conv2d": pointwise_conv2d.schedule,
    "dense": dense.schedule,
    "depthwise_conv2d": depthwise_conv2d.schedule,
    "elementwise": elementwise.schedule,
    "global_avg_pool2d": global_avg_pool2d.schedule,
    "half_dense": half_dense.schedule,
    "layout": layout.schedule,
    "move_channels": move_channels.schedule,
    "pointwise_conv2d": pointwise_conv2d.schedule,
    "quantized_conv2d": quantized_conv2d.schedule,
    "quantized_dense": quantized_dense.schedule,
    "quantized_depthwise_conv2d": quantized_depthwise_conv2d.schedule,
    "quantized_stem_conv2d": quantized_stem_conv2d.schedule,
    "separable_conv2d": separable_conv2d.schedule,
    "stem_conv2d": stem_conv2d.schedule,
}
