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
from tvm_mobilenet.measure import arguments_of
from tvm_mobilenet.measure_gpu import Builder, Runner
from tvm_mobilenet.measure_messages import Build, BuildTask, Done, Run, RunTask, Settings
from tvm_mobilenet.space import KernelSpace, workload_module

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
    ("precision", "kind"), [("fp16", "separable_conv2d_4x4x64"), ("fp32", "dense")]
)
def test_a_candidate_is_built_checked_and_timed(
    precision: str, kind: str, tmp_path: Path, monkeypatch: Any
) -> None:
    spec = target.resolve(NAME)
    kernel = kernel_of(precision, kind)
    mod = workload_module(kernel.func)
    space = KernelSpace(kernel.func, spec.tvm_target())
    settings = Settings(target=dict(spec.target), cold=False, tolerance=tune.TOLERANCES[precision])

    builder = Builder(settings)
    builder.handle(BuildTask(0, tvm.ir.save_json(mod)))
    reference, library = str(tmp_path / "reference.so"), str(tmp_path / "candidate.so")
    for job in (
        Build(0, 0, None, reference),
        Build(1, 0, space.default.trace_json, library),
    ):
        done = builder.handle(job)
        assert isinstance(done, Done) and done.cause is None, done

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
            runner = Runner(settings)
            runner.handle(RunTask(0, arguments_of(mod), reference, str(tmp_path / "e.npz")))
            done = runner.handle(Run(1, 0, library, None))
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


def test_dry_run_shows_the_spaces(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--target", NAME, "--alpha", "0.25", "--resolution", "32", "--precision", "fp16"]
    assert tune.main([*flags, "--dry-run"]) == 0
    assert "separable_conv2d_16x16x8_16: 1 calls" in capsys.readouterr().out
