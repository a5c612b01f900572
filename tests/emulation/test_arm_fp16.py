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
from tvm_mobilenet.emulation import emulator, instruction_count
from tvm_mobilenet.hardware import target as targets
from tvm_mobilenet.network.source import from_onnx

pytestmark = pytest.mark.arm_emulator


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with a layer of every kind, for cores with arithmetic over float16."""
    folder = tmp_path_factory.mktemp("fp16")
    onnx.save_model(mobile(np.random.default_rng(3)), str(folder / "network.onnx"))
    options = CompileOptions(targets.resolve("arm-rpi5"), "fp16")
    build_bundle(from_onnx(folder / "network.onnx"), options, folder / "b")
    return folder / "b"


def test_a_layer_of_every_kind(bundle: Path) -> None:
    device = replace(emulator.find(), cpu="cortex-a76")
    with open_bundle(bundle, "aarch64") as opened:
        found = instruction_count.compute(opened, opened.sample_inputs(), device)
        right = opened.expected_outputs()
    error = max(map(numerics.relative_error, found, right))
    assert 1e-5 < error < 5e-3, "rounded, and no more than that"


def test_a_core_without_it_refuses_the_bundle(bundle: Path) -> None:
    command = [str(emulator.find().python), "-m", "tvm_mobilenet.run", str(bundle)]
    path = {"PATH": os.environ["PATH"]}
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env=path
    )
    assert result.returncode == 2
    assert "made for arm-rpi5" in result.stderr and "asimdhp" in result.stderr
    assert result.stderr.count("\n") == 1
