"""Tuning by the model: what it records, what it refuses, and that no device is needed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from support import network_kernels, tuning_kernels
from support.tuning_kernels import SPEC, matmul

from tvm_mobilenet import tune
from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.database.entries import Measured
from tvm_mobilenet.database.lines import RecordInfo
from tvm_mobilenet.database.store import Records
from tvm_mobilenet.hardware import target
from tvm_mobilenet.hardware.core import Core
from tvm_mobilenet.models import config_from
from tvm_mobilenet.scheduling.space import KernelSpace
from tvm_mobilenet.tuning.measuring.measurer import Batch, Job, Outcome
from tvm_mobilenet.tuning.measuring.modelled import ModelMeasurer
from tvm_mobilenet.tuning.search.tasks import make_tasks
from tvm_mobilenet.tuning.workers.messages import Settings

SMALL = config_from("mobilenet_v1", 0.25, 128)
DEPTHWISE = 9  # of its kernels: 16x16, 64 channels
SETTINGS = Settings(target=SPEC.target, build_fn=tuning_kernels.BUILD)


def zen5() -> Core:
    core = target.resolve("x86-znver5").core
    assert core is not None
    return core


@pytest.fixture
def measured() -> dict[str, list[Outcome]]:
    """What becomes of the schedules of a rule that has a wrong one, by their last decision."""
    tuning_kernels.register()
    space = KernelSpace(matmul(8, 32, 16, rule="wrong_matmul").func, SPEC.tvm_target())
    candidates = random.Random(3).sample([space.at(point) for point in space.points()], 8)
    found: dict[str, list[Outcome]] = {"none": [], "wrong": []}
    with ModelMeasurer(SETTINGS, 60.0, zen5(), "a core") as measurer:
        measurer.add_task(0, space.mod)
        measurer.submit(Batch(0, [Job(one.trace_json, one) for one in candidates]))
        while measurer.pending:
            for result in measurer.poll(0.5):
                for one in result.outcomes:
                    fault = tuning_kernels.fault_of(one.job.payload.schedule.mod)
                    found[fault].append(one)
    return found


def test_a_wrong_schedule_gets_no_time(measured: dict[str, list[Outcome]]) -> None:
    assert measured["wrong"] and measured["none"]
    assert {one.cause for one in measured["wrong"]} == {"wrong result"}
    for one in measured["none"]:
        assert one.cause is None and one.reference
        assert one.seconds is not None and 1e-7 < one.seconds < 1e-4


def test_tunes_for_a_board_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = target.resolve("arm-rpi4")
    network = network_kernels.network(SMALL, spec.vector_width)
    kernel = pipeline.Kernel("depthwise", network[DEPTHWISE].func, 1, 2 * 16 * 16 * 64 * 9)
    monkeypatch.setattr("tvm_mobilenet.tuning.kernels.load_kernels", lambda *_: [kernel])
    flags = ["--target", "arm-rpi4", "--measure", "model", "--work-dir", str(tmp_path)]
    assert tune.main([*flags, "--trials", "4", "--timeout", "60"]) == 0
    assert "records written to" in capsys.readouterr().out
    records = Records.open(tmp_path, spec)
    assert len({one.trace_key for one in records.records}) == 4
    for one in records.records:
        assert (one.info.how, one.info.cpu) == ("modelled", f"model of {spec.device}")
        assert one.info.reference in ("numpy", "unscheduled")
    # 36864 multiply-adds of four floats, one a cycle of 1.5 GHz
    assert 24.5e-6 < records.ranked(0)[0].seconds < 80e-6


def test_measured_and_modelled_times_are_never_compared(tmp_path: Path) -> None:
    tuning_kernels.register()
    kernel = matmul(8, 32, 16)
    space = KernelSpace(kernel.func, SPEC.tvm_target())
    first, second, *_ = (space.at(point) for point in space.points())
    with Records.open(tmp_path, SPEC, writable=True) as records:
        for candidate, how, us in ((first, "native", 50.0), (second, "modelled", 5.0)):
            info = RecordInfo(us, how)
            records.append([Measured(space.mod, candidate.trace_json, info)])
        for modelled, best in ((False, 50e-6), (True, 5e-6)):
            (task,), _ = make_tasks(
                [kernel], SPEC.tvm_target(), records, resume=True, modelled=modelled
            )
            assert task.best_s == pytest.approx(best) and task.trials == 1
