"""A GPU's bundle from C: the header that a CPU's has, and NVIDIA's driver behind it."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support import cuda_emulator, gpu_networks
from support.c_programs import EXAMPLES, FAULTS, WARNINGS, check_faults, damaged, output_of

from tvm_mobilenet import bundle
from tvm_mobilenet.compiler.precision import TOLERANCES
from tvm_mobilenet.hardware import gpu, target
from tvm_mobilenet.library.description import Network
from tvm_mobilenet.library.gpu_package import write_gpu_package
from tvm_mobilenet.models.normalisation import IMAGENET
from tvm_mobilenet.runtime import session

EXPORTED = {
    "create", "default_threads", "destroy", "info", "input", "last_error", "output", "pool_create",
    "pool_destroy", "pool_parallel", "run", "status_text", "threads", "weights_close",
    "weights_from_memory", "weights_open", "workspace_bytes",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle for sm_86, and the folder of the emulated driver that runs its kernels."""
    folder = tmp_path_factory.mktemp("gpu")
    network = gpu_networks.mobilenet(0.25, 32)
    x = np.random.default_rng(0).standard_normal(network.input_shape, dtype=np.float32)
    code = gpu_networks.emulated(*gpu_networks.planned(network, "cuda-sm_86", "fp32"), folder)
    about = gpu_networks.manifest_of(code, network, "fp32")
    image = dataclasses.replace(about.inputs[0], normalisation=IMAGENET, channel_order="rgb")
    about = dataclasses.replace(about, name="classifier", inputs=(image,))
    weights = code.program.parameters
    files = write_gpu_package(
        Network(about, weights, scratch_bytes=0, most_threads=1),
        code,
        folder / "model.so",
        target.resolve("cuda-sm_86"),
    )
    bundle.write(
        folder / "bundle",
        about,
        library=folder / "model.so",
        parameters=np.frombuffer(weights, np.uint8),
        sample_inputs=[x],
        expected_outputs=(network.reference(x).astype(np.float32),),
        tolerance=TOLERANCES["fp32"],
        licenses="none",
        package=files,
    )
    driver = folder / "driver"
    driver.mkdir()
    (driver / gpu.DRIVER).symlink_to(folder / cuda_emulator.LIBRARY)
    return folder / "bundle", driver


def build(program: Path, made: Path, folder: Path) -> Path:
    flags = (*WARNINGS, "-std=c99", f"-I{made}", f"-L{made}/lib", f"-Wl,-rpath,{made}/lib")
    output_of("gcc", *flags, program, "-o", folder / program.stem, "-lclassifier", "-lm")
    return folder / program.stem


@pytest.fixture(scope="module")
def classify(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The example, unchanged, and what it is told."""
    folder = tmp_path_factory.mktemp("classify")
    pixels = np.random.default_rng(3).integers(0, 256, (32, 32, 3), np.uint8)
    (folder / "image.ppm").write_bytes(b"P6\n32 32\n255\n" + pixels.tobytes())
    program = build(EXAMPLES / "classify.c", made[0], folder)
    return [program, made[0] / "parameters.bin", folder / "image.ppm"]


def test_classify_an_image(
    classify: list[Path], made: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = output_of(*classify, LD_LIBRARY_PATH=str(made[1]))
    pixels = np.frombuffer(classify[2].read_bytes()[-32 * 32 * 3 :], np.uint8).reshape(32, 32, 3)
    values = (pixels * IMAGENET.scale - np.array(IMAGENET.mean)) / np.array(IMAGENET.std)
    driver = made[1] / gpu.DRIVER
    with gpu_networks.emulated_gpu(monkeypatch, driver), session.load(made[0]) as loaded:
        scores = np.asarray(loaded.run(values.transpose(2, 0, 1)[None].astype(np.float32)))
    found = re.fullmatch(r"class (\d+), score (\S+)\n", printed)
    assert found is not None and int(found[1]) == scores.argmax()
    assert float(found[2]) == pytest.approx(scores.max(), rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"LD_LIBRARY_PATH": "/nowhere"}, "this machine has no NVIDIA driver"),
        ({"EMULATED_GPU_INIT": "100"}, "driver does not start: no CUDA-capable device"),
        ({"EMULATED_GPU_SM": "80"}, "made for sm_86, this GPU (Emulated GPU) is sm_80"),
        ({"EMULATED_GPU_MEMORY": "1000"}, "bytes of weights and workspace: out of memory"),
    ],
    ids=["no driver", "no GPU", "older GPU", "out of memory"],
)
def test_wrong_machines(
    settings: dict[str, str], says: str, classify: list[Path], made: tuple[Path, Path]
) -> None:
    environment = {"LD_LIBRARY_PATH": str(made[1]), **settings}
    done = subprocess.run(classify, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("create: ") and says in done.stderr


def test_faults_are_those_of_a_cpu(made: tuple[Path, Path], tmp_path: Path) -> None:
    """But for the caller's threads, which are never called, so that nothing runs meanwhile."""
    weights = made[0] / "parameters.bin"
    program = build(FAULTS, made[0], tmp_path)
    printed = output_of(program, weights, *damaged(weights, tmp_path), LD_LIBRARY_PATH=str(made[1]))
    assert "a context at work: 1 0\n" in printed
    check_faults(printed.replace("a context at work: 1 0", "a context at work: 1 9"))


def test_what_it_exports(made: tuple[Path, Path]) -> None:
    """Its header's functions, and those of host.c that ``bench`` and ``tune`` call."""
    symbols = output_of("nm", "-D", "--defined-only", made[0] / "lib/libclassifier.so")
    names = {line.split()[-1] for line in symbols.splitlines()}
    others = {name for name in names if not name.startswith("classifier_")}
    assert {name.removeprefix("classifier_") for name in names - others} == EXPORTED
    assert all(name.startswith("tvm_mobilenet_") for name in others)
    header = (made[0] / "classifier.h").read_text()
    assert set(re.findall(r"\bclassifier_(\w+)\(", header)) == EXPORTED
