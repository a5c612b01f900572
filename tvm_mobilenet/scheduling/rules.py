"""Which schedule rule a kernel names, and the schedule that rule makes by default."""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.target import Target

from schedules import OVERLAPPING_TILES, RULES
from schedules.cpu.image_tiles import ImageOutput, OverlappingTile, Tile
from schedules.primitives import Rule
from schedules.x86.tile_products import TILE_RULES, has_tiles
from tvm_mobilenet.errors import RunFailed

SCHEDULE_RULE = "schedule_rule"  # the annotation MetaSchedule knows
TVMS_OWN = "meta_schedule."  # what the rules in TVM's own legalization of pooling begin with


class NoRule(RunFailed):
    """Nothing in a kernel names a schedule rule, or its target has none of that name."""


def rule_of(func: tirx.PrimFunc) -> str | None:
    """The schedule rule that one of the function's blocks is annotated with."""
    names = rule_names(func)
    return names[0] if names else None


def rule_names(func: tirx.PrimFunc) -> list[str]:
    """The schedule rules of ours that the function's blocks are annotated with, in order."""
    found: list[str] = []

    def visit(block: s_tir.SBlock) -> None:
        rule = str(block.annotations.get(SCHEDULE_RULE, TVMS_OWN))
        if not rule.startswith(TVMS_OWN):
            found.append(rule)

    tvm_ffi.structural_walk(func.body, (s_tir.SBlock, visit))
    return found


def find_rule(rule: str, target: Target) -> Rule:
    """The schedule of the first of the target's keys that has the rule. Raises NoRule."""
    for key in target.keys:
        if rule in RULES.get(key, {}):
            return RULES[key][rule]
    raise NoRule(f"no schedule rule {rule!r} for the target keys {', '.join(target.keys)}")


def check_rules(func: tirx.PrimFunc, target: Target) -> None:
    """Raise NoRule unless the function names a rule, and the target has each that it names.

    TVM would only warn, strip the annotation and go on with the kernel unscheduled.
    """
    names = rule_names(func)
    if not names:
        raise NoRule("no block names a schedule rule")
    for name in names:
        find_rule(name, target)


def rules_of(target: Target) -> frozenset[str]:
    """The kinds of kernels that the target has schedules for."""
    found = frozenset(rule for key in target.keys for rule in RULES.get(key, {}))
    return found if has_tiles(target) else found - TILE_RULES


def overlapping_tile_of(target: Target) -> OverlappingTile | None:
    """What says which tiles overlap; None where the target's schedules take none that do."""
    rule = next((OVERLAPPING_TILES[key] for key in target.keys if key in OVERLAPPING_TILES), None)
    if rule is None:
        return None

    def tile(output: ImageOutput) -> Tile | None:
        with target:
            return rule(output)

    return tile


def default_schedule(func: tirx.PrimFunc, target: Target) -> s_tir.Schedule:
    """The rule's own decision, by its analytic model; needs no tuning. Raises NoRule."""
    sch = s_tir.Schedule(tvm.IRModule({"main": func}))
    for block in sch.get_child_blocks(sch.get_sblock("root")):
        rule = sch.get(block).annotations.get(SCHEDULE_RULE)
        if rule is not None:
            sch.unannotate(block, SCHEDULE_RULE)
            with target:
                (scheduled,) = find_rule(str(rule), target)(sch, block)
            return scheduled
    raise NoRule("no block names a schedule rule")
