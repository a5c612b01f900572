"""Networks of the whole family on emulated ARM cores: right numbers."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from support.family_network import SHAPE, Family
from support.static_programs import seeded

from tvm_mobilenet.benchmark.places.emulated_core import find_emulator
from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.bundle import open_bundle
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.emulation import instruction_count
from tvm_mobilenet.hardware import target
from tvm_mobilenet.network import onnx_export, source
from tvm_mobilenet.numerics import relative_error

pytestmark = pytest.mark.arm_emulator


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("family") / "family.onnx"
    onnx.save(onnx_export.export(seeded(Family()), SHAPE), file)
    return file


@pytest.mark.in_turns(4)
@pytest.mark.parametrize("name", ["arm-rpi3", "arm-rpi4", "arm-graviton3", "arm-rpi2-armv7"])
def test_everything_the_family_uses(name: str, network: Path, tmp_path: Path) -> None:
    options = CompileOptions(target.resolve(name))
    built = build_bundle(source.from_onnx(network), options, tmp_path / "bundle")
    device = find_emulator([name])
    with open_bundle(built.path, device.architecture) as bundle:
        (found,) = instruction_count.compute(bundle, bundle.sample_inputs(), device)
        (wanted,) = bundle.expected_outputs()
    assert relative_error(found, wanted) < 1e-5
