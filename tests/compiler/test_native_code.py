"""A network in parts computes what it does as one module, and is the same on any machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support import float_networks

from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.compiler.cpu import native_code
from tvm_mobilenet.compiler.cpu.lowering import lower_module
from tvm_mobilenet.compiler.cpu.static_program import make_static
from tvm_mobilenet.compiler.graph.legalize_cpu import CpuKernels, legalize
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.compiler.pipeline import lower_graph, schedule_kernels
from tvm_mobilenet.hardware import target
from tvm_mobilenet.network import relax_import, source
from tvm_mobilenet.runtime.session import load

EXPORTED = {"infer", "profile", "fma_peak", "stream_read"}


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five kernels: three parts of at most two, beside the network's own."""
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    onnx.save_model(float_networks.separable(), str(path))
    return path


def build(file: Path, output: Path) -> bytes:
    """The library of a bundle that was compiled, and ran."""
    built = build_bundle(source.from_onnx(file), CompileOptions(target.resolve("x86")), output)
    assert built.difference is not None, "it ran here"
    return (output / "model.so").read_bytes()


def test_parts_compute_what_the_whole_does(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(small_file, tmp_path / "whole")
    monkeypatch.setattr(native_code, "PART_KERNELS", 2)
    build(small_file, tmp_path / "parts")
    results = []
    for name in ("whole", "parts"):
        for threads in (1, 2):
            with load(tmp_path / name, threads) as session:
                results.append(session.run(session.bundle.sample_input()))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_the_number_of_cores_changes_nothing(
    small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_code, "PART_KERNELS", 2)
    libraries = []
    for cores in (1, 3):
        monkeypatch.setattr(native_code, "usable_cores", lambda cores=cores: tuple(range(cores)))
        libraries.append(build(small_file, tmp_path / "bundle"))
    assert libraries[0] == libraries[1]


def test_every_kernel_is_in_one_part(
    small_onnx: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = target.resolve("x86-64-v3")
    machine = spec.tvm_target()
    module = relax_import.import_onnx(small_onnx)
    kernels_alone = lower_graph(module, legalize(CpuKernels(spec.vector_width)))
    scheduled, _ = schedule_kernels(kernels_alone, machine)
    program = make_static(scheduled, spec.vector_width)
    lowered = lower_module(program.module, machine)
    assert native_code.split(lowered) == [lowered], "few kernels are one part"

    kernels = {call.kernel for call in program.calls}
    monkeypatch.setattr(native_code, "PART_KERNELS", 4)
    first, *others = (
        [gvar.name_hint for gvar in part.functions] for part in native_code.split(lowered)
    )
    assert set(first) == EXPORTED | {"network", "claim"}
    assert len(others) == -(-len(kernels) // 4)
    assert sorted(name for part in others for name in part) == sorted(kernels)
    assert max(map(len, others)) <= 4
