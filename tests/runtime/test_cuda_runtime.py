"""Running a GPU bundle: the session, what it measures, and every machine that it is not for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import cuda_emulator, gpu_networks
from tvm import relax

from tvm_mobilenet import bundle, run
from tvm_mobilenet.bundle.manifest import from_json, to_json
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware import gpu, target
from tvm_mobilenet.runtime import session
from tvm_mobilenet.runtime.cuda import CudaExecutor

Machine = Callable[..., AbstractContextManager[None]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle for sm_86, and the emulated driver that runs its kernels."""
    folder = tmp_path_factory.mktemp("gpu")
    network = gpu_networks.mobilenet(0.25, 32)
    x = np.random.default_rng(0).standard_normal(network.input_shape, dtype=np.float32)
    plan, kind = gpu_networks.planned(network, "cuda-sm_86", "fp32")
    code = gpu_networks.emulated(plan, kind, folder)
    path = gpu_networks.write_bundle(code, network, folder, "fp32", x)
    return path, folder / cuda_emulator.LIBRARY


@pytest.fixture
def machine(made: tuple[Path, Path], monkeypatch: Any) -> Machine:
    return lambda **settings: gpu_networks.emulated_gpu(monkeypatch, made[1], **settings)


def test_a_bundle_checks_itself_on_the_gpu(
    made: tuple[Path, Path], machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    with machine():
        assert run.main([str(made[0]), "--top", "3"]) == 0
    assert "ok" in capsys.readouterr().out


def test_a_newer_gpu_runs_it_too(made: tuple[Path, Path], machine: Machine) -> None:
    with machine(sm="90"), session.load(made[0]) as loaded:
        assert loaded.output.shape == (1, 1000)


def test_device_time_is_measured_apart(made: tuple[Path, Path], machine: Machine) -> None:
    with machine(), session.load(made[0]) as loaded:
        executor = loaded.executor
        assert isinstance(executor, CudaExecutor)
        samples = executor.kernel_milliseconds(7)
        assert samples.shape == (7,) and (samples > 0).all()
        launches = len(launches_of_the_network())
        each = executor.launch_milliseconds(launches)
        assert each.shape == (launches,) and (each > 0).all()


def launches_of_the_network() -> list[str]:
    network = gpu_networks.mobilenet(0.25, 32)
    return [step.kernel for step in gpu_networks.planned(network, "cuda-sm_86", "fp32")[0].steps]


def test_results_stay_after_closing(made: tuple[Path, Path], machine: Machine) -> None:
    with machine():
        with session.load(made[0]) as loaded:
            x = loaded.bundle.sample_input()
            first, second = loaded.run(x), loaded.run(x)
        assert isinstance(first, np.ndarray) and isinstance(second, np.ndarray)
        np.testing.assert_array_equal(first, second)
        with pytest.raises(RunFailed, match="closed"):
            loaded.run(x)


# Wrong machines, each one line


def fails(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = run.main([str(path)])
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and line.startswith("error: ")
    return status, line


def test_no_driver(
    made: tuple[Path, Path], monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "DRIVER", "libcuda-not-there.so.1")
    status, line = fails(made[0], capsys)
    assert status == 2 and "no NVIDIA driver" in line


@pytest.mark.parametrize(
    ("settings", "wanted", "says"),
    [
        ({"init": "100"}, 2, "driver does not start: no CUDA-capable device"),
        ({"sm": "80"}, 2, r"made for sm_86, this GPU (Emulated GPU) is sm_80; compile it for cuda"),
        ({"memory": "1000"}, 1, "bytes of weights and workspace: out of memory"),
    ],
    ids=["no GPU", "older GPU", "out of memory"],
)
def test_wrong_gpus(
    settings: dict[str, str],
    wanted: int,
    says: str,
    made: tuple[Path, Path],
    machine: Machine,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with machine(**settings):
        status, line = fails(made[0], capsys)
    assert status == wanted and says in line


def test_another_host(
    made: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Jetson's bundle on a PC."""
    copy = tmp_path / "bundle"
    copy.mkdir()
    for file in made[0].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    manifest = from_json((copy / bundle.MANIFEST).read_text())
    jetson = bundle.Target("cuda-sm_87", "aarch64-linux-gnu", "sm_87")
    text = to_json(dataclasses.replace(manifest, target=jetson))
    (copy / bundle.MANIFEST).write_text(text)
    status, line = fails(copy, capsys)
    assert status == 2 and "made for aarch64 (cuda-sm_87), this machine is x86_64" in line


# Which target a machine gets


@pytest.mark.parametrize(
    ("arch", "name"),
    [
        (None, "sm_80"),
        ("sm_75", "sm_75"),
        ("sm_87", "sm_87"),
        ("sm_90", "sm_90"),
        ("sm_120", "sm_90"),
    ],
)
def test_the_family_is_the_gpu_present(arch: str | None, name: str) -> None:
    assert target.detect_gpu(arch).name == f"cuda-{name}"


def test_a_gpu_older_than_every_target() -> None:
    with pytest.raises(BadInput, match="no cuda target fits this GPU: sm_70 is older"):
        target.detect_gpu("sm_70")


def test_the_present_gpu_is_asked_for(
    made: tuple[Path, Path], machine: Machine, monkeypatch: Any
) -> None:
    monkeypatch.setenv("EMULATED_GPU_SM", "89")
    assert gpu.present_arch(str(made[1])) == "sm_89"
    assert gpu.present_arch("libcuda-not-there.so.1") is None
    monkeypatch.setenv("EMULATED_GPU_INIT", "100")
    assert gpu.present_arch(str(made[1])) is None


# Several inputs


def test_each_input_goes_where_it_belongs(tmp_path: Path, monkeypatch: Any) -> None:
    shapes = ((1, 3, 5, 7), (1, 3, 5, 7), (1, 3, 5, 1))
    x, y, z = (
        relax.Var(name, relax.TensorType(shape, "float32"))
        for name, shape in zip("xyz", shapes, strict=True)
    )
    block = relax.BlockBuilder()
    with block.function("main", [x, y, z]):
        with block.dataflow():
            first = block.emit_output(relax.op.subtract(x, y))
            second = block.emit_output(relax.op.multiply(relax.op.add(y, y), z))
        block.emit_func_output(relax.Tuple([first, second]))
    rng = np.random.default_rng(1)
    given = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
    right = (given[0] - given[1], 2 * given[1] * given[2])
    outputs = gpu_networks.outputs_of(block.get(), given, right, tmp_path, monkeypatch)
    for found, expected in zip(outputs, right, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
