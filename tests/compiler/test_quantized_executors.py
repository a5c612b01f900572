"""Quantized networks by the virtual machine, and where no kernel over integers is scheduled."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.quantized_networks import small_network

from tvm_mobilenet.api import build_bundle
from tvm_mobilenet.bundle import open_bundle
from tvm_mobilenet.compiler.options import CompileOptions, Executor
from tvm_mobilenet.emulation import emulator, instruction_count
from tvm_mobilenet.hardware import target
from tvm_mobilenet.network import source
from tvm_mobilenet.runtime.session import load


@pytest.mark.parametrize("batch", [1, 3])
def test_both_executors_give_the_same(batch: int, tmp_path: Path, rng: np.random.Generator) -> None:
    file = tmp_path / "network.onnx"
    onnx.save(small_network(batch), file)
    x = rng.standard_normal((batch, 3, 32, 32), dtype=np.float32)
    results = []
    executors: tuple[Executor, ...] = ("vm", "static")
    for executor in executors:
        options = CompileOptions(target.resolve("x86"), executor=executor)
        built = build_bundle(source.from_onnx(file), options, tmp_path / executor)
        with load(built.path) as session:
            results.append(np.array(session.run(x)))
            layers = [one for one in session.manifest.layers if "quantized" in one.workload]
            # of each result's sum, without what fills up steps of four bytes
            multiply_adds = (16 * 9 * 3, 32 * 16, 32 * 9, 16 * 32)
            assert [one.flops for one in layers] == [
                *(2 * batch * 16 * 16 * one for one in multiply_adds),
                2 * batch * 16 * 10,
            ]
    by_vm, by_static = results
    np.testing.assert_array_equal(by_vm, by_static)


@pytest.mark.arm_emulator
def test_on_arm_float_kernels_compute_between_integers(tmp_path: Path) -> None:
    file = tmp_path / "network.onnx"
    onnx.save(small_network(), file)
    options = CompileOptions(target.resolve("arm-rpi4"))
    built = build_bundle(source.from_onnx(file), options, tmp_path / "bundle")
    with open_bundle(built.path, "aarch64") as bundle:
        device = dataclasses.replace(emulator.find(), cpu="cortex-a72")
        counted = instruction_count.count(bundle, bundle.sample_inputs(), device)
        (right,) = bundle.expected_outputs()
        assert not any("quantized" in one.workload for one in bundle.manifest.layers)
    (found,) = counted.outputs
    # the last layer's sums see an integer that was rounded the other way
    assert np.abs(found - right).max() < 0.02 * np.abs(right).max()
    assert found.argmax() == right.argmax()
