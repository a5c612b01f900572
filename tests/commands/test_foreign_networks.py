"""Networks of other programs: what cannot be used is one line; scores and pictures of the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support import foreign_onnx
from support.stage_ends import ROOT, Capture, compiled, fails, status_of

from tvm_mobilenet import bundle, compile, run
from tvm_mobilenet.models.normalisation import IMAGENET
from tvm_mobilenet.network import onnx_export
from tvm_mobilenet.runtime.classes import softmax

node = helper.make_node

CONV = {"w": np.ones((4, 3, 3, 3), np.float32)}


def padded_as_asked(**named: str) -> onnx.ModelProto:
    """Zeros around an image, as many as another input says."""
    pad = node("Pad", ["x", "widths"], ["y"], **named)
    shapes = {"x": foreign_onnx.IMAGE, "widths": (8,)}
    made = foreign_onnx.network(shapes, [pad], {"y": TensorProto.FLOAT})
    made.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    return made


FOREIGN: dict[str, tuple[onnx.ModelProto, int, str]] = {
    "a bool output": (
        foreign_onnx.model([node("Greater", ["x", "x"], ["y"])], output=TensorProto.BOOL),
        2,
        "ONNX output y: expected float32, float16, int64, int32, int8, uint8, got bool; end the",
    ),
    "a slope of a shape that fits nothing": (
        foreign_onnx.model([node("PRelu", ["x", "s"], ["y"])], {"s": np.ones((3, 1), np.float32)}),
        2,
        "ONNX model does not run by ONNX Runtime: ",
    ),
    "an operator that the importer lacks": (
        foreign_onnx.model([node("Det", ["x"], ["y"], name="last")], shape=(1, 3)),
        2,
        "ONNX model not supported: TVM has no importer for Det (node last)",
    ),
    "an operator that it fails at": (
        padded_as_asked(name="ring"),
        2,
        "ONNX model cannot be imported: Pad (node ring): Dynamic pads are not supported",
    ),
    "a node without a name": (
        padded_as_asked(),
        2,
        "ONNX model cannot be imported: Pad (output y): Dynamic pads are not supported",
    ),
    "what TVM does not compile": (
        foreign_onnx.model(
            [node("ScatterElements", ["x", "at", "new"], ["y"])],
            {"at": np.zeros((1, 1, 1, 1), np.int64), "new": np.ones((1, 1, 1, 1), np.float32)},
        ),
        1,
        "foreign.onnx: TVM cannot compile it: ",
    ),
    "nan in the weights": (
        foreign_onnx.model([node("Conv", ["x", "w"], ["y"])], {"w": CONV["w"] * np.nan}),
        2,
        "108 of the 108 weights w of Conv (output y) are nan or infinite",
    ),
    "nan in what it computes": (
        foreign_onnx.model([node("Log", ["x"], ["y"])]),
        2,
        "gives nan or infinity in output 0 for an ordinary input",
    ),
    "a single number": (
        foreign_onnx.model([node("ReduceSum", ["x"], ["y"], keepdims=0)], shape=()),
        2,
        "output 0 of the network is a single number, expected at least one dimension",
    ),
    "what only the virtual machine runs": (
        foreign_onnx.model([node("CumSum", ["x", "axis"], ["y"])], {"axis": np.int64(1)}),
        2,
        "compile with --executor vm",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_network_that_cannot_be_used(name: str, tmp_path: Path, capfd: Capture) -> None:
    made, status, says = FOREIGN[name]
    path = foreign_onnx.save(made, tmp_path)
    line = fails(capfd, status, compile, "--onnx", path, "-o", tmp_path / "out")
    assert says in line
    assert "Metadata" not in line
    assert [one.name for one in tmp_path.iterdir()] == ["foreign.onnx"]


def test_a_failed_import_is_not_followed_by_warnings(tmp_path: Path) -> None:
    """TVM's builder warned as the process ended, when the error let go of it."""
    path = foreign_onnx.save(FOREIGN["an operator that it fails at"][0], tmp_path)
    code = "import sys; from tvm_mobilenet import compile; sys.exit(compile.main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "--onnx", str(path), "-o", str(tmp_path / "out")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


def test_weights_that_are_listed_before_the_image(tmp_path: Path, capfd: Capture) -> None:
    made = foreign_onnx.weights_first(
        foreign_onnx.model([node("Conv", ["x", "w"], ["y"])], CONV, opset=9)
    )
    out = compiled(capfd, foreign_onnx.save(made, tmp_path), tmp_path / "out")
    assert "agrees with its reference to" in out


def test_a_file_that_onnx_runtime_does_not_load(tmp_path: Path, capfd: Capture) -> None:
    """It is checked against ONNX's own evaluator, which the last line says, and why."""
    made = foreign_onnx.model([node("Relu", ["x"], ["y"])], opset=1, ir_version=3)
    out = compiled(capfd, foreign_onnx.save(made, tmp_path), tmp_path / "out")
    assert "ONNX's own evaluator, as ONNX Runtime does not load it: Could not find" in out


def test_a_file_that_nothing_runs(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **_named: object) -> None:
        raise TypeError("unknown\nand more")

    monkeypatch.setattr(onnx_export, "open_session", refuse)
    monkeypatch.setattr("onnx.reference.ReferenceEvaluator", refuse)
    path = foreign_onnx.save(foreign_onnx.model([node("Relu", ["x"], ["y"])]), tmp_path)
    line = fails(capfd, 2, compile, "--onnx", path, "-o", tmp_path / "out")
    assert "does not load it: unknown, and neither does ONNX's own evaluator: unknown\n" in line


HEADS = {
    "softmax": node("Softmax", ["scores"], ["y"]),
    "sigmoid": node("Sigmoid", ["scores"], ["y"]),
    "logits": node("Identity", ["scores"], ["y"]),
}


@pytest.mark.parametrize("head", HEADS)
def test_percentages_of_a_network_with_a_head(
    head: str, tmp_path: Path, capfd: Capture, rng: np.random.Generator
) -> None:
    made = foreign_onnx.classifier(HEADS[head], node("Relu", ["x"], ["unused"]))
    path = foreign_onnx.save(made, tmp_path)
    out = tmp_path / "out"
    compiled(capfd, path, out, "--executor", "vm")
    x = rng.standard_normal(foreign_onnx.IMAGE, np.float32)
    np.save(tmp_path / "x.npy", x)
    assert status_of(run, out, "--input", tmp_path / "x.npy", "--top", "4") == 0
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    (values,) = onnx_export.evaluate(made, x)
    expected = (softmax(values) if head == "logits" else values)[0]
    for index, percentage in lines:
        assert float(percentage.rstrip("%")) / 100 == pytest.approx(expected[int(index)], abs=1e-4)
    assert len(lines) == 4


def test_normalisation_is_the_networks_or_unknown(tmp_path: Path, capfd: Capture) -> None:
    path = foreign_onnx.save(foreign_onnx.model([node("Conv", ["x", "w"], ["y"])], CONV), tmp_path)
    compiled(capfd, path, tmp_path / "out")
    with bundle.open_bundle(tmp_path / "out") as opened:
        assert opened.manifest.inputs[0].normalisation is None
        assert opened.manifest.weights == "file"
    compiled(capfd, path, tmp_path / "out", "--mean", "0.5,0.5,0.5", "--std", "1,1,0.25")
    with bundle.open_bundle(tmp_path / "out") as opened:
        said = opened.manifest.inputs[0].normalisation
        assert said == bundle.Normalisation(1 / 255, (0.5, 0.5, 0.5), (1, 1, 0.25))
    arguments = ("--onnx", path, "-o", tmp_path / "other", "--mean", "0.5")
    assert "expected one mean a channel (3), got 1" in fails(capfd, 2, compile, *arguments)


@pytest.mark.parametrize(("padding", "scale"), [("pytorch", 1 / 255), ("tensorflow", 1 / 127.5)])
def test_normalisation_of_our_networks(padding: str, scale: float) -> None:
    from tvm_mobilenet import models

    config = models.config_from("mobilenet_v1", padding=padding)
    said = models.normalisation_of(config)
    assert said.scale == scale
    assert (said == IMAGENET) == (padding == "pytorch")
    assert said.fault(channels=3) is None
