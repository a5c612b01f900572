"""The public face: ``tvm_mobilenet.compile_bundle`` and ``tvm_mobilenet.load``."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from support import tiny_bundle

import tvm_mobilenet
from tvm_mobilenet.errors import BadInput

Python = Callable[..., subprocess.CompletedProcess[str]]


def test_a_network_of_ours_compiles_and_runs(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tvm_mobilenet.compile_bundle(
        tmp_path / "bundle", alpha=0.25, resolution=32, num_classes=10
    )
    assert path == tmp_path / "bundle"
    with tvm_mobilenet.load(path) as session:
        logits = np.asarray(session.run(rng.standard_normal((1, 3, 32, 32), dtype=np.float32)))
    assert logits.shape == (1, 10)
    assert np.isfinite(logits).all()


def test_an_onnx_file_compiles(small_onnx: onnx.ModelProto, tmp_path: Path) -> None:
    onnx.save_model(small_onnx, str(tmp_path / "small.onnx"))
    path = tvm_mobilenet.compile_bundle(
        tmp_path / "m.tar", onnx=tmp_path / "small.onnx", tuning_records="none"
    )
    with tvm_mobilenet.load(path) as session:
        assert set(session.manifest.model) == {"onnx_sha256"}
        assert not any(layer.tuned for layer in session.manifest.layers)


def test_options_that_would_be_ignored(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^alpha: .* has its own, drop it$"):
        tvm_mobilenet.compile_bundle(tmp_path / "m", onnx="some.onnx", alpha=0.5)
    with pytest.raises(BadInput, match=r"^input_shapes: for an ONNX file"):
        tvm_mobilenet.compile_bundle(tmp_path / "m", input_shapes={"x": (1, 3, 32, 32)})


def test_load_runs_a_bundle(tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "m", tiny_bundle.classifier())
    x = tiny_bundle.sample_input()
    with tvm_mobilenet.load(tmp_path / "m", threads=1) as session:
        assert np.allclose(session.run(x), tiny_bundle.reference(x), rtol=1e-5)


def test_importing_the_package_imports_nothing(python: Python) -> None:
    code = "import sys; before = set(sys.modules); import tvm_mobilenet; dir(tvm_mobilenet); "
    done = python("-c", f"{code} print(sorted(set(sys.modules) - before))")
    assert done.stdout == "['tvm_mobilenet']\n", done.stderr


def test_load_needs_no_compiler(python: Python) -> None:
    heavy = {"tvm", "torch", "onnx", "rich"}
    code = "import sys, tvm_mobilenet; tvm_mobilenet.load; print({*sys.modules} & "
    assert python("-c", f"{code}{heavy})").stdout == "set()\n"


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'tvm_mobilenet' has no attribute 'complie'"):
        tvm_mobilenet.complie  # noqa: B018
