"""The other executor: Relax's virtual machine over the same kernels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support.static_programs import seeded
from torch import nn
from tvm import relax

from tvm_mobilenet import bench, compile, models
from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.bundle import open_bundle
from tvm_mobilenet.compiler.options import CompileOptions, Executor
from tvm_mobilenet.compiler.pipeline import compile_network
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import target
from tvm_mobilenet.network import onnx_export, source
from tvm_mobilenet.remote.session import check_executor
from tvm_mobilenet.runtime.session import load

SMALL = models.config_from("mobilenet_v1", 0.25, 32)
SHAPE = (1, 8, 6, 6)


class Attention(nn.Module):
    """Operators without a kernel of ours: parts of a tensor, products of two, softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 24, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = torch.split(torch.relu(self.conv(x)).flatten(2), 8, dim=1)
        weights: torch.Tensor = torch.softmax(query @ key.transpose(1, 2), dim=-1)
        return weights @ value


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vm") / "small"
    spec = target.resolve("x86")
    build_bundle(source.from_config(SMALL), CompileOptions(spec, executor="vm"), path)
    return path


@pytest.mark.parametrize("threads", [1, 2])
def test_it_computes_the_network(bundle: Path, threads: int, rng: np.random.Generator) -> None:
    reference = models.build(SMALL)
    with load(bundle, threads) as session:
        assert session.manifest.executor == "vm"
        for _ in range(3):  # memory that it gave back is used again
            x = rng.standard_normal((1, 3, 32, 32), dtype=np.float32)
            with torch.inference_mode():
                wanted = reference(torch.from_numpy(x)).numpy()
            found = session.run(x)
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_the_manifest_of_a_vm_bundle_lists_every_kernel(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        layers = opened.manifest.layers
    assert layers[0].workload == "stem_conv2d_16x16x8_s2"
    assert all(layer.flops > 0 and layer.nbytes > 0 for layer in layers)


@pytest.mark.parametrize("executor", ["static", "vm"])
def test_operators_without_a_kernel(
    executor: Executor, tmp_path: Path, rng: np.random.Generator
) -> None:
    network = seeded(Attention())
    file = tmp_path / "attention.onnx"
    onnx.save(onnx_export.export(network, SHAPE), file)
    options = CompileOptions(target.resolve("x86"), executor=executor)
    build_bundle(source.from_onnx(file), options, tmp_path / "attention")
    x = rng.standard_normal(SHAPE, dtype=np.float32)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(x)).numpy()
    for threads in (1, 2):
        with load(tmp_path / "attention", threads) as session:
            np.testing.assert_allclose(session.run(x), wanted, rtol=1e-4, atol=1e-4)


def test_the_static_executor_refuses_functions_of_others() -> None:
    x = relax.Var("x", relax.TensorType(SHAPE, "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            result = builder.emit(relax.call_dps_packed("somebodys", [x], out_ty=x.ty))
            output = builder.emit_output(result)
        builder.emit_func_output(output)
    with pytest.raises(BadInput, match=r"cannot run relax\.call_dps_packed; compile with --exec"):
        compile_network(builder.finalize(), CompileOptions(target.resolve("x86")))


def test_a_profile_needs_the_static_executor(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(["--profile", str(bundle)]) == 2
    error = capsys.readouterr().err
    assert "on a CPU; compile it with --executor static" in error
    assert error.count("\n") == 1


def test_a_device_over_rpc_needs_the_static_executor(bundle: Path) -> None:
    with open_bundle(bundle) as opened, pytest.raises(BadInput, match="--executor static"):
        check_executor(opened)


def test_a_gpu_has_its_graph(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--target", "cuda-sm_80", "--executor", "vm", "-o", str(tmp_path / "m")]
    assert compile.main(arguments) == 2
    assert "leave out --executor" in capsys.readouterr().err
