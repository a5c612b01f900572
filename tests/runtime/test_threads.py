"""Which CPUs the threads go to; that they are as many as asked is in test_session.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tvm_mobilenet.runtime import threads


def machine(folder: Path, cpus: dict[int, tuple[str, int]]) -> None:
    """A /sys/devices/system/cpu of CPUs with (hyper-thread siblings, maximum kHz)."""
    for cpu, (siblings, khz) in cpus.items():
        for name, text in (
            ("topology/thread_siblings_list", siblings),
            ("cpufreq/cpuinfo_max_freq", str(khz)),
        ):
            file = folder / f"cpu{cpu}" / name
            file.parent.mkdir(parents=True)
            file.write_text(text + "\n")


HYPER_THREADS = {0: ("0-1", 3000), 1: ("0-1", 3000), 2: ("2,3", 3000), 3: ("2,3", 3000)}
BIG_LITTLE = {0: ("0", 1400), 1: ("1", 1400), 2: ("2", 1800), 3: ("3", 1800)}


@pytest.mark.parametrize(
    ("cpus", "allowed", "wanted"),
    [
        (HYPER_THREADS, {0, 1, 2, 3}, [0, 2, 1, 3]),
        (HYPER_THREADS, {1, 2, 3}, [1, 2, 3]),
        (BIG_LITTLE, {0, 1, 2, 3}, [2, 3, 0, 1]),
        ({}, {4, 5}, [4, 5]),
    ],
    ids=["hyper-threads", "some CPUs only", "big.LITTLE", "no /sys"],
)
def test_order_of_cpus(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cpus: dict[int, tuple[str, int]],
    allowed: set[int],
    wanted: list[int],
) -> None:
    machine(tmp_path, cpus)
    monkeypatch.setattr(threads, "CPUS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: allowed)
    assert threads.available_cpus() == wanted
