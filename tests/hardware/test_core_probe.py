"""Instructions put together by hand, and the probe of a core's front end that is made of them."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time

import pytest

from tvm_mobilenet.hardware import core_probe
from tvm_mobilenet.hardware.core_probe import CompanyProbe, CoreProbe
from tvm_mobilenet.hardware.cores import usable_cores
from tvm_mobilenet.hardware.machine_code import RET, Code, loop, outer_loop
from tvm_mobilenet.runtime.threads import siblings_of

XOR_EAX_EAX, ADD_EAX_1 = bytes.fromhex("31 c0"), bytes.fromhex("83 c0 01")
SPIN = (
    "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); print(flush=True)\nwhile 1: pass"
)
x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64")


@x86_64
def test_loops_go_round_as_often_as_they_should() -> None:
    once = Code([XOR_EAX_EAX, loop(ADD_EAX_1, 1000), RET])
    assert once.call() == 1000
    nested = Code([XOR_EAX_EAX, outer_loop(loop(ADD_EAX_1 * 3, 70), 5), RET])
    assert nested.call() == 3 * 70 * 5


@x86_64
def test_a_reading_is_a_cores_width_and_takes_microseconds() -> None:
    probe, readings, times = CoreProbe(), [], []
    for _ in range(2000):
        begin = time.perf_counter_ns()
        readings.append(probe.nops_per_cycle())
        times.append(time.perf_counter_ns() - begin)
    # from half of a core that decodes four to Zen's pairs of nops
    assert 1.5 < statistics.median(readings) < 17
    assert min(times) < 20_000
    deciles = statistics.quantiles(readings, n=10)
    assert deciles[4] / deciles[8] > 0.4, "a state is narrow: the upper half lies together"


@pytest.mark.isa("avx2")
def test_fmas_keep_a_part_of_their_rate_in_company() -> None:
    probe = CompanyProbe()
    shares = [probe.share() for _ in range(50)]
    assert 0.3 < statistics.median(shares) <= 1 == max(1, *shares)


@x86_64
def test_a_neighbour_on_the_same_core_halves_it() -> None:
    """Where this process sees two hardware threads of one core."""
    pairs = [sorted(siblings_of(cpu) & set(usable_cores())) for cpu in usable_cores()]
    pair = next((one for one in pairs if len(one) > 1), None)
    if pair is None:
        pytest.skip("needs a core of which this process may use both threads")
    before, probe = os.sched_getaffinity(0), CoreProbe()
    os.sched_setaffinity(0, {pair[0]})
    try:
        alone = statistics.median(probe.nops_per_cycle() for _ in range(2000))
        spinning = subprocess.Popen([sys.executable, "-c", SPIN, str(pair[1])], stdout=-1)
        with spinning:
            assert spinning.stdout is not None
            spinning.stdout.readline()
            shared = statistics.median(probe.nops_per_cycle() for _ in range(2000))
            spinning.kill()
    finally:
        os.sched_setaffinity(0, before)
    assert alone / shared > 1.3


def test_another_architecture_has_no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(OSError, match="this is aarch64"):
        CoreProbe()
    assert core_probe.ticks_of_core()() == 0
