"""Quantized networks by the virtual machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.quantized_networks import small_network

from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.compiler.options import CompileOptions, Executor
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
