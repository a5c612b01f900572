"""The tuner's builder and runner for GPUs, by nvcc and on the emulated GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cuda_emulator
import gpu_networks
import pytest
import tvm

from tvm_mobilenet import legalization, pipeline, target, tune
from tvm_mobilenet.cuda.lowering import lower
from tvm_mobilenet.precision import TOLERANCES
from tvm_mobilenet.tuning import case, on_gpu, worker
from tvm_mobilenet.tuning.arguments import arguments_of
from tvm_mobilenet.tuning.messages import Build, BuildTask, Done, MakeCase, Run, RunTask, Settings
from tvm_mobilenet.tuning.space import KernelSpace, workload_module

NAME = "cuda-sm_86"


def kernel_of(precision: str, kind: str) -> pipeline.Kernel:
    spec = target.resolve(NAME)
    lowered = pipeline.lower_graph(
        gpu_networks.mobilenet(0.25, 32).module,
        spec.vector_width,
        legalization=legalization.for_target(spec, precision),
    )
    return next(k for k in pipeline.extract_kernels(lowered) if k.name.startswith(kind))


@pytest.mark.nvcc
@pytest.mark.parametrize(
    ("precision", "kind"),
    [
        ("fp16", "separable_conv2d_4x4x64"),
        ("tf32", "separable_conv2d_4x4x64"),
        ("fp32", "pooled_dense"),
    ],
)
def test_a_candidate_is_built_checked_and_timed(
    precision: str, kind: str, tmp_path: Path, monkeypatch: Any
) -> None:
    spec = target.resolve(NAME)
    kernel = kernel_of(precision, kind)
    mod = workload_module(kernel.func)
    space = KernelSpace(kernel.func, spec.tvm_target())
    tolerance = TOLERANCES[precision]
    settings = Settings(target=dict(spec.target), gpu=True, cold=False, tolerance=tolerance)

    builder = worker.make_worker("builder", settings)
    assert isinstance(builder, on_gpu.Builder)
    builder.handle(BuildTask(0, tvm.ir.save_json(mod)))
    arguments = arguments_of(mod)
    values, library = str(tmp_path / "case.npz"), str(tmp_path / "candidate.so")
    done = builder.handle(MakeCase(0, 0, arguments, values))
    assert done is not None and done.cause is None and done.detail == case.UNSCHEDULED, done
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
            runner = worker.make_worker("runner", settings)
            assert isinstance(runner, on_gpu.Runner)
            runner.handle(RunTask(0, arguments, values))
            done = runner.handle(Run(1, 0, library, None, 10.0))
        assert isinstance(done, Done) and done.cause == wanted, done
        assert (len(done.medians) == settings.repeats) is (wanted is None)
        assert all(seconds > 0 for seconds in done.medians)


@pytest.mark.nvcc
def test_tuning_without_the_gpu_is_one_line(
    monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tvm_mobilenet.gpu.DRIVER", "libcuda-not-there.so.1")
    monkeypatch.setattr("tvm_mobilenet.gpu.present_arch", lambda: None)
    assert tune.main(["--target", NAME, "--alpha", "0.25", "--resolution", "32"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "cannot be measured on this machine: it has no GPU" in error


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--target", NAME, "--measure", "model"], "--measure model is for CPUs"),
        (
            ["--target", NAME, "--rpc-tracker", "localhost:9190", "--rpc-key", "k"],
            "--measure rpc is for CPUs",
        ),
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
