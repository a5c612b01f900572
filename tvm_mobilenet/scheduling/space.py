"""The search space of one kernel: every decision its schedule rule takes, and every option it has.

A rule calls ``sample_perfect_tile`` and ``sample_categorical`` with its analytic default as the
decision. A point of the space is one option for each of these calls, in order. Its schedule comes
from running the rule again with the calls answered otherwise, not from editing the decisions of a
finished trace: a rule may branch on what it sampled, and only the rule knows what follows.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule import _ffi_api
from tvm.s_tir.meta_schedule.logging import get_logging_func
from tvm.target import Target

from schedules.cpu.sharing import EVEN, num_cores
from tvm_mobilenet.errors import last_line
from tvm_mobilenet.scheduling.balance import imbalance, shared_rows, unrolled_statements
from tvm_mobilenet.scheduling.rules import check_rules
from tvm_mobilenet.scheduling.traces import (
    Option,
    Point,
    apply_trace,
    canonical_json,
    trace_key,
    trace_point,
)

# Statements after unrolling. A tile that fits 32 registers, its reduction unrolled 16 times, has
# about 500; what has more spills, and LLVM takes up to seconds to find that out. A kernel of two
# such tiles has more by default, and that many are allowed.
MAX_UNROLLED = 640

Chooser = Callable[[int, "Knob"], Option]
"""Answers the call at a position: takes its place and the knob, returns one of its options."""


@dataclass(frozen=True)
class Knob:
    """One ``sample_*`` call: its options, and the one the rule takes by itself."""

    kind: str
    options: tuple[Option, ...]
    default: Option


@dataclass(frozen=True)
class Candidate:
    """A point with the schedule that the rule made of it."""

    point: Point
    knobs: tuple[Knob, ...]
    schedule: s_tir.Schedule

    @cached_property
    def trace_json(self) -> str:
        """The trace as canonical JSON, which replays the schedule on the workload."""
        return canonical_json(self.schedule.trace.as_json())

    @cached_property
    def key(self) -> str:
        """What tells this schedule from others of its workload."""
        return trace_key(self.trace_json)

    @cached_property
    def structure(self) -> int:
        """A hash of the scheduled function: two points may come to the same code."""
        return int(tvm_ffi.structural_hash(self.schedule.mod))

    def measure_candidate(self) -> ms.MeasureCandidate:
        args_info = ms.arg_info.ArgInfo.from_entry_func(self.schedule.mod)
        return ms.MeasureCandidate(self.schedule, args_info)


class Rejected(Exception):
    """A point has no schedule; the subclass says which check refused it."""


class RuleFailed(Rejected):
    """The rule itself, or a check of TVM's while it ran or its trace was replayed, refused."""


class TooManyStatements(Rejected):
    """The schedule unrolls to more statements than fit the registers."""


class Unbalanced(Rejected):
    """The schedule leaves cores idle that the default keeps busy."""


class KernelSpace:
    """The schedules of ``func`` on ``target``, by the rule its annotated block names.

    Raises NoRule where there is none, Rejected where the rule refuses its own default.
    """

    def __init__(self, func: tirx.PrimFunc, target: Target, seed: int = 1) -> None:
        self.mod = workload_module(func)
        check_rules(self.mod["main"], target)
        self.context = _tune_context(self.mod, target, seed)
        self._target = target
        self._cores = num_cores(target)
        self._most_imbalance = self._most_statements = math.inf
        self._least_rows = 0
        self.default = self.instantiate(lambda _, knob: knob.default)
        mod = self.default.schedule.mod
        self._most_imbalance = max(EVEN, imbalance(mod, self._cores))
        self._least_rows = min(shared_rows(mod), self._cores)
        self._most_statements = max(MAX_UNROLLED, unrolled_statements(mod))
        self.knobs = self.default.knobs

    @property
    def size(self) -> int:
        """How many points there are, before any is refused."""
        return math.prod(len(knob.options) for knob in self.knobs)

    def points(self) -> Iterator[Point]:
        """Every point, lazily."""
        return itertools.product(*(knob.options for knob in self.knobs))

    def at(self, point: Sequence[Option]) -> Candidate:
        """The candidate at ``point``.

        Where an earlier choice changes what the rule asks next, an option that does not fit there
        is replaced by the rule's default; the candidate's own ``point`` is what was decided.
        """

        def choose(place: int, knob: Knob) -> Option:
            fits = place < len(point) and point[place] in knob.options
            return point[place] if fits else knob.default

        return self.instantiate(choose)

    def instantiate(self, choose: Chooser) -> Candidate:
        """Run the rule, ``choose`` answering its ``sample_*`` calls."""
        with _answer_samples(choose) as (point, knobs), self._target:
            try:
                schedules = self.context.generate_design_space()
            except Exception as error:  # TVM's ScheduleError has no Python type of its own
                raise RuleFailed(last_line(error)) from error
        if len(schedules) != 1:
            raise RuleFailed(f"expected one schedule from the rule, got {len(schedules)}")
        (schedule,) = schedules
        statements = unrolled_statements(schedule.mod)
        if statements > self._most_statements:
            allowed = self._most_statements
            raise TooManyStatements(f"{statements} statements after unrolling, {allowed} allowed")
        self.check_balance(schedule)
        return Candidate(tuple(point), tuple(knobs), schedule)

    def replay(self, trace_json: str) -> Candidate:
        """The candidate of a record's trace; Rejected where it does not apply to this kernel."""
        schedule = replay(self.mod, trace_json, self._target)
        self.check_balance(schedule)
        return Candidate(trace_point(trace_json), (), schedule)

    def check_balance(self, schedule: s_tir.Schedule) -> None:
        """Raise Unbalanced for what leaves cores idle that the default would not.

        Candidates are timed on one core, beside which others are built: there a parallel loop too
        short for all cores loses nothing, and may win. So does one whose threads would read what
        the others wrote, since there are none.
        """
        found = imbalance(schedule.mod, self._cores)
        if found > self._most_imbalance:
            raise Unbalanced(
                f"the busiest of {self._cores} cores has {found:.2f} times an even part, "
                f"{self._most_imbalance:.2f} allowed"
            )
        rows = shared_rows(schedule.mod)
        if rows < self._least_rows:
            raise Unbalanced(
                f"expected at least {self._least_rows} bands of rows to share among "
                f"{self._cores} cores, got {rows}"
            )


def workload_module(func: tirx.PrimFunc) -> tvm.IRModule:
    """The module under which MetaSchedule's database knows ``func``: one function, ``main``."""
    func = func.with_attr("global_symbol", "main").with_attrs({"tirx.noalias": True})
    return tvm.IRModule({"main": func})


def replay(mod: tvm.IRModule, trace_json: str, target: Target | None) -> s_tir.Schedule:
    """A schedule of ``mod`` by a trace in JSON, for code for ``target``, None for no code.

    Raises RuleFailed where it does not apply.
    """
    try:
        return apply_trace(mod, trace_json, target)
    except Exception as error:  # as in KernelSpace.instantiate
        raise RuleFailed(last_line(error)) from error


def _tune_context(mod: tvm.IRModule, target: Target, seed: int) -> ms.TuneContext:
    """MetaSchedule's context over our rules alone.

    Made without ``ms.TuneContext.__init__``: that imports every tensor intrinsic TVM ships, which
    takes 14 s here and which none of our rules uses.
    """
    generator = ms.space_generator.PostOrderApply(
        sch_rules=[ms.schedule_rule.ApplyCustomRule()], postprocs=[], mutator_probs={}
    )
    context = ms.TuneContext.__new__(ms.TuneContext)
    context.__init_handle_by_constructor__(
        _ffi_api.TuneContext,
        mod,
        target,
        generator,
        None,  # the search strategy is ours
        "main",
        1,  # thread, for the feature extractor: the other cores build and measure
        seed,
        get_logging_func(logging.getLogger(__name__)),
    )
    _ffi_api.TuneContextInitialize(context)
    return context


@contextlib.contextmanager
def _answer_samples(choose: Chooser) -> Iterator[tuple[list[Option], list[Knob]]]:
    """While inside, ``choose`` answers every ``sample_*`` call of a Schedule.

    TVM makes the Schedule that a rule gets, so the methods of the class are what can be replaced.
    Their checks of argument types in Python, a third of the time a rule takes, are left out
    meanwhile. Yields the decisions taken and the knobs met, both filled as the rule runs.
    """
    point: list[Option] = []
    knobs: list[Knob] = []
    checked = {
        name: method
        for name, method in vars(s_tir.Schedule).items()
        if hasattr(method, "__wrapped__")
    }
    perfect_tile = s_tir.Schedule.sample_perfect_tile
    categorical = s_tir.Schedule.sample_categorical

    def decide(kind: str, options: tuple[Option, ...], default: Option) -> Option:
        knob = Knob(kind, options, default)
        option = choose(len(knobs), knob)
        point.append(option)
        knobs.append(knob)
        return option

    def sample_perfect_tile(
        self: s_tir.Schedule,
        loop: Any,
        n: int,
        max_innermost_factor: int = 16,
        decision: list[int] | None = None,
    ) -> Any:
        options = factorizations(int(self.get(loop).extent), n, max_innermost_factor)
        default = tuple(int(one) for one in decision) if decision else options[0]
        chosen = decide("perfect_tile", options, default)
        assert isinstance(chosen, tuple)
        return perfect_tile(self, loop, n, max_innermost_factor, list(chosen))

    def sample_categorical(
        self: s_tir.Schedule, candidates: Any, probs: Any, decision: int | None = None
    ) -> Any:
        default = 0 if decision is None else int(decision)
        chosen = decide("categorical", tuple(range(len(candidates))), default)
        return categorical(self, candidates, probs, chosen)

    for name, method in checked.items():
        setattr(s_tir.Schedule, name, method.__wrapped__)
    s_tir.Schedule.sample_perfect_tile = sample_perfect_tile
    s_tir.Schedule.sample_categorical = sample_categorical
    try:
        yield point, knobs
    finally:
        for name, method in checked.items():
            setattr(s_tir.Schedule, name, method)
        s_tir.Schedule.sample_perfect_tile = perfect_tile
        s_tir.Schedule.sample_categorical = categorical


@cache
def factorizations(extent: int, parts: int, max_innermost: int) -> tuple[tuple[int, ...], ...]:
    """Every way to write ``extent`` as ``parts`` factors, the last at most ``max_innermost``.

    ``max_innermost`` -1 means any, as in TVM.
    """
    limit = extent if max_innermost == -1 else max_innermost
    if parts == 1:
        return ((extent,),) if extent <= limit else ()
    return tuple(
        (*outer, inner)
        for inner in range(1, min(extent, limit) + 1)
        if extent % inner == 0
        for outer in factorizations(extent // inner, parts - 1, -1)
    )
