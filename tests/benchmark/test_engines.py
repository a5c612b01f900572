"""The real engines on a small network, each in its worker, against PyTorch's outputs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from support import foreign_onnx, near_calls, tiny_bundle

from tvm_mobilenet import models
from tvm_mobilenet.benchmark.engines import ENGINES, OURS, PEERS, networks, verify
from tvm_mobilenet.benchmark.engines.process import EngineFailed, EngineProcess, Timeouts
from tvm_mobilenet.benchmark.engines.protocol import Job

# Up to stride 8 only, since torch.compile takes its time for each block.
CONFIG = models.config_from("mobilenet_v1", alpha=0.25, resolution=32, feature_strides=(8,))
OUTPUT_SHAPE = (2, 64, 4, 4)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> networks.Network:
    """Exported in this process: to import PyTorch once more takes longer."""
    path = tmp_path_factory.mktemp("onnx") / "network.onnx"
    with near_calls.used():
        return networks.from_config(CONFIG, 2, "fp32", path)


def test_the_network_is_prepared(network: networks.Network) -> None:
    assert (network.model, network.alpha, network.resolution) == ("mobilenet_v1", 0.25, 32)
    assert [one.shape for one in network.inputs] == [(2, 3, 32, 32)]
    assert [output.shape for output in network.expected] == [OUTPUT_SHAPE]
    assert network.reference == "pytorch"


def in_turns(name: str) -> object:
    """Compiling takes torch.compile 20 s of a core: every second run has it."""
    return pytest.param(name, marks=pytest.mark.in_turns(2)) if name == "torch-compile" else name


@pytest.mark.parametrize("name", [in_turns(name) for name in PEERS])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_peer_gives_pytorchs_output(
    name: str,
    threads: int,
    network: networks.Network,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # of torch.compile, for the next kernels: here they are too few
    monkeypatch.setenv("TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS", "0")
    missing = ENGINES[name].missing()
    if missing is not None:
        pytest.skip(missing)
    if name == "torch-compile" and (shutil.which("g++") is None or threads > 1):
        pytest.skip("compiles for long, once is enough" if threads > 1 else "needs g++")
    job = Job(threads, config=network.config, onnx=network.onnx)
    with EngineProcess(ENGINES[name].path, job, tmp_path, Timeouts()) as process:
        _, version = process.load()
        assert version[0].isdigit()
        _, outputs = process.first_run(network.inputs)
        verify.check(outputs, network.expected, "fp32")
        assert min(process.run(1, 3, 1.0)) > 0
        verify.check(process.outputs(), network.expected, "fp32")


@pytest.mark.parametrize("name", [name for name in PEERS if ENGINES[name].missing() is None])
def test_a_peer_without_its_form_of_the_network(name: str, tmp_path: Path) -> None:
    with (
        EngineProcess(ENGINES[name].path, Job(1), tmp_path, Timeouts()) as process,
        pytest.raises(EngineFailed, match="needs "),
    ):
        process.load()


def test_torch_compile_without_a_compiler(
    network: networks.Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    path = ENGINES["torch-compile"].path
    with (
        EngineProcess(path, Job(1, config=network.config), tmp_path, Timeouts()) as process,
        pytest.raises(EngineFailed, match=r"no-such-compiler is not there: apt-get install g\+\+"),
    ):
        process.load()


@pytest.mark.parametrize("two_outputs", [False, True])
def test_a_bundle(two_outputs: bool, tmp_path: Path) -> None:
    path = tmp_path / "tiny.tar"
    library = tiny_bundle.classifier(two_outputs=two_outputs)
    tiny_bundle.write(path, library, two_outputs=two_outputs)
    x = tiny_bundle.sample_input()
    expected = [tiny_bundle.reference(x), 2 * x][: 1 + two_outputs]
    with EngineProcess(ENGINES[OURS].path, Job(1, bundle=path), tmp_path, Timeouts()) as process:
        _, version = process.load()
        assert version.startswith("tvm 0.")
        _, outputs = process.first_run([x])
        verify.check(outputs, expected, "fp32")
        process.run(1, 3, 1.0)
        verify.check(process.outputs(), expected, "fp32")


def test_an_onnx_file_is_its_own_reference(network: networks.Network) -> None:
    if ENGINES["onnxruntime"].missing() is not None:
        pytest.skip("needs onnxruntime: pip install 'tvm-mobilenet[bench]'")
    wrong = tuple(np.zeros_like(output) for output in network.expected)
    again = networks.from_onnx(network.onnx, "file", network.inputs, wrong, "fp32", 32)
    assert (again.model, again.alpha, again.resolution, again.batch) == ("file", None, 32, 2)
    assert again.reference == "onnxruntime"
    verify.check(again.expected, network.expected, "fp32")


def test_without_an_onnx_file_the_bundle_is_the_reference(network: networks.Network) -> None:
    alone = networks.from_onnx(None, "file", network.inputs, network.expected, "fp32", 32)
    assert alone.reference == "expected_output"
    assert alone.expected is network.expected


def test_engines_get_the_sizes_that_a_file_leaves_open(tmp_path: Path) -> None:
    relu = onnx.helper.make_node("Relu", ["x"], ["y"])
    made = foreign_onnx.network({"x": ("N", 3, "H", "W")}, [relu], {"y": foreign_onnx.FLOAT})
    path = foreign_onnx.save(made, tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    fixed = networks.with_fixed_sizes(path, [(2, 3, 5, 4)], scratch)
    (output,) = onnx.load_model(str(fixed)).graph.output
    assert [dim.dim_value for dim in output.type.tensor_type.shape.dim] == [2, 3, 5, 4]
    assert networks.with_fixed_sizes(fixed, [(2, 3, 5, 4)], scratch) == fixed
