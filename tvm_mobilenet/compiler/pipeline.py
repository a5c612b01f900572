"""The compile pipeline as one readable list: Relax from the importer → native code."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import tvm
from tvm import relax, s_tir, tirx
from tvm.target import Target

from tvm_mobilenet.compiler.backend import Program, backend_of
from tvm_mobilenet.compiler.dump import NO_DUMP, IrDump
from tvm_mobilenet.compiler.flush_denormals import flush_denormals
from tvm_mobilenet.compiler.graph.fold_constants import fold_constants
from tvm_mobilenet.compiler.graph.integers import keep_integers
from tvm_mobilenet.compiler.memory_plan import FLOPS, flops, kernel_calls
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.database.lines import RecordInfo
from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.scheduling.plain import plain_schedule
from tvm_mobilenet.scheduling.rules import default_schedule, rule_of

if TYPE_CHECKING:
    from tvm_mobilenet.compiler.backend import Code


class ScheduleSource(Protocol):
    """Where tuned schedules come from: the records of a target."""

    def schedule_for(
        self, func: tirx.PrimFunc
    ) -> tuple[s_tir.Schedule, RecordInfo] | tuple[None, None]: ...


@dataclass(frozen=True)
class Compiled:
    """``tuned`` has the record of each kernel that was scheduled from one.

    ``others`` are the kernels that are not ours: of operators that TVM legalized.
    """

    code: Code
    program: Program
    tuned: dict[str, RecordInfo]
    others: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Kernel:
    """One distinct kernel of a network: its unscheduled function and how often it is called."""

    name: str
    func: tirx.PrimFunc
    count: int
    flops: int


def compile_network(
    mod: tvm.IRModule,
    options: CompileOptions,
    records: ScheduleSource | None = None,
    dump: IrDump = NO_DUMP,
) -> Compiled:
    """Compile the importer's module; ``dump`` gets the module after each phase.

    Raises BadInput for what the target has no kernel for, RunFailed where ``options`` require a
    record that there is not.
    """
    backend = backend_of(options)
    # graph: folded, made into calls of kernels
    lowered = lower_graph(mod, backend.legalize(), dump)
    # kernels: each scheduled by its record, or by its rule's default
    scheduled, tuned = schedule_kernels(lowered, backend.target, records)
    dump("schedule", scheduled)
    if options.require_records:
        check_all_tuned(scheduled, tuned, options.spec.name)
    # program: memory planned, kernels lowered, code generated
    finished = backend.finish(scheduled, dump)
    return Compiled(finished.code, finished.program, tuned, others_of(lowered))


def graph_phases(legalize: tvm.transform.Pass) -> list[tuple[str, list[tvm.transform.Pass]]]:
    """The graph's passes, in order, by phase; ``legalize`` is the backend's."""
    return [
        (
            "fold",
            [  # batch norm into the convolutions, everything constant computed now
                keep_integers,
                relax.transform.FoldBatchnormToConv2D(),
                relax.transform.DecomposeOpsForInference(),
                relax.transform.CanonicalizeBindings(),
                fold_constants,
                flush_denormals,
                relax.transform.DeadCodeElimination(),
            ],
        ),
        ("legalize", [legalize]),
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
    mod: tvm.IRModule, legalize: tvm.transform.Pass, dump: IrDump = NO_DUMP
) -> tvm.IRModule:
    """The importer's module → kernel calls over our unscheduled TensorIR functions."""
    dump("import", mod)
    for phase, passes in graph_phases(legalize):
        mod = tvm.transform.Sequential(passes)(mod)
        dump(phase, mod)
    return mod


def schedule_kernels(
    mod: tvm.IRModule, target: Target, records: ScheduleSource | None = None
) -> tuple[tvm.IRModule, dict[str, RecordInfo]]:
    """Schedule every kernel, from the records where they know it, else by the rule's default.

    On a CPU, what has no rule is spread over vectors and threads.
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
            count = flops(func)
            func = schedule.mod["main"].without_attr("global_symbol").with_attr(FLOPS, count)
        elif isinstance(func, tirx.PrimFunc) and target.kind.name == "llvm":
            func = plain_schedule(func)
        functions[gvar] = func
    return tvm.IRModule(functions), tuned


def others_of(mod: tvm.IRModule) -> frozenset[str]:
    """The kernels of a lowered graph that name no rule of ours."""
    functions = mod.functions.items()
    kernels = {gvar.name_hint: func for gvar, func in functions if isinstance(func, tirx.PrimFunc)}
    return frozenset(name for name, func in kernels.items() if rule_of(func) is None)


def check_all_tuned(mod: tvm.IRModule, tuned: Collection[str], target: str) -> None:
    """Raise RunFailed, naming the kernels, where the network calls one that no record is of."""
    calls = [call.args[0].name_hint for _, call in kernel_calls(mod)]
    untuned = [name for name in calls if name not in tuned]
    if untuned:
        raise RunFailed(
            f"no record for {len(untuned)} of {len(calls)} layers on {target}: "
            f"{', '.join(dict.fromkeys(untuned))}; run 'tune' for them, "
            "or drop --on-untuned error"
        )


def kernels_of(mod: tvm.IRModule, options: CompileOptions) -> list[Kernel]:
    """The tunable kernels of the importer's module, each once, in order of first execution."""
    return extract_kernels(lower_graph(mod, backend_of(options).legalize()))


def extract_kernels(mod: tvm.IRModule) -> list[Kernel]:
    """As ``kernels_of``, of a lowered graph."""
    counts: dict[str, int] = {}
    for _, call in kernel_calls(mod):
        name = call.args[0].name_hint
        counts[name] = counts.get(name, 0) + 1
    return [
        Kernel(name, mod[name].with_attr("global_symbol", "main"), count, flops(mod[name]))
        for name, count in counts.items()
        if rule_of(mod[name]) is not None
    ]
