"""Which kernels over integers an ARM target gets."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from support.quantized_networks import small_network

from tvm_mobilenet.compiler import pipeline
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.hardware import target
from tvm_mobilenet.kernels.cpu.attributes import IN_FIXED_POINT
from tvm_mobilenet.network.source import from_onnx


@pytest.mark.parametrize("name", ["arm-rpi4", "arm-rpi5", "arm-graviton3", "arm-rpi2-armv7"])
def test_bytes_are_made_without_floats(name: str, tmp_path: Path) -> None:
    file = tmp_path / "network.onnx"
    onnx.save_model(small_network(), str(file))
    options = CompileOptions(target.resolve(name))
    kernels = pipeline.kernels_of(from_onnx(file).relax_module(), options)
    convolutions = [one for one in kernels if "conv2d" in one.name]
    # the others' results are limited, to other integers than bytes are
    assert any(IN_FIXED_POINT in one.func.attrs for one in convolutions)
