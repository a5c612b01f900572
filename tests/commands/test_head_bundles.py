"""Each head as a bundle, and what ``run`` makes of it; docs/networks.md compiles one by command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tvm_mobilenet
from tvm_mobilenet import bundle, compile, models, run
from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.hardware import target
from tvm_mobilenet.models.heads import outputs_of
from tvm_mobilenet.network import source
from tvm_mobilenet.runtime import detection

Capture = pytest.CaptureFixture[str]

SIZE = 33
CONFIGS = {
    "attributes": models.config_from("mobilenet_v1", 0.25, 32, head="attributes", num_classes=40),
    "embedding": models.config_from(
        "mobilenet_v3_small", 0.35, SIZE, head="embedding", embedding_size=24
    ),
    "features": models.config_from("mobilenet_v2", 0.35, SIZE, head="features"),
    "ssd": models.config_from("mobilenet_v1", 0.25, SIZE, head="ssd", num_classes=5),
}


@pytest.fixture(
    scope="module", params=[pytest.param(head, marks=pytest.mark.in_turns(2)) for head in CONFIGS]
)
def made(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Path:
    """The bundle of a head, in a folder of its name."""
    path: Path = tmp_path_factory.mktemp("heads") / request.param
    network = source.from_config(CONFIGS[request.param])
    built = build_bundle(network, CompileOptions(target.resolve("x86")), path)
    assert built.difference is not None, "it ran here, and agrees with PyTorch"
    return path


def test_the_bundle_says_its_head(made: Path, capsys: Capture) -> None:
    head = made.name
    with tvm_mobilenet.load(made) as session:
        manifest = session.manifest
        outputs = session.run(*session.bundle.sample_inputs())
    assert manifest.head == manifest.model["head"] == head
    expected = outputs_of(head)
    assert tuple(one.name for one in manifest.outputs) == expected.names
    assert tuple(one.scores for one in manifest.outputs) == expected.scores
    if head == "embedding":
        assert np.linalg.norm(outputs) == pytest.approx(1, abs=1e-5)
    capsys.readouterr()
    status = run.main([str(made), "--top", "3"])
    printed = capsys.readouterr()
    if head in ("embedding", "features"):
        assert status == 2
        assert printed.err.startswith("error: --top: expected a classifier or a detector, got 1x")
        return
    assert status == 0
    lines = printed.out.splitlines()[len(outputs) if head == "ssd" else 1 :]
    assert len(lines) == 4 and "random" in lines[-1]
    if head == "ssd":
        best = detection.detect(outputs[0][0], outputs[1][0])[0]
        left, top, right, bottom = (f"{SIZE * side:.1f}" for side in best.box)
        assert lines[0].split() == [str(best.label), f"{best.score:.2%}", left, top, right, bottom]


def test_labels_are_of_the_classes(made: Path, tmp_path: Path, capsys: Capture) -> None:
    classes = {"attributes": 40, "ssd": 5}.get(made.name)
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"name{number}\n" for number in range(classes or 24)))
    capsys.readouterr()
    status = run.main([str(made), "--labels", str(labels), "--top", "1"])
    printed = capsys.readouterr()
    if classes is None:
        assert status == 2 and "expected a classifier or a detector" in printed.err
        return
    line = printed.out.splitlines()[-2].split()
    assert line[-1] == f"name{line[0]}"
    labels.write_text("one\n")
    assert run.main([str(made), "--labels", str(labels)]) == 2
    assert f"expected {classes} lines, one a class, got 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--head", "embedding", "--classes", "3"], "the head embedding tells no classes apart"),
        (["--embedding-size", "3"], "the size of an embedding is for the head embedding"),
        (["--onnx", "x.onnx", "--head", "ssd", "--classes", "3"], "--head, --classes: not for"),
    ],
)
def test_flags_that_would_be_ignored(flags: list[str], says: str, capsys: Capture) -> None:
    assert compile.main(flags) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {says}") and error.count("\n") == 1


def test_a_manifest_of_another_shape_than_its_heads(made: Path) -> None:
    with bundle.open_bundle(made) as opened:
        text = bundle.manifest.to_json(opened.manifest)
    wrong = "embedding" if made.name == "ssd" else "ssd"
    changed = text.replace(
        f'"head": "{made.name}",\n  "accuracy"', f'"head": "{wrong}",\n  "accuracy"'
    )
    assert changed != text
    with pytest.raises(bundle.manifest.ManifestError, match="head: expected"):
        bundle.manifest.from_json(changed)
