"""float16 on emulated ARM cores: what comes out, and which cores refuse it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.float_networks import mobile

from tvm_mobilenet import numerics
from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.bundle import open_bundle
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.compiler.precision import Precision
from tvm_mobilenet.emulation import emulator, instruction_count
from tvm_mobilenet.hardware import target as targets
from tvm_mobilenet.models import config_from
from tvm_mobilenet.network.source import Source, from_config, from_onnx

pytestmark = pytest.mark.arm_emulator


def bundle_of(source: Source, precision: Precision, folder: Path) -> Path:
    path = folder / precision
    build_bundle(source, CompileOptions(targets.resolve("arm-rpi5"), precision), path)
    return path


def count(path: Path) -> tuple[int, float]:
    """Instructions on a Cortex-A76, and how far its result is from the reference."""
    device = replace(emulator.find(), cpu="cortex-a76")
    with open_bundle(path, "aarch64") as bundle:
        counted = instruction_count.count(bundle, bundle.sample_inputs(), device)
        right = bundle.expected_outputs()
        error = max(map(numerics.relative_error, counted.outputs, right))
        assert error <= bundle.tolerance()
    return counted.instructions, error


def test_a_layer_of_every_kind(tmp_path: Path) -> None:
    onnx.save_model(mobile(np.random.default_rng(3)), str(tmp_path / "network.onnx"))
    _, error = count(bundle_of(from_onnx(tmp_path / "network.onnx"), "fp16", tmp_path))
    assert 1e-5 < error < 5e-3, "rounded, and no more than that"


def test_half_the_instructions_and_who_refuses_them(tmp_path: Path) -> None:
    source = from_config(config_from("mobilenet_v1", alpha=0.25, resolution=64))
    halves = bundle_of(source, "fp16", tmp_path)
    (fewer, _), (more, exact) = count(halves), count(bundle_of(source, "fp32", tmp_path))
    assert fewer < 0.65 * more
    assert exact < 1e-5
    command = [str(emulator.find().python), "-m", "tvm_mobilenet.run", str(halves)]
    path = {"PATH": os.environ["PATH"]}
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env=path
    )
    assert result.returncode == 2
    assert "made for arm-rpi5" in result.stderr and "asimdhp" in result.stderr
    assert result.stderr.count("\n") == 1
