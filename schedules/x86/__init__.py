"""The x86 rules. Importing this package registers them under TVM's ``schedule_rule`` hook."""

from __future__ import annotations

from schedules.cpu import global_avg_pool2d, layout
from schedules.x86 import (
    dense,
    depthwise_conv2d,
    depthwise_operands,
    pointwise_conv2d,
    stem_conv2d,
    strassen_conv2d,
)

RULES = {
    "conv2d": pointwise_conv2d.schedule,
    "dense": dense.schedule,
    "depthwise_conv2d": depthwise_conv2d.schedule,
    "depthwise_operands": depthwise_operands.schedule,
    "global_avg_pool2d": global_avg_pool2d.schedule,
    "layout": layout.schedule,
    "pointwise_conv2d": pointwise_conv2d.schedule,
    "stem_conv2d": stem_conv2d.schedule,
    "strassen_conv2d": strassen_conv2d.schedule,
}
