"""Which cores this process may use."""

from __future__ import annotations

import os

import pytest

from tvm_mobilenet import provenance
from tvm_mobilenet.hardware import target
from tvm_mobilenet.hardware.cores import share_cores, usable_cores
from tvm_mobilenet.runtime import threads
from tvm_mobilenet.tuning.workers import arguments


def allow(monkeypatch: pytest.MonkeyPatch, cores: set[int]) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores, raising=False)


def test_those_that_the_process_may_run_on_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, {9, 3, 8})
    assert usable_cores() == (3, 8, 9)
    assert share_cores(1) == ((3, 8), (9,))
    assert provenance.describe_machine().cores == target.read_host("").cores == 3
    assert sorted(threads.available_cpus()) == [3, 8, 9]
    paths: list[str] = []
    monkeypatch.setattr(arguments, "L2_OF_CORE", "/nowhere/cpu{}")

    def note(path: str) -> str:
        paths.append(path)
        return os.devnull

    monkeypatch.setattr(arguments, "Path", note)
    with pytest.raises(AttributeError):  # no path, so that what was asked for is known
        arguments.l2_bytes()
    assert paths == ["/nowhere/cpu3"]


@pytest.mark.parametrize(("count", "cores"), [(4, (0, 1, 2, 3)), (None, (0,))])
def test_a_system_that_tells_no_affinity(
    monkeypatch: pytest.MonkeyPatch, count: int | None, cores: tuple[int, ...]
) -> None:
    """As macOS, which at most says how many there are."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(threads.PROCESS, "cpus", frozenset())  # what other tests pinned
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert usable_cores() == cores
    assert provenance.describe_machine().cores == target.read_host("").cores == len(cores)
    assert threads.available_cpus() == list(cores)
