"""The search space of a kernel: what the rule asks, answered otherwise."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import tuning_kernels
from support.kernel_cases import Dense
from support.quantized_cases import QuantizedDense
from support.tuning_kernels import SPEC, matmul
from tvm import s_tir

from tvm_mobilenet.hardware import target
from tvm_mobilenet.scheduling.rules import NoRule
from tvm_mobilenet.scheduling.space import (
    KernelSpace,
    Rejected,
    factorizations,
    replay,
    workload_module,
)
from tvm_mobilenet.scheduling.traces import trace_point
from tvm_mobilenet.tuning.search.strategy import CostModel, Search


@pytest.fixture(scope="module")
def space() -> KernelSpace:
    tuning_kernels.register()
    return KernelSpace(matmul(8, 32, 16).func, SPEC.tvm_target())


def test_the_default_is_the_rules_own(space: KernelSpace) -> None:
    assert space.default.point == ((8, 4), (8, 1), 0)
    assert [len(knob.options) for knob in space.knobs] == [5, 3, 2]
    assert space.size == 30 == len(set(space.points()))


def test_every_point_is_what_it_says_and_replays(space: KernelSpace) -> None:
    structures = set()
    for point in space.points():
        candidate = space.at(point)
        assert candidate.point == point == trace_point(candidate.trace_json)
        again = space.replay(candidate.trace_json)
        assert (again.key, again.structure) == (candidate.key, candidate.structure)
        structures.add(candidate.structure)
    # a branch in the rule is taken, which changing a trace's decision would not do
    assert len(structures) == space.size


def test_the_sampling_methods_are_put_back(space: KernelSpace) -> None:
    before = s_tir.Schedule.sample_perfect_tile, s_tir.Schedule.sample_categorical
    with pytest.raises(Rejected):
        space.instantiate(lambda place, knob: (3, 3) if place == 0 else 99)
    assert before == (s_tir.Schedule.sample_perfect_tile, s_tir.Schedule.sample_categorical)


def test_what_does_not_fit_becomes_the_default(space: KernelSpace) -> None:
    assert space.at([(7, 7)]).point == space.default.point


def test_kernels_without_a_rule(space: KernelSpace) -> None:
    target = SPEC.tvm_target()
    with pytest.raises(NoRule, match="no schedule rule 'unheard_of' for the target keys tuning_t"):
        KernelSpace(matmul(8, 32, 16, rule="unheard_of").func, target)


@given(st.integers(1, 64), st.integers(2, 4), st.sampled_from([-1, 1, 4, 16]))
def test_factorizations(extent: int, parts: int, most: int) -> None:
    found = factorizations(extent, parts, most)
    assert len(set(found)) == len(found) > 0
    for one in found:
        assert math.prod(one) == extent and len(one) == parts
        assert most == -1 or one[-1] <= most


# ---------------------------------------------------------------- the search over it


def simulated(space: KernelSpace, seed: int, trials: int) -> tuple[Search, list[float]]:
    """Search with times from a made-up machine that likes one point."""
    search = Search(space, CostModel(), random.Random(seed))
    times: list[float] = []
    while len(times) < trials and (batch := search.propose(6)):
        results = []
        for candidate in batch:
            (_, width), (_, height), order = candidate.point  # type: ignore[misc]
            seconds = 1e-6 * (1 + abs(width - 16) + abs(height - 4) + 5 * (order == 0))
            results.append((candidate, seconds))
            times.append(seconds)
        search.observe(results)
    return search, times


def test_a_small_space_is_searched_to_its_end_without_repetition(space: KernelSpace) -> None:
    search, times = simulated(space, 0, 1000)
    assert len(times) == space.size and search.exhausted
    assert min(times) == 1e-6
    assert search.explored == (10, 10)


def test_every_option_is_tried_early(space: KernelSpace) -> None:
    search, times = simulated(space, 1, 18)
    assert search.explored == (10, 10)
    assert times[0] == pytest.approx(1e-6 * (1 + 12 + 3 + 5)), "the default comes first"


def test_known_schedules_are_not_proposed_and_seeds_come_first(space: KernelSpace) -> None:
    points = list(space.points())
    known = [space.at(point) for point in points[:10]]
    seed = space.at(points[20])
    search = Search(
        space,
        CostModel(),
        random.Random(0),
        seeds=[seed.trace_json, "[[],[[0,1]]]"],
        known=[one.key for one in known],
        known_times=[(one.trace_json, 1e-6 * (i + 1)) for i, one in enumerate(known)],
    )
    batch = search.propose(8)
    assert seed.key in [one.key for one in batch[:2]]
    proposed = {one.key for one in batch}
    while batch := search.propose(8):
        assert not proposed & {one.key for one in batch}
        proposed |= {one.key for one in batch}
    assert not proposed & {one.key for one in known}
    assert len(proposed) == space.size - 10


def test_a_trace_of_dot_products_is_a_schedule_for_every_target() -> None:
    """Each target's own instructions, whatever the target was whose search found the trace."""
    func = QuantizedDense(Dense((32, 32), 2)).func()
    found, *others = (target.resolve(name).tvm_target() for name in ("x86-znver4", "x86-64-v3"))
    trace = KernelSpace(func, found).default.trace_json
    for one, instruction in [(others[0], "pmadd"), (None, "int32x16"), (found, "vpdpbusd")]:
        script = replay(workload_module(func), trace, one).mod.script()
        assert instruction in script
        assert ("vpdpbusd" in script) == (one is found)
