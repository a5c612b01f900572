"""Fixtures that several test files share, and the markers that ask for hardware."""

from __future__ import annotations

import contextlib
import gc
import os
import secrets
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import numpy.typing as npt
import pytest
from support import (
    kept_runtime,
    kept_torch,
    leftovers,
    shared,
    torch_exporter,
    turns,
    warm_children,
)

from tvm_mobilenet import models
from tvm_mobilenet.compiler.cuda import nvcc
from tvm_mobilenet.emulation import emulator
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import cpu, gpu
from tvm_mobilenet.models import MobileNetConfig
from tvm_mobilenet.network import onnx_export, source

if TYPE_CHECKING:
    import onnx
    from torch import nn

REPOSITORY = Path(__file__).parent.parent

TIMEOUT_S = 240  # of a process, on a loaded machine too

# A loaded machine may take any time for one example.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

# Under nohup it is ignored, here and in every process that a test starts.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Of torch, whose idle threads spin on cores that other tests need.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where exported networks are kept: not among the user's.
os.environ["XDG_CACHE_HOME"] = str(REPOSITORY / "build" / "cache")

# Files that take longest, in this order. They go first, that no core waits for the last of them.
LONG_FILES = (
    "test_docs.py",
    "test_arm_emulator.py",
    "test_raspberry_pi.py",
    "test_farm.py",
    "test_schedules_arm.py",
    "test_schedules_x86.py",
    "test_digits.py",
    "test_cuda_numerics.py",
    "test_gpu_farm.py",
    "test_device_faults.py",
    "test_variants.py",
    "test_bench.py",
    "test_tuner.py",
    "test_graph_rewrites.py",
    "test_cuda_compile.py",
    "test_measure_gpu.py",
    "test_rewritten_images.py",
    "test_examples.py",
    "test_published_networks.py",
    "test_legalize.py",
    "test_arm_int8.py",
    "test_arm_tuning.py",
    "test_tune.py",
    "test_compile.py",
    "test_signals.py",
    "test_engines.py",
    "test_keras_weights.py",
    "test_reference.py",
    "test_c_library.py",
    "test_trained.py",
    "test_head_bundles.py",
    "test_measure.py",
    "test_quantized_networks.py",
    "test_tiles.py",
    "test_torch_process.py",
    "test_board.py",
    "test_cuda_study.py",
    "test_own_networks.py",
    "test_bad_weights.py",
    "test_functions.py",
    "test_core_model.py",
    "test_int8.py",
    "test_pipeline.py",
)

# What ``isa(name)`` asks for, in the names of /proc/cpuinfo; any other name stands for itself.
ISA_FEATURES = {
    "avx2": ("avx2", "fma"),
    "avx512": ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
    "neon": ("asimd",),
}
WHERE_TO_GET_X86 = (
    "AMD since Zen 4 and Intel servers since Skylake-SP have AVX-512; in the cloud, AWS m7a or m7i"
)
WHERE_TO_GET_ARM = "run on a 64-bit ARM board or cloud machine"
WHERE_TO_GET_GPU = (
    "no NVIDIA GPU or no driver (libcuda) here: run on a machine with an NVIDIA T4 or newer"
)
WHERE_TO_GET_EMULATOR = (
    "apt-get install qemu-user gcc-aarch64-linux-gnu, then make arm-emulator (Debian; 20 s)"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="accept what comes out as the golden files"
    )
    parser.addoption(
        "--seed", type=int, help="seed of the tests' random inputs (default: another every time)"
    )


def pytest_configure(config: pytest.Config) -> None:
    # Started in a script's background, this process ignores Ctrl-C and so would all it starts;
    # what it handles, they have as the system's default again.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):  # one of pytest-xdist's: all collect the same tests
        config.option.seed = config.workerinput["seed"]
    if config.option.seed is None:
        config.option.seed = secrets.randbits(32)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["seed"] = node.config.option.seed


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = turns.others(items, config.option.seed)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    missing = [name for name in LONG_FILES if not list(REPOSITORY.glob(f"tests/*/{name}"))]
    assert not missing, f"LONG_FILES names files that are gone: {', '.join(missing)}"
    rank = {name: place for place, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def pytest_collection_finish() -> None:
    # What was imported stays: not looked through again after every few hundred objects.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def pytest_report_header(config: pytest.Config) -> str:
    return f"random inputs: repeat with --seed {config.option.seed}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("isa"):
        (name,) = marker.args
        wanted = ISA_FEATURES.get(name, (name,))
        missing = [feature for feature in wanted if feature not in cpu.host_features()]
        if missing:
            advice = WHERE_TO_GET_ARM if name == "neon" else WHERE_TO_GET_X86
            pytest.skip(f"{cpu.host_model()} has no {', '.join(missing)}: {advice}")
    if item.get_closest_marker("gpu") and gpu.present_arch() is None:
        pytest.skip(WHERE_TO_GET_GPU)
    if item.get_closest_marker("nvcc") and shutil.which("nvcc") is None:
        pytest.skip(f"no nvcc: {nvcc.WHERE_TO_GET}")
    if item.get_closest_marker("arm_emulator"):
        try:
            emulator.find()
        except BadInput as error:
            pytest.skip(f"{error}: {WHERE_TO_GET_EMULATOR}")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    found = item.config.stash.get(leftovers.KEY, None)
    if found is not None:  # where no test but skipped ones was set up, there is none
        found.look(item.nodeid)


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[None]:
    """Of all that tests do and start; by the end of the run nothing may be left there."""
    base = tmp_path_factory.getbasetemp()
    folder = tmp_path_factory.mktemp("temporary", numbered=False)
    found = request.config.stash[leftovers.KEY] = leftovers.Leftovers(folder)
    with leftovers.temporary_folder(folder), pytest.MonkeyPatch.context() as patch:
        of_the_run = base.parent if hasattr(request.config, "workerinput") else base
        patch.setenv(shared.FOLDER, str(of_the_run / "shared"))
        shared.folder().mkdir(exist_ok=True)
        yield
        assert found.found() == [], f"left in the temporary folder, {folder}"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Random numbers of this test's own: the same whatever tests run beside it."""
    return np.random.default_rng(
        [request.config.option.seed, zlib.crc32(request.node.name.encode())]
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the file of that name in golden/; --update-golden accepts the text."""

    def check(name: str, text: str) -> None:
        path = REPOSITORY / "tests" / "golden" / name
        if request.config.option.update_golden:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"{path} is missing: pytest --update-golden writes it"
        wanted = path.read_text(encoding="utf-8")
        assert text == wanted, f"{path.name} changed; where that is meant: pytest --update-golden"

    return check


@pytest.fixture
def images() -> Callable[[MobileNetConfig, int], npt.NDArray[np.float32]]:
    """Random images (batch, 3, R, R) of mean 0 and variance 1, for a configuration."""

    def make(config: MobileNetConfig, batch: int = 1) -> npt.NDArray[np.float32]:
        rng = np.random.default_rng(20170417)
        return rng.standard_normal((batch, *config.input_shape), dtype=np.float32)

    return make


@pytest.fixture(scope="session")
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run this Python in the repository's root, in a fresh process; output captured as text."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    return run


@pytest.fixture(scope="session", autouse=True)
def quick_exports() -> Iterator[None]:
    """Networks that tests export in this process; torch is imported by the first only."""
    export = onnx_export.export

    def export_quickly(*arguments: Any, **named: Any) -> onnx.ModelProto:
        torch_exporter.keep_operators()
        return export(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "export", export_quickly)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_torch(temporary_folder: None) -> Iterator[None]:
    """For all networks of ours that tests compile in this process."""
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(kept_torch.KeptTorch()) as kept:
        patch.setattr(source, "TorchProcess", kept)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_runtime() -> Iterator[None]:
    """In C, for all libraries of one name that tests build in this process."""
    with kept_runtime.used():
        yield


@pytest.fixture(scope="module")
def warm_workers() -> Iterator[None]:
    """The tuner's workers of this file's tests have imported TVM already."""
    with warm_children.used():
        yield


@pytest.fixture(scope="session")
def small_config() -> MobileNetConfig:
    """The smallest variant that still has every kind of layer."""
    return models.config_from("mobilenet_v1", alpha=0.25, resolution=32)


@pytest.fixture(scope="session")
def small_network(small_config: MobileNetConfig) -> nn.Module:
    return models.build(small_config)


@pytest.fixture(scope="session")
def small_onnx(small_config: MobileNetConfig, small_network: nn.Module) -> onnx.ModelProto:
    """The small network for a batch of one."""
    return onnx_export.export(small_network, (1, *small_config.input_shape))
