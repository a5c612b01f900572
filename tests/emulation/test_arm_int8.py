"""int8 on emulated ARM cores: what comes out, by which instructions, and how many of them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.quantized_layers import CASES, side_by_side
from support.quantized_networks import small_network

from tvm_mobilenet.benchmark.places.emulated_core import find_emulator
from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.bundle import Bundle, open_bundle
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.emulation import emulator, instruction_count
from tvm_mobilenet.hardware import target as targets
from tvm_mobilenet.network.source import from_onnx

pytestmark = pytest.mark.arm_emulator

# each with instructions of its own
TARGETS = ("arm-rpi4", "arm-rpi5", "arm-graviton3", "arm-rpi2-armv7")
SHARES = 8  # a core is given one in so many layers; which, takes turns
# of all results: two ways to round to the nearest integer take different ones as rarely as this
DIFFERENT = 0.01
# and where one that differs is a factor of a whole channel
OF_CHANNELS = 0.2


def bundle_of(model: onnx.ModelProto, name: str, folder: Path) -> Path:
    file, path = folder / "network.onnx", folder / name
    onnx.save_model(model, str(file))
    build_bundle(from_onnx(file), CompileOptions(targets.resolve(name)), path)
    return path


@contextlib.contextmanager
def opened(path: Path, name: str) -> Iterator[tuple[Bundle, tuple[np.ndarray, ...]]]:
    """A bundle, and what its core computes, which has the bundle's instructions and no more."""
    device = find_emulator([name])
    with open_bundle(path, device.architecture) as bundle:
        yield bundle, instruction_count.compute(bundle, bundle.sample_inputs(), device)


@pytest.mark.parametrize("name", TARGETS)
def test_layers_give_the_right_integers_or_the_next(
    name: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    turn = pytestconfig.option.seed + TARGETS.index(name)
    cases = list(CASES)[turn % SHARES :: SHARES]
    model, scales = side_by_side(cases)
    with opened(bundle_of(model, name, tmp_path), name) as (bundle, found):
        right = bundle.expected_outputs()
    for case, one, other, scale in zip(cases, found, right, scales, strict=True):
        integers = np.rint((one - other) / scale)
        different = OF_CHANNELS if case == "squeeze-excite" else DIFFERENT
        assert np.abs(integers).max() <= 1, case
        assert np.count_nonzero(integers) <= max(1, different * integers.size), case


@pytest.mark.in_turns(4)
@pytest.mark.parametrize("name", TARGETS)
def test_a_network(name: str, tmp_path: Path) -> None:
    with opened(bundle_of(small_network(), name, tmp_path), name) as (bundle, (found,)):
        assert bundle.manifest.precision == "int8"
        kernels = [layer.workload for layer in bundle.manifest.layers]
        assert sum(one.startswith("quantized_") for one in kernels) == 5
        (right,) = bundle.expected_outputs()
    assert np.linalg.norm(found - right) <= 1e-2 * np.linalg.norm(right)


def test_a_core_without_dot_products_refuses_them(tmp_path: Path) -> None:
    path = bundle_of(small_network(), "arm-rpi5", tmp_path)
    command = [str(emulator.find().python), "-m", "tvm_mobilenet.run", str(path)]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert result.returncode == 2
    assert "made for arm-rpi5" in result.stderr and "asimddp" in result.stderr
    assert result.stderr.count("\n") == 1
