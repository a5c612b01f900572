"""The clock of compile_times.py: a phase's own time, and functions that are really there."""

from __future__ import annotations

import functools
import importlib
import time

import compile_times
import pytest


@pytest.mark.parametrize("phase", compile_times.PHASES)
def test_every_phase_has_its_function_in_this_checkout(phase: str) -> None:
    place, *_ = compile_times.PHASES[phase]
    name, _, path = place.partition(":")
    module = importlib.import_module(f"tvm_mobilenet.{name}")
    assert callable(functools.reduce(getattr, path.split("."), module))


def test_a_phase_has_its_own_time_alone() -> None:
    clock = compile_times.Clock()
    inner = clock.timed("inner", lambda: time.sleep(0.2))

    def both() -> None:
        inner()
        time.sleep(0.05)

    clock.timed("outer", both)()
    assert clock.seconds["inner"] >= 0.2
    assert 0.05 <= clock.seconds["outer"] < 0.2
