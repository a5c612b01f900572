"""examples/digits: a network trained here, and its bundle on the whole test set."""

from __future__ import annotations

import importlib.util
import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from support import script_here

import tvm_mobilenet
from tvm_mobilenet import api, bundle
from tvm_mobilenet.building.bundles import build_bundle
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.emulation import emulator, instruction_count
from tvm_mobilenet.hardware import target
from tvm_mobilenet.network.source import from_onnx
from tvm_mobilenet.quantization.calibration import Abilities, Calibration
from tvm_mobilenet.quantization.quantize import How, quantize
from tvm_mobilenet.quantization.ranges import Method
from tvm_mobilenet.quantization.running import Runner
from tvm_mobilenet.quantization.samples import open_samples

EXAMPLES = Path(__file__).parents[2] / "examples" / "digits"
EPOCHS = 20  # half of what the example trains for
LEAST_PERCENT = 97.0
TEST_IMAGES = 360
MOST_LOSS = 0.003  # of the test set, by int8
MOST_LOSS_IN_HALVES = 0.001  # by bf16 and fp16
IMAGES_IN_FP16 = 120  # that an emulator has the time for

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None,
    reason="needs scikit-learn: pip install 'tvm-mobilenet[dev]'",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, python: Any) -> tuple[Path, str]:
    """The folder with the trained network, and what training it printed."""
    folder = tmp_path_factory.mktemp("digits")
    done = python("examples/digits/train.py", str(folder), str(EPOCHS))
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def classes(folder: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of the test set: those that are right, and those that PyTorch finds."""
    with np.load(folder / "digits-test.npz") as file:
        return file["labels"], file["pytorch"]


def evaluate(*arguments: str) -> None:
    """The example in this process, which has all imported that it needs."""
    runpy.run_path(str(EXAMPLES / "evaluate.py"))["main"](*arguments)


def test_a_network_trained_here_tells_digits_apart(trained: tuple[Path, str]) -> None:
    folder, said = trained
    evaluated = script_here.run(EXAMPLES / "evaluate.py", str(folder), folder=EXAMPLES.parents[1])
    assert evaluated.returncode == 0, evaluated.stderr
    # 36 images of each digit or so, none of them trained on
    labels, pytorch = classes(folder)
    assert np.bincount(labels).min() >= 34 and len(labels) == TEST_IMAGES
    correct = int(np.count_nonzero(labels == pytorch))
    assert "0 classes other than PyTorch's" in evaluated.stdout
    with bundle.open_bundle(folder / "digits") as opened:
        accuracy = opened.manifest.accuracy
        (output,) = opened.manifest.outputs
    assert accuracy is not None and accuracy.percent >= LEAST_PERCENT
    assert (accuracy.correct, accuracy.images) == (correct, TEST_IMAGES)
    assert output.labels[7] == "seven"
    printed = re.search(r"PyTorch: ([\d.]+)% of 360", said)
    assert printed is not None and float(printed[1]) == pytest.approx(accuracy.percent, abs=0.01)


@pytest.mark.isa("avx512_bf16")
def test_in_bf16_it_tells_them_apart_as_well(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    evaluate(str(folder), "x86-znver4", "bf16")
    labels, pytorch = classes(folder)
    correct = int(np.count_nonzero(labels == pytorch))
    with bundle.open_bundle(folder / "digits-bf16") as opened:
        manifest = opened.manifest
        assert opened.tolerance() < 0.1, "a trained network amplifies little"
    assert manifest.precision == "bf16" and manifest.accuracy is not None
    assert correct - manifest.accuracy.correct <= MOST_LOSS_IN_HALVES * TEST_IMAGES


@pytest.mark.arm_emulator
def test_in_fp16_an_emulated_core_tells_them_apart_as_well(
    trained: tuple[Path, str], tmp_path: Path
) -> None:
    """A third of the images as one batch, which costs one start of the emulator."""
    folder, _ = trained
    labels, pytorch = classes(folder)
    with np.load(folder / "digits-test.npz") as file:
        images = file["images"][:IMAGES_IN_FP16]
    labels, pytorch = labels[:IMAGES_IN_FP16], pytorch[:IMAGES_IN_FP16]
    model = onnx.load(str(folder / "digits.onnx"))
    for one in (*model.graph.input, *model.graph.output):
        one.type.tensor_type.shape.dim[0].dim_value = IMAGES_IN_FP16
    del model.graph.value_info[:]
    onnx.save_model(model, str(tmp_path / "digits.onnx"))
    options = CompileOptions(target.resolve("arm-rpi5"), "fp16")
    build_bundle(from_onnx(tmp_path / "digits.onnx"), options, tmp_path / "b")
    device = replace(emulator.find(), cpu="cortex-a76")
    with bundle.open_bundle(tmp_path / "b", "aarch64") as opened:
        assert opened.tolerance() < 0.02, "a trained network amplifies little"
        (logits,) = instruction_count.compute(opened, [images], device)
    correct = np.count_nonzero(logits.argmax(axis=1) == labels)
    assert np.count_nonzero(pytorch == labels) - correct <= MOST_LOSS_IN_HALVES * IMAGES_IN_FP16


def test_in_int8_it_tells_them_apart_as_well(trained: tuple[Path, str]) -> None:
    """By the bundle, and by ONNX Runtime on the QDQ network, with each way to choose ranges."""
    folder, _ = trained
    evaluate(str(folder), "x86", "int8")
    labels, pytorch = classes(folder)
    correct = int(np.count_nonzero(labels == pytorch))
    with bundle.open_bundle(folder / "digits-int8") as opened:
        manifest = opened.manifest
    assert manifest.precision == "int8" and manifest.quantization is not None
    assert manifest.quantization.samples == 96 and manifest.quantization.held_out == 32
    assert manifest.quantization.error < 0.1
    with bundle.open_bundle(folder / "digits") as opened:
        assert 0.2 < manifest.parameters_bytes / opened.manifest.parameters_bytes < 0.35
    assert manifest.accuracy is not None
    most = MOST_LOSS * TEST_IMAGES
    assert correct - manifest.accuracy.correct <= most
    source = from_onnx(folder / "digits.onnx")
    samples = open_samples(folder / "digits-calibration.npy", source.inputs, lambda _: labels)
    with np.load(folder / "digits-test.npz") as file:
        images = file["images"]
    methods: tuple[Method, ...] = get_args(Method)
    for method in methods:
        runner = Runner(quantize(source.onnx, samples, How(method), 0).model, ["output"])
        found = [runner.run(image[None])[0].argmax() for image in images]
        assert correct - np.count_nonzero(found == labels) <= most, method


@pytest.mark.isa("avx512_bf16")
def test_layers_kept_in_bf16_lose_less_than_int8(trained: tuple[Path, str], tmp_path: Path) -> None:
    """Of 32 held-out digits int8 loses none, so the outputs' error is what is bounded here."""
    folder, _ = trained
    labels, pytorch = classes(folder)
    opened = replace(from_onnx(folder / "digits.onnx"), head="embedding")
    samples = folder / "digits-calibration.npy"
    source, found = api.in_int8(opened, Calibration(samples, max_loss=0.015), Abilities(bf16=True))
    assert found is not None and found.report.agreement.error <= 0.015
    assert found.report.summary.float_layers == ()
    kept = found.report.summary.bf16_layers
    assert 1 <= len(kept) < len(found.report.tensors) - 1
    options = CompileOptions(target.resolve("x86-znver4"), "int8")
    path = build_bundle(source, options, tmp_path / "digits").path
    with np.load(folder / "digits-test.npz") as file:
        images = file["images"]
    with tvm_mobilenet.load(path) as session:
        starts = [one.workload.partition("_")[0] for one in session.manifest.layers]
        answers = [np.asarray(session.run(image[None])).argmax() for image in images]
    assert starts.count("bf16") == len(kept) and starts.count("quantized") > 0
    correct = int(np.count_nonzero(labels == pytorch))
    assert correct - np.count_nonzero(answers == labels) <= MOST_LOSS * TEST_IMAGES
