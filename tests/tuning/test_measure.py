"""Building and timing in worker processes: good candidates get times, bad ones a cause."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import odd_kernels, tuning_kernels
from support.bf16_cases import Bf16Convolution
from support.kernel_cases import Convolution
from support.quantized_cases import QuantizedConvolution
from support.tuning_kernels import FAULTS, SETTINGS, SPEC, matmul

from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.hardware import target
from tvm_mobilenet.hardware.cores import share_cores
from tvm_mobilenet.kernels.cpu.expressions import SELF
from tvm_mobilenet.scheduling.space import KernelSpace
from tvm_mobilenet.tuning.measuring.local import LocalMeasurer
from tvm_mobilenet.tuning.measuring.measurer import Batch, BatchResult, Job
from tvm_mobilenet.tuning.workers.arguments import arguments_of
from tvm_mobilenet.tuning.workers.messages import Settings
from tvm_mobilenet.tuning.workers.timing import block_of, time_kernel

# a worker is lost by every second fault; tests/tuning/test_tuner.py starts real ones too
pytestmark = pytest.mark.usefixtures("warm_workers")

CAUSES = {
    "none": None,
    "build error": "build error",
    "build crash": "build error",
    "build hang": "build timeout",
    "segfault": "run error",
    "hang": "run timeout",
    "exit": "run error",
    "nothing": "wrong result",
    "wrong": "wrong result",
}


@pytest.fixture(scope="module")
def space() -> KernelSpace:
    tuning_kernels.register()
    return KernelSpace(matmul(16, 64, 32, "faulty_matmul").func, SPEC.tvm_target())


@pytest.fixture(scope="module")
def measurer(space: KernelSpace) -> Iterator[LocalMeasurer]:
    with LocalMeasurer(SETTINGS, timeout_s=3.0) as measurer:
        measurer.add_task(0, space.mod)
        yield measurer


def job(space: KernelSpace, fault: str, place: int = 0) -> Job:
    point = list(space.points())[place * len(FAULTS)]
    candidate = space.at((*point[:-1], FAULTS.index(fault)))
    return Job(candidate.trace_json, fault)


def results(measurer: LocalMeasurer) -> list[BatchResult]:
    ended: list[BatchResult] = []
    while measurer.pending:
        ended += measurer.poll(0.2)
    return ended


def test_faults_are_counted_by_cause_and_lose_no_other_candidate(
    measurer: LocalMeasurer, space: KernelSpace
) -> None:
    # every fault between two candidates that are fine
    faults = [one for fault in FAULTS[1:] for one in (fault, "none")]
    jobs = [job(space, "none")]
    jobs += [job(space, fault, place) for place, fault in enumerate(faults, 1)]
    measurer.submit(Batch(0, jobs))
    (result,) = results(measurer)
    assert [one.cause for one in result.outcomes] == [CAUSES[one.payload] for one in jobs]
    for outcome in result.outcomes:
        assert (outcome.seconds is None) == (outcome.cause is not None)
        if outcome.seconds is not None:
            assert outcome.seconds > 0 and outcome.error < 1e-6
        else:
            assert outcome.detail
    details = {one.job.payload: one.detail for one in result.outcomes}
    assert details["segfault"] == "runner was ended by SIGSEGV"
    assert details["build crash"] == "builder was ended by SIGSEGV"
    assert details["build error"] == "this candidate does not build"
    assert "unwritten" in details["nothing"] and "relative error" in details["wrong"]


@pytest.mark.parametrize("kind", ["builder", "runner"])
def test_a_killed_worker_is_replaced(
    measurer: LocalMeasurer, space: KernelSpace, kind: str
) -> None:
    measurer.submit(Batch(0, [job(space, "none", place) for place in range(6)]))
    measurer.poll(0.2)
    (worker,) = [one for one in measurer.workers if one.kind == kind]
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    (result,) = results(measurer)
    lost = [one for one in result.outcomes if one.cause is not None]
    assert len(lost) <= 1 and all("SIGKILL" in one.detail for one in lost)
    assert sum(one.seconds is not None for one in result.outcomes) >= 5


def test_a_final_batch_measures_all_its_jobs(measurer: LocalMeasurer, space: KernelSpace) -> None:
    measurer.submit(Batch(0, [job(space, "none", place) for place in range(3)], final=True))
    (result,) = results(measurer)
    assert all(one.seconds is not None and not one.cut for one in result.outcomes)


def test_libraries_do_not_pile_up(measurer: LocalMeasurer) -> None:
    left = {path.name for path in measurer.folder.rglob("*.so")}
    assert len(left) <= 1, "the sentinel"


def test_kernels_over_bytes(measurer: LocalMeasurer) -> None:
    """Their traces replay where no rule has run, for a CPU without their instructions too."""
    spec = target.resolve("x86-znver4")
    v = spec.vector_width
    real = Convolution("depthwise", (v, v), (6, 8), (v, v), (3, 3), padding=odd_kernels.SAME)
    case = QuantizedConvolution(real, odd_kernels.AS_BYTE)
    space = KernelSpace(case.func(), spec.tvm_target())
    measurer.add_task(1, space.mod)
    jobs = [Job(space.at(point).trace_json, "") for point in list(space.points())[:3]]
    measurer.submit(Batch(1, jobs))
    (result,) = results(measurer)
    assert [(one.cause, one.detail) for one in result.outcomes] == [(None, "")] * 3


@pytest.mark.parametrize(
    "real", [odd_kernels.DEPTHWISE[0], odd_kernels.STEM[0]], ids=["dw", "stem"]
)
def test_kernels_in_bf16(measurer: LocalMeasurer, real: Convolution) -> None:
    """As those over bytes, of arrays that NumPy has no type for."""
    case = Bf16Convolution(real, SELF)
    space = KernelSpace(case.func(), target.resolve("x86-znver4").tvm_target())
    task = 2 + (real.kind == "stem")
    measurer.add_task(task, space.mod)
    jobs = [Job(space.at(point).trace_json, "") for point in list(space.points())[:2]]
    measurer.submit(Batch(task, jobs))
    (result,) = results(measurer)
    assert [(one.cause, one.detail) for one in result.outcomes] == [(None, "")] * 2


def test_a_worker_that_cannot_start_ends_the_run(space: KernelSpace) -> None:
    settings = Settings(target=SPEC.target, build_fn="no_such_module:build")
    with LocalMeasurer(settings, 2.0) as measurer:
        measurer.add_task(0, space.mod)
        measurer.submit(Batch(0, [job(space, "none")]))
        with pytest.raises(RunFailed, match=r"builder process does not start.*no_such_module"):
            results(measurer)


def test_closing_ends_the_workers_and_removes_their_files(space: KernelSpace) -> None:
    measurer = LocalMeasurer(SETTINGS, 2.0)
    assert not any(worker.started for worker in measurer.workers)
    measurer.add_task(0, space.mod)
    measurer.submit(Batch(0, [job(space, "none")]))
    pids = [worker.pid for worker in measurer.workers]
    measurer.close()
    assert pids and not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not measurer.folder.exists()


def test_what_arguments_are_for(space: KernelSpace) -> None:
    roles = [(one.shape, one.role) for one in arguments_of(space.mod)]
    assert roles == [((16, 32), "input"), ((32, 64), "constant"), ((16, 64), "output")]
    func = space.mod["main"].with_attr("constant_params", [0])
    mod = type(space.mod)({"main": func})
    assert [one.role for one in arguments_of(mod)] == ["constant", "input", "output"]


def test_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert share_cores(1) == ((0, 1, 2), (3,))
    assert share_cores(3) == ((0,), (1, 2, 3))
    assert share_cores(4) == ((0, 1, 2, 3), (0, 1, 2, 3))


class Clock:
    """A machine on which every call takes a known time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, call_s: float) -> None:
        self.now = 0.0
        self.calls: list[int] = []
        self.call_s = call_s
        monkeypatch.setattr(
            "tvm_mobilenet.tuning.workers.timing.time.perf_counter", lambda: self.now
        )

    def kernel(self, copy: int) -> None:
        self.calls.append(copy)
        self.now += self.call_s


def test_timing_goes_through_all_copies_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 1e-5)
    medians, cut = time_kernel(
        block_of(clock.kernel, [(0,), (1,), (2,)]), None, Settings(target={})
    )
    assert medians == [pytest.approx(1e-5)] * 3 and not cut
    assert clock.calls == [i % 3 for i in range(len(clock.calls))]
    assert len(clock.calls) > 15 * 100, "15 blocks of a millisecond"


def test_a_slow_candidate_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 1e-5)
    medians, cut = time_kernel(block_of(clock.kernel, [(0,)]), 0.6e-5, Settings(target={}))
    assert cut and medians == [pytest.approx(1e-5)]
    assert len(clock.calls) < 110
