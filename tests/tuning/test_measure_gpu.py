"""The tuner's builder and runner for GPUs, by nvcc and on the emulated GPU."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tvm
from support import cuda_emulator, gpu_networks
from support.gpu_candidates import SETTINGS, Candidates, check, replace_code, space

from tvm_mobilenet import tune
from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.cuda.lowering import lower
from tvm_mobilenet.compiler.graph.legalize_gpu import Fusion, legalize_gpu
from tvm_mobilenet.compiler.precision import TOLERANCES
from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.hardware import gpu, target
from tvm_mobilenet.scheduling.space import KernelSpace, workload_module
from tvm_mobilenet.tuning.measuring.local import LocalMeasurer
from tvm_mobilenet.tuning.measuring.measurer import Batch, BatchResult, Job
from tvm_mobilenet.tuning.workers import case, gpu_kernels, worker
from tvm_mobilenet.tuning.workers.arguments import arguments_of
from tvm_mobilenet.tuning.workers.messages import (
    Build,
    BuildTask,
    Done,
    MakeCase,
    Run,
    RunTask,
    Settings,
)

pytestmark = pytest.mark.usefixtures("warm_workers")

NAME = gpu_networks.KERNEL_TARGET


def test_the_runner_does_not_import_torch(python: Any) -> None:
    script = (
        "import sys; from tvm_mobilenet.tuning.workers import messages, worker; "
        "worker.make_worker('runner', messages.Settings(target={}, gpu=True)); "
        "print('torch' in sys.modules)"
    )
    done = python("-c", script)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr


@pytest.mark.nvcc
@pytest.mark.parametrize(
    ("precision", "kind"),
    [
        ("fp16", "pointwise_depthwise_conv2d_4x4x64"),
        ("tf32", "separable_conv2d_8x8x16"),
        ("fp32", "pooled_dense"),
    ],
)
def test_a_candidate_is_built_checked_and_timed(
    precision: str, kind: str, tmp_path: Path, monkeypatch: Any
) -> None:
    spec = target.resolve(NAME)
    kernel = gpu_networks.kernel(precision, kind)
    mod = workload_module(kernel.func)
    space = KernelSpace(kernel.func, spec.tvm_target())
    tolerance = TOLERANCES[precision]
    settings = Settings(
        target=spec.tvm_config(), gpu=True, cold=False, tolerance=tolerance, launches=3
    )

    builder = worker.make_worker("builder", settings)
    assert isinstance(builder, gpu_kernels.GpuBuilder)
    builder.handle(BuildTask(0, tvm.ir.save_json(mod)))
    arguments = arguments_of(mod)
    values, library = str(tmp_path / "case.npz"), str(tmp_path / "candidate.so")
    done = builder.handle(MakeCase(0, 0, arguments, values))
    assert done is not None and done.cause is None and done.detail == case.INDEPENDENT, done
    done = builder.handle(Build(1, 0, space.default.trace_json, library))
    assert done is not None and done.cause is None, done

    source, _ = lower({"main": space.default.schedule.mod["main"]}, spec.tvm_target())
    wrong = source.replace("_ptr[0] = 0x0p+0f", "_ptr[0] = 0x1p+10f")  # where a sum starts
    assert wrong != source
    for text, wanted in (
        (source, None),
        (wrong, "wrong result"),
    ):
        folder = tmp_path / str(wanted)
        folder.mkdir()
        cuda_emulator.emulated_driver(text, folder)
        with gpu_networks.emulated_gpu(monkeypatch, folder / cuda_emulator.LIBRARY):
            runner: Any = worker.make_worker("runner", settings)
            assert isinstance(runner, gpu_kernels.GpuRunner)
            runner.handle(RunTask(0, arguments, values))
            done = runner.handle(Run(1, 0, library, None, 10.0))
        assert isinstance(done, Done) and done.cause == wanted, done
        assert (len(done.medians) == settings.repeats) is (wanted is None)
        assert all(seconds > 0 for seconds in done.medians)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> cuda_emulator.Machine:
    """This one, with an emulated GPU and the nvcc for it."""
    made = cuda_emulator.machine(tmp_path)
    monkeypatch.setenv("PATH", f"{made.nvcc}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(made.driver))  # for workers
    monkeypatch.setenv("EMULATED_GPU_SM", str(gpu.capability(NAME)))
    monkeypatch.setattr(gpu, "DRIVER", str(made.driver / gpu.DRIVER))
    return made


def test_outputs_are_cleared_between_candidates(
    machine: cuda_emulator.Machine, tmp_path: Path
) -> None:
    candidates = Candidates(tmp_path)
    runner: Any = worker.make_worker("runner", SETTINGS)
    runner.handle(candidates.task)
    for fault, cause in (("none", None), ("nothing", "wrong result"), ("none", None)):
        check(runner.handle(Run(1, 0, candidates.build(fault), None, 60.0)), cause)


def test_padding_rows_of_the_last_tile_may_stay_unwritten(
    machine: cuda_emulator.Machine, tmp_path: Path
) -> None:
    """A depthwise kernel of 4 pixels, stored as 16."""
    spec = target.resolve(NAME)
    alone = legalize_gpu("fp32", Fusion(gpu_networks.alone, lambda *_: False))
    module = gpu_networks.mobilenet(0.25, 32).module
    lowered = pipeline.lower_graph(module, alone)
    kernels = pipeline.extract_kernels(lowered)
    found = next(one for one in kernels if one.name.startswith("depthwise_conv2d_2x2"))
    settings = replace(SETTINGS, tolerance=TOLERANCES["fp32"])
    candidates = Candidates(tmp_path, settings, of=KernelSpace(found.func, spec.tvm_target()))
    runner: Any = worker.make_worker("runner", settings)
    runner.handle(candidates.task)
    check(runner.handle(Run(1, 0, candidates.build("none"), None, 60.0)), None)


def test_a_failing_candidate_loses_no_other_candidate(
    machine: cuda_emulator.Machine,
) -> None:
    good, lost, crash, last = list(space().points())[:4]
    replace_code(machine, space().at(lost), "lost kernel")
    replace_code(machine, space().at(crash), "crash")
    with LocalMeasurer(SETTINGS, 60.0) as measurer:
        measurer.add_task(0, space().mod)
        jobs = [Job(space().at(point).trace_json) for point in (good, lost, crash, last)]
        measurer.submit(Batch(0, jobs))
        (result,) = results(measurer)
    assert [one.cause for one in result.outcomes] == [None, "run error", "run error", None]
    assert "main_kernel" in result.outcomes[1].detail and "SIGSEGV" in result.outcomes[2].detail
    assert measurer.statistics.restarts == 2


def test_a_full_gpu_ends_the_run_in_one_line(
    machine: cuda_emulator.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMULATED_GPU_MEMORY", "1000")
    with LocalMeasurer(SETTINGS, 60.0) as measurer:
        measurer.add_task(0, space().mod)
        measurer.submit(Batch(0, [Job(space().default.trace_json)]))
        with pytest.raises(RunFailed, match=r"this machine's GPU: no GPU memory for .*: out of"):
            results(measurer)


def results(measurer: LocalMeasurer) -> list[BatchResult]:
    ended: list[BatchResult] = []
    while measurer.pending:
        ended += measurer.poll(0.1)
    return ended


def test_records_name_the_gpu_and_its_driver(machine: cuda_emulator.Machine) -> None:
    assert gpu.describe_present(gpu.DRIVER).startswith("Emulated GPU, driver ")
    assert gpu.Present("H100", "sm_90", "13.0").described("580.65\n") == (
        "H100, driver 580.65 for CUDA 13.0"
    )
    assert gpu.Present("H100", "sm_90", "13.0").described("") == "H100, driver for CUDA 13.0"


@pytest.mark.nvcc
def test_tuning_without_the_gpu_is_one_line(
    monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tvm_mobilenet.hardware.gpu.DRIVER", "libcuda-not-there.so.1")
    monkeypatch.setattr("tvm_mobilenet.hardware.gpu.present_arch", lambda: None)
    assert tune.main(["--target", NAME, "--alpha", "0.25", "--resolution", "32"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "cannot be measured on this machine: it has no GPU" in error


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--target", NAME, "--measure", "model"], "--measure model is for CPUs"),
        (["--target", "x86-64-v3", "--precision", "fp16"], "precision fp16 is for GPUs"),
    ],
)
def test_what_is_not_measured_so_is_one_line(
    flags: list[str], wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune.main([*flags, "--alpha", "0.25", "--resolution", "32"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and wanted in error


def test_dry_run_shows_the_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--target", NAME, "--alpha", "0.25", "--resolution", "32", "--precision", "fp16"]
    assert tune.main([*flags, "--dry-run"]) == 0
    assert "separable_conv2d_16x16x8_16: 1 calls" in capsys.readouterr().out
