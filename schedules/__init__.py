"""Our TensorIR schedules, one folder a target key, one schedule a file.

Importing this package registers every rule under the name MetaSchedule looks up for a block that is
annotated ``schedule_rule: <rule>`` on a target that has the folder's key.
"""

from __future__ import annotations

import tvm_ffi

from schedules import arm_cpu, cuda, x86
from schedules.cpu.image_tiles import OverlappingTile
from schedules.primitives import Rule

RULES: dict[str, dict[str, Rule]] = {"arm_cpu": arm_cpu.RULES, "cuda": cuda.RULES, "x86": x86.RULES}

# Of the targets whose schedules take tiles that overlap.
OVERLAPPING_TILES: dict[str, OverlappingTile] = {
    "arm_cpu": arm_cpu.OVERLAPPING_TILE,
    "x86": x86.OVERLAPPING_TILE,
}

for _key, _rules in RULES.items():
    for _name, _rule in _rules.items():
        tvm_ffi.register_global_func(f"s_tir.meta_schedule.{_key}.{_name}", _rule, override=True)
