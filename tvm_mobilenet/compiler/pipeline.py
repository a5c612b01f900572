"""The compile pipeline as one readable list: Relax from the importer → one scheduled program."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import tvm
import tvm_ffi
from tvm import relax, s_tir, tirx
from tvm.s_tir.schedule import SBlockRV
from tvm.target import Target

from schedules import RULES
from schedules.sharing import num_cores
from tvm_mobilenet.compiler.cpu.static_program import StaticProgram, make_static
from tvm_mobilenet.compiler.graph.fold_constants import fold_constants
from tvm_mobilenet.compiler.graph.legalize_cpu import STRASSEN, legalize
from tvm_mobilenet.compiler.memory_plan import kernel_calls
from tvm_mobilenet.errors import RunFailed

if TYPE_CHECKING:
    from tvm_mobilenet.database.lines import RecordInfo

SCHEDULE_RULE = "schedule_rule"  # the annotation MetaSchedule knows
TVMS_OWN = "meta_schedule."  # what the rules in TVM's own legalization of pooling begin with


class ScheduleSource(Protocol):
    """Where tuned schedules come from: the records of a target."""

    def schedule_for(
        self, func: tirx.PrimFunc
    ) -> tuple[s_tir.Schedule, RecordInfo] | tuple[None, None]: ...


@dataclass(frozen=True)
class Kernel:
    """One distinct kernel of a network: its unscheduled function and how often it is called."""

    name: str
    func: tirx.PrimFunc
    count: int
    flops: int


def graph_phases(
    vector_width: int,
    rules: Collection[str] = (),
    legalization: tvm.transform.Pass | None = None,
) -> list[tuple[str, list[tvm.transform.Pass]]]:
    """The graph's passes, in order, by phase.

    `rules` are as for `legalize`, which a `legalization` that is not that of CPUs stands in for.
    """
    return [
        (
            "fold",
            [  # batch norm into the convolutions, everything constant computed now
                relax.transform.FoldBatchnormToConv2D(),
                relax.transform.DecomposeOpsForInference(),
                relax.transform.CanonicalizeBindings(),
                fold_constants,
                relax.transform.DeadCodeElimination(),
            ],
        ),
        ("legalize", [legalization or legalize(vector_width, rules)]),
        (
            "legalize-rest",
            [  # operators we have no kernel for
                relax.transform.LegalizeOps(),
                relax.transform.FoldConstant(),
                relax.transform.RewriteDataflowReshape(),
                relax.transform.CanonicalizeBindings(),
                relax.transform.DeadCodeElimination(),
            ],
        ),
    ]


def lower_graph(
    mod: tvm.IRModule,
    vector_width: int,
    rules: Collection[str] = (),
    dump: IrDump | None = None,
    legalization: tvm.transform.Pass | None = None,
) -> tvm.IRModule:
    """The importer's module → kernel calls over our unscheduled TensorIR functions."""
    dump = dump or IrDump(None)
    dump("import", mod)
    for phase, passes in graph_phases(vector_width, rules, legalization):
        mod = tvm.transform.Sequential(passes)(mod)
        dump(phase, mod)
    return mod


def extract_kernels(mod: tvm.IRModule) -> list[Kernel]:
    """The tunable kernels of a lowered graph, each once, in order of first execution."""
    counts: dict[str, int] = {}
    for _, call in kernel_calls(mod):
        name = call.args[0].name_hint
        counts[name] = counts.get(name, 0) + 1
    return [
        Kernel(name, mod[name].with_attr("global_symbol", "main"), count, flops(mod[name]))
        for name, count in counts.items()
        if rule_of(mod[name]) is not None
    ]


def schedule_kernels(
    mod: tvm.IRModule, target: Target, records: ScheduleSource | None = None
) -> tuple[tvm.IRModule, dict[str, RecordInfo]]:
    """Schedule every kernel, from the records where they know it, else by the rule's default.

    Returns the module and, for each tuned kernel, its record.
    """
    tuned: dict[str, RecordInfo] = {}
    functions = {}
    for gvar, func in mod.functions.items():
        if isinstance(func, tirx.PrimFunc) and rule_of(func) is not None:
            plain = func.with_attr("global_symbol", "main")
            schedule, record = records.schedule_for(plain) if records else (None, None)
            if schedule is None or record is None:
                schedule = default_schedule(plain, target)
            else:
                tuned[gvar.name_hint] = record
            func = schedule.mod["main"].without_attr("global_symbol")
        functions[gvar] = func
    return tvm.IRModule(functions), tuned


def default_schedule(func: tirx.PrimFunc, target: Target) -> s_tir.Schedule:
    """The rule's own decision, by its analytic model; needs no tuning."""
    sch = s_tir.Schedule(tvm.IRModule({"main": func}))
    for block in sch.get_child_blocks(sch.get_sblock("root")):
        rule = sch.get(block).annotations.get(SCHEDULE_RULE)
        if rule is not None:
            sch.unannotate(block, SCHEDULE_RULE)
            with target:
                (scheduled,) = find_rule(str(rule), target)(sch, block)
            return scheduled
    raise RunFailed("this kernel has no block with a schedule rule")


def find_rule(
    rule: str, target: Target
) -> Callable[[s_tir.Schedule, SBlockRV], list[s_tir.Schedule]]:
    """The schedule of the first of the target's keys that has the rule."""
    for key in target.keys:
        if rule in RULES.get(key, {}):
            return RULES[key][rule]
    raise RunFailed(f"no schedule {rule!r} for target keys {', '.join(target.keys)}")


def rules_of(target: Target, strassen: bool = True) -> frozenset[str]:
    """The kinds of kernels that the target has schedules for, or those without Strassen's."""
    rules = frozenset(rule for key in target.keys for rule in RULES.get(key, {}))
    return rules if strassen else rules - STRASSEN


def rule_of(func: tirx.PrimFunc) -> str | None:
    """The schedule rule that one of the function's blocks is annotated with."""
    found: list[str] = []

    def visit(block: s_tir.SBlock) -> None:
        rule = str(block.annotations.get(SCHEDULE_RULE, TVMS_OWN))
        if not rule.startswith(TVMS_OWN):
            found.append(rule)

    tvm_ffi.structural_walk(func.body, (s_tir.SBlock, visit))
    return found[0] if found else None


def flops(func: tirx.PrimFunc) -> int:
    """Floating-point operations of one call, an addition and a multiplication counted apart."""
    return int(s_tir.analysis.estimate_tir_flops(tvm.IRModule({"main": func})))


def schedule_graph(
    mod: tvm.IRModule,
    target: Target,
    vector_width: int,
    records: ScheduleSource | None = None,
    dump: IrDump | None = None,
    strassen: bool = True,
) -> tuple[tvm.IRModule, dict[str, RecordInfo]]:
    """The importer's module → calls of scheduled kernels, and the record of each tuned one.

    Without `strassen` every 1x1 convolution is computed directly.
    """
    dump = dump or IrDump(None)
    lowered = lower_graph(mod, vector_width, rules_of(target, strassen), dump)
    scheduled, tuned = schedule_kernels(lowered, target, records)
    dump("schedule", scheduled)
    return scheduled, tuned


def compile_graph(
    mod: tvm.IRModule,
    target: Target,
    vector_width: int,
    records: ScheduleSource | None = None,
    dump: IrDump | None = None,
    strassen: bool = True,
) -> tuple[StaticProgram, dict[str, RecordInfo]]:
    """The importer's module → the static program, and the record of each tuned kernel."""
    dump = dump or IrDump(None)
    scheduled, tuned = schedule_graph(mod, target, vector_width, records, dump, strassen)
    program = make_static(scheduled, vector_width, num_cores(target))
    dump("static", program.module)
    return program, tuned


class IrDump:
    """Writes the module after each phase into a folder, numbered; None writes nothing."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.count = 0

    def __call__(self, phase: str, mod: tvm.IRModule) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{self.count:02d}-{phase}.py").write_text(mod.script() + "\n")
        self.count += 1
