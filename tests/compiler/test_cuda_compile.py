"""What nvcc makes of our kernels for every target, as PTX and machine code; no GPU needed."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support import gpu_networks
from tvm import tirx

from schedules.cuda.device import device_of
from schedules.cuda.fusion import Pair
from schedules.cuda.kernel_times import KernelTimes
from schedules.cuda.workload import Convolution
from tvm_mobilenet import compile as compile_stage
from tvm_mobilenet import models, tune
from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.compiler.cuda import library, nvcc
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.compiler.precision import TOLERANCES, Precision
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.hardware import target
from tvm_mobilenet.network import source

TARGETS = [name for name in target.known() if name.startswith("cuda-")]
# both precisions where they differ most: no m16n8k16 there, and what ships first
CASES = [(name, "fp16") for name in TARGETS] + [("cuda-sm_75", "fp32"), ("cuda-sm_90", "fp32")]
CASES += [(name, "tf32") for name in TARGETS if name != "cuda-sm_75"]
PRODUCTS = {
    "separable",
    "pointwise",
    "pointwise_depthwise",
}  # in tf32 the only kernels that are not fp32's
WHOLE = ("cuda-sm_90", "fp16")  # every kernel of the network; of the others some of each kind
TAPS = 9
# of 0.25-128, which has every kind of kernel
ALPHA, RESOLUTION = 0.25, 128


@cache
def compiled(name: str, precision: str) -> library.GpuCode:
    plan, kind = gpu_networks.planned(
        gpu_networks.mobilenet(ALPHA, RESOLUTION),
        name,
        precision,
        some_of_each_pair,
        pooled=lambda *_: precision == "fp16",
    )
    if (name, precision) != WHOLE:
        functions = some_of_each_kind(plan.functions)
        if precision == "tf32":
            functions = {name: f for name, f in functions.items() if kind_of(name) in PRODUCTS}
        plan = dataclasses.replace(plan, functions=functions)
    return library.generate(plan, kind, name)


def some_of_each_kind(functions: dict[str, tirx.PrimFunc]) -> dict[str, tirx.PrimFunc]:
    """The first and the last of each kind, whose tiles differ most: nvcc takes a second for each
    kernel."""
    kinds: dict[str, list[str]] = {}
    for name in functions:
        kinds.setdefault(kind_of(name), []).append(name)
    chosen = {name for names in kinds.values() for name in (names[0], names[-1])}
    return {name: func for name, func in functions.items() if name in chosen}


def kind_of(kernel: str) -> str:
    return kernel.partition("_conv2d")[0]


def some_of_each_pair(chain: Sequence[Convolution]) -> list[Pair]:
    """So that the networks here have every kind of kernel, of large images and of small ones."""
    times = KernelTimes(device_of(target.resolve("cuda-sm_90").tvm_target()), "fp16")
    small = len(chain) - 5  # at 7 x 7 channels, then two layers alone
    pairs = [Pair(0), *(Pair(first) for first in range(6, small - 1, 2))]
    for first in (3, small):
        pairs.append(Pair(first, times.pair(*chain[first : first + 2])[1]))
    return pairs


@cache
def machine_code(name: str, precision: str, folder: Path) -> dict[str, str]:
    """SASS of each kernel. Skips without nvdisasm, which pip installs."""
    try:
        files = importlib.metadata.files("nvidia-cuda-nvdisasm") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("no nvdisasm: pip install nvidia-cuda-nvdisasm")
    tool = next(Path(str(file.locate())) for file in files if file.name == "nvdisasm")
    tool.chmod(0o755)
    cubin = folder / f"{name}-{precision}.cubin"
    cubin.write_bytes(compiled(name, precision).compiled.cubin)
    text = subprocess.run([tool, cubin], capture_output=True, text=True, check=True).stdout
    parts = re.split(r"^\.text\.(\w+):", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def ptx_of(code: library.GpuCode) -> dict[str, str]:
    parts = re.split(r"\.entry (\w+)\(", code.compiled.ptx)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.in_turns(4)
@pytest.mark.nvcc
@pytest.mark.parametrize(("name", "precision"), CASES)
def test_every_target(name: str, precision: str) -> None:
    """Nothing spills or lies in local memory; loads are 16 bytes; tensor cores where meant."""
    code = compiled(name, precision)
    arch = name.removeprefix("cuda-")
    allowed = device_of(target.resolve(name).tvm_target()).shared_bytes
    assert f".target {arch}" in code.compiled.ptx
    assert {kernel.name for kernel in code.kernels.values()} == set(code.compiled.resources)
    for kernel, used in code.compiled.resources.items():
        assert used.stack_bytes == used.spill_bytes == 0, kernel
        assert used.registers <= 255 and used.shared_bytes <= allowed, kernel
    shapes = {
        "fp16": f"m16n8k{8 if arch == 'sm_75' else 16}.row.col.f32.f16.f16.f32",
        "tf32": "m16n8k8.row.col.f32.tf32.tf32.f32",
    }
    for kernel, text in ptx_of(code).items():
        kind = kind_of(kernel)
        assert ".local" not in text, kernel
        if kind in PRODUCTS | {"depthwise"} or "dense" in kernel:
            assert re.search(r"ld\.global(\.nc)?\.v4", text), kernel
        products = kind in PRODUCTS and precision in shapes
        found = set(re.findall(r"mma\.sync\.aligned\.([\w.]+)", text))
        assert found == ({shapes[precision]} if products else set()), kernel
        assert ("cvt.rna.tf32.f32" in text) is (products and precision == "tf32"), kernel
        if kind in ("depthwise", "stem"):
            assert ".shared" not in text, kernel
        if kind == "pointwise_depthwise":
            assert len(re.findall(r"ld\.shared\.v4", text)) >= TAPS, kernel
    kinds = {kind_of(kernel) for kernel in code.kernels}
    others = set() if precision == "tf32" else {"depthwise", "stem"}
    others |= {"fp16": {"pooled_dense_4x4x256_1000"}, "fp32": {"dense_256_1000"}}.get(
        precision, set()
    )
    assert PRODUCTS | others <= kinds


@pytest.mark.nvcc
@pytest.mark.parametrize(("name", "precision"), [("cuda-sm_75", "fp16"), ("cuda-sm_90", "fp16")])
def test_machine_code(name: str, precision: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    for kernel, text in machine_code(name, precision, tmp_path_factory.getbasetemp()).items():
        kind = kind_of(kernel)
        assert "STL" not in text and "LDL" not in text, kernel
        if kind in PRODUCTS | {"depthwise"}:
            assert re.search(r"LDG\.E\.128", text), kernel
        if kind in PRODUCTS:
            assert "HMMA.16" in text and "LDSM.16.M88.4" in text, kernel


@pytest.mark.nvcc
def test_the_bundle_says_what_it_is_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a Jetson: its host's half by the cross compiler, its kernels' architecture and precision
    named."""
    flags = ["--target", "cuda-sm_87", "--alpha", "0.25", "--resolution", "32", "--allow-tf32"]
    if shutil.which("aarch64-linux-gnu-gcc") is None:
        pytest.skip("apt-get install gcc-aarch64-linux-gnu")
    assert compile_stage.main([*flags, "-o", str(tmp_path / "b")]) == 0, capsys.readouterr().err
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert manifest["target"] == {
        "name": "cuda-sm_87",
        "triple": "aarch64-linux-gnu",
        "gpu_arch": "sm_87",
    }
    assert (manifest["executor"], manifest["precision"]) == ("cuda", "tf32")
    assert "not run here: made for another GPU" in capsys.readouterr().out
    assert (tmp_path / "b" / "tolerance").read_text() == "0.01\n"
    machine = (tmp_path / "b" / "model.so").read_bytes()[18:20]
    assert machine == (183).to_bytes(2, "little"), "EM_AARCH64"


@pytest.mark.parametrize("stage", [compile_stage, tune], ids=["compile", "tune"])
@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--target", "x86-64-v3"], "precision tf32 is for GPUs"),
        (["--target", "cuda-sm_75"], "tensor cores of sm_75 do not multiply tf32; they do fp16"),
        (["--target", "cuda-sm_90", "--precision", "fp16"], "--allow-tf32 is for --precision fp32"),
    ],
)
def test_no_tf32_there(
    stage: Any, flags: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage.main([*flags, "--allow-tf32", "--alpha", "0.25", "--resolution", "32"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and says in error


@pytest.mark.parametrize("name", TARGETS)
def test_the_models_know_what_the_targets_say(name: str) -> None:
    spec = target.resolve(name)
    assert spec.gpu is not None and "fp16" in spec.gpu.tensor_cores
    device = device_of(spec.tvm_target())
    assert f"sm_{device.capability}" == spec.gpu.arch
    assert device.multiprocessors == spec.num_cores
    assert {fact: getattr(device, fact) for fact in spec.facts} == spec.facts


# Compilers that will not do, each one line


def test_no_nvcc(monkeypatch: Any) -> None:
    monkeypatch.setattr(nvcc, "NVCC", "nvcc-that-is-not-there")
    with pytest.raises(BadInput, match=r"nvcc is not installed; apt-get"):
        nvcc.check("cuda-sm_90", "sm_90")


@pytest.mark.nvcc
def test_an_old_nvcc(monkeypatch: Any) -> None:
    monkeypatch.setattr(nvcc, "installed_version", lambda: (11, 8))
    with pytest.raises(BadInput, match=r"expected nvcc 12\.0 or newer, got 11\.8"):
        nvcc.check("cuda-sm_90", "sm_90")


@pytest.mark.nvcc
def test_an_nvcc_that_does_not_know_the_architecture() -> None:
    with pytest.raises(BadInput, match="does not compile for sm_42"):
        nvcc.check("mine", "sm_42")


@pytest.mark.nvcc
def test_source_that_does_not_compile(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"nvcc cannot compile the kernels: .*error"):
        nvcc.compile_source("int f() { return nothing; }", "sm_90", tmp_path)


def test_fp16_is_for_gpus() -> None:
    with pytest.raises(BadInput, match="precision fp16 is for GPUs"):
        CompileOptions(target.resolve("x86-64-v3"), precision="fp16")


# On a GPU


@pytest.mark.gpu
@pytest.mark.nvcc
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
@pytest.mark.parametrize("batch", [1, 8, 64])
@pytest.mark.parametrize("alpha", [1.0, 0.75, 0.5, 0.25])
@pytest.mark.parametrize("resolution", [224, 192, 160, 128])
def test_on_a_gpu(
    resolution: int, alpha: float, batch: int, precision: Precision, tmp_path: Path
) -> None:
    """Building a bundle runs it, and fails where it differs too much from PyTorch."""
    network = source.from_config(models.config_from("mobilenet_v1", alpha, resolution), batch)
    options = CompileOptions(target.resolve("cuda"), precision)
    built = build_bundle(network, options, tmp_path / "b")
    assert built.difference is not None
    assert built.difference.within(TOLERANCES[precision])
