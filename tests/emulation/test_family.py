"""Networks of the whole family on emulated ARM cores: right numbers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx
import pytest
from support.family_network import SHAPE, Family
from support.static_programs import seeded

from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.bundle import open_bundle
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.emulation import emulator, instruction_count
from tvm_mobilenet.hardware import target
from tvm_mobilenet.network import onnx_export, source
from tvm_mobilenet.numerics import relative_error

pytestmark = pytest.mark.arm_emulator


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("family") / "family.onnx"
    onnx.save(onnx_export.export(seeded(Family()), SHAPE), file)
    return file


@pytest.mark.in_turns(3)
@pytest.mark.parametrize(
    ("name", "core"),
    [("arm-rpi3", "cortex-a53"), ("arm-rpi4", "cortex-a72"), ("arm-graviton3", "max")],
)
def test_everything_the_family_uses(name: str, core: str, network: Path, tmp_path: Path) -> None:
    options = CompileOptions(target.resolve(name))
    built = build_bundle(source.from_onnx(network), options, tmp_path / "bundle")
    with open_bundle(built.path, "aarch64") as bundle:
        device = dataclasses.replace(emulator.find(), cpu=core)
        (found,) = instruction_count.compute(bundle, bundle.sample_inputs(), device)
        (wanted,) = bundle.expected_outputs()
    assert relative_error(found, wanted) < 1e-5
