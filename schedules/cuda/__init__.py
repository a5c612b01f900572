"""The CUDA rules. Importing this package registers them under TVM's ``schedule_rule`` hook."""

from __future__ import annotations

from schedules.cuda import (
    dense,
    depthwise_conv2d,
    global_avg_pool2d,
    layout,
    pointwise_conv2d,
    pointwise_depthwise_conv2d,
    pooled_dense,
    separable_conv2d,
    stem_conv2d,
)
from schedules.primitives import Rule

RULES: dict[str, Rule] = {
    "conv2d": pointwise_conv2d.schedule,
    "conv2d_mma": pointwise_conv2d.schedule_mma,
    "conv2d_tf32": pointwise_conv2d.schedule_tf32,
    "dense": dense.schedule,
    "depthwise_conv2d": depthwise_conv2d.schedule,
    "global_avg_pool2d": global_avg_pool2d.schedule,
    "layout": layout.schedule,
    "pointwise_conv2d": pointwise_conv2d.schedule,
    "pointwise_conv2d_mma": pointwise_conv2d.schedule_mma,
    "pointwise_conv2d_tf32": pointwise_conv2d.schedule_tf32,
    "pointwise_depthwise_conv2d": pointwise_depthwise_conv2d.schedule,
    "pointwise_depthwise_conv2d_mma": pointwise_depthwise_conv2d.schedule_mma,
    "pointwise_depthwise_conv2d_tf32": pointwise_depthwise_conv2d.schedule_tf32,
    "pooled_dense": pooled_dense.schedule,
    "separable_conv2d": separable_conv2d.schedule,
    "separable_conv2d_mma": separable_conv2d.schedule_mma,
    "separable_conv2d_tf32": separable_conv2d.schedule_tf32,
    "stem_conv2d": stem_conv2d.schedule,
}
