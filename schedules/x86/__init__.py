"""The x86 rules. Importing this package registers them under TVM's ``schedule_rule`` hook."""

from __future__ import annotations

from functools import partial

from schedules.cpu import elementwise, global_avg_pool2d, layout, move_channels
from schedules.cpu.image_tiles import OverlappingTile
from schedules.cpu.pair_products import PAIR_PRODUCTS
from schedules.primitives import Rule
from schedules.x86 import (
    dense,
    depthwise_conv2d,
    depthwise_operands,
    pointwise_conv2d,
    quantized_conv2d,
    quantized_dense,
    quantized_depthwise_conv2d,
    quantized_stem_conv2d,
    stem_conv2d,
    strassen_conv2d,
    tiles_conv2d,
    winograd_operands,
)
from schedules.x86.overlapping_tiles import overlapping_tile

OVERLAPPING_TILE: OverlappingTile = overlapping_tile

RULES: dict[str, Rule] = {
    "bf16_conv2d": partial(quantized_conv2d.schedule, dots=PAIR_PRODUCTS),
    "bf16_dense": partial(quantized_dense.schedule, dots=PAIR_PRODUCTS),
    "bf16_depthwise_conv2d": partial(quantized_depthwise_conv2d.schedule, dots=PAIR_PRODUCTS),
    "bf16_stem_conv2d": partial(quantized_stem_conv2d.schedule, dots=PAIR_PRODUCTS),
    "blocked_avg_pool2d": global_avg_pool2d.schedule,
    "conv2d": pointwise_conv2d.schedule,
    "dense": dense.schedule,
    "depthwise_conv2d": depthwise_conv2d.schedule,
    "depthwise_operands": depthwise_operands.schedule,
    "elementwise": partial(elementwise.schedule, by_rows=True),
    "global_avg_pool2d": global_avg_pool2d.schedule,
    "layout": layout.schedule,
    "move_channels": partial(move_channels.schedule, by_rows=True),
    "pointwise_conv2d": pointwise_conv2d.schedule,
    "quantized_conv2d": quantized_conv2d.schedule,
    "quantized_dense": quantized_dense.schedule,
    "quantized_depthwise_conv2d": quantized_depthwise_conv2d.schedule,
    "quantized_stem_conv2d": quantized_stem_conv2d.schedule,
    "stem_conv2d": stem_conv2d.schedule,
    "strassen_conv2d": strassen_conv2d.schedule,
    "tiles_conv2d_bfloat16": partial(tiles_conv2d.schedule, of="bf16"),
    "tiles_conv2d_uint8": partial(tiles_conv2d.schedule, of="u8"),
    "winograd_conv2d": partial(strassen_conv2d.schedule, image_first=True),
    "winograd_operands": winograd_operands.schedule,
}
