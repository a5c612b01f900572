"""What is found out about the cores: plausible figures here, none where they cannot be had."""

from __future__ import annotations

import os
import platform

import pytest

from tvm_mobilenet.hardware.core_facts import CoreFacts, find_core_facts, handover_ns
from tvm_mobilenet.hardware.cores import usable_cores


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64")
def test_frequencies_and_the_way_to_the_other_cpu() -> None:
    before = os.sched_getaffinity(0)
    facts = find_core_facts()
    assert os.sched_getaffinity(0) == before
    assert facts.clock_mhz is not None and 500 < facts.clock_mhz < 8000
    if facts.vector_clock_mhz is not None:
        assert 0.4 * facts.clock_mhz < facts.vector_clock_mhz < 1.6 * facts.clock_mhz
    if len(usable_cores()) > 1:
        assert facts.handover_ns is not None and facts.handover_ns > 10
    assert facts.threads_per_core in (None, 1, 2, 4)


@pytest.mark.skipif(len(usable_cores()) < 2, reason="needs two CPUs")
def test_another_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    before = os.sched_getaffinity(0)
    with pytest.raises(OSError, match="x86-64"):
        handover_ns(*usable_cores()[:2])
    assert os.sched_getaffinity(0) == before
    facts = find_core_facts()
    assert (facts.clock_mhz, facts.vector_clock_mhz, facts.handover_ns) == (None, None, None)
    assert facts != CoreFacts(), "what the system lists is still told"
