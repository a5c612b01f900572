"""Bundles for CPUs with AMX: whole, by the C library and in its threads; refused in one line
elsewhere. Where the CPU has no AMX, its instructions are emulated.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.float_networks import mobile
from support.tile_cases import HAS_TILES, spec_that_runs, tile_unit, tiles

import tvm_mobilenet
from tvm_mobilenet import compile
from tvm_mobilenet.benchmark.profile.layers import profile, to_json
from tvm_mobilenet.benchmark.profile.local import LocalNetwork
from tvm_mobilenet.bundle import open_bundle
from tvm_mobilenet.emulation.tile_unit import TILES
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.hardware import cpu
from tvm_mobilenet.provenance import describe_machine, now
from tvm_mobilenet.results import profiles
from tvm_mobilenet.runtime import library

KINDS = ("fma", "bf16", "bf16_tiles")  # of what a network in bf16 is computed by
# what there is with AMX, and no more than this CPU has beside it
TARGET = """# A CPU with AMX, as far as its code runs where that is emulated.
[target]
kind = "llvm"
mcpu = "{mcpu}"
keys = ["x86", "cpu"]
mtriple = "x86_64-linux-gnu"
mattr = [{without}]

[device]
name = "emulated tiles"
cores = 2
vector_width = 16
cpu_features = [{features}]
"""


def compiled(target_file: str, folder: Path, rng: np.random.Generator, executor: str) -> Path:
    """A bundle in bf16; where this machine can, it has been run and held against its reference."""
    onnx.save_model(mobile(rng), folder / "network.onnx")
    what = ("--onnx", str(folder / "network.onnx"), "--precision", "bf16", "--target", target_file)
    assert compile.main([*what, "--executor", executor, "-o", str(folder / "b")]) == 0
    return folder / "b"


def quoted(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}"' for name in names)


@pytest.fixture
def target_file(tmp_path: Path) -> str:
    spec = spec_that_runs()
    without = quoted(tuple(spec.target.get("mattr", ())))
    features = quoted(spec.cpu_features)
    text = TARGET.format(mcpu=spec.target["mcpu"], without=without, features=features)
    (tmp_path / "tiles.toml").write_text(text, encoding="utf-8")
    return str(tmp_path / "tiles.toml")


@pytest.fixture
def emulated(target_file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This CPU says that it has AMX, and the C library believes it."""
    if not HAS_TILES:
        found = cpu.host_features() | TILES
        monkeypatch.setattr(cpu, "host_features", lambda: found)
        monkeypatch.setattr(cpu, "permit_tiles", lambda: True)
        anyway = functools.partial(library.Options, any_cpu=1)
        monkeypatch.setattr(library, "Options", anyway)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("executor", ["static", "vm"])
def test_a_bundle(
    target_file: str,
    tmp_path: Path,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    executor: str,
) -> None:
    x = rng.standard_normal((1, 8, 8, 8), dtype=np.float32)
    # compiling runs the bundle and holds it against its reference
    with tiles():
        path = compiled(target_file, tmp_path, rng, executor)
        manifest = open_bundle(path).manifest
        assert set(manifest.cpu_features) >= TILES
        assert any("_tiles_" in layer.workload for layer in manifest.layers)
        before = tile_unit().counts()
        with tvm_mobilenet.load(path) as one, tvm_mobilenet.load(path, threads=2) as two:
            np.testing.assert_array_equal(one.run(x), two.run(x))
            if executor == "static":  # tiles have a peak of their own, which other layers have not
                timed = profile(LocalNetwork(one), runs=1)
                kinds = set(timed.peaks.operations_per_s)
                assert {"fma", "bf16_tiles"} <= kinds <= {*KINDS}
                text = to_json([("bundle", timed)], describe_machine(), "a command", now())
                (kept,) = profiles.read(json.loads(text)).profiles
                assert all(kept.peak(layer) for layer in kept.layers)
    after = tile_unit().counts()
    assert HAS_TILES or after.of_bf16 > before.of_bf16
    if HAS_TILES:
        return
    monkeypatch.undo()
    with pytest.raises(BadInput, match="has no amx_bf16, amx_int8, amx_tile; compile it for"):
        tvm_mobilenet.load(path)
    if executor == "static":  # as a C program, which Python does not ask
        found = cpu.host_features() | TILES
        monkeypatch.setattr(cpu, "host_features", lambda: found)
        with pytest.raises(BadInput, match=r"this CPU has no amx_\w+"):
            tvm_mobilenet.load(path)
