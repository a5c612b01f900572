"""``tune`` takes the flags that ``compile`` takes, and its records are the ones that finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from support.float_networks import conv, network, node

from tvm_mobilenet import bundle, compile, records, tune
from tvm_mobilenet.compiler.precision import TOLERANCES
from tvm_mobilenet.hardware import target
from tvm_mobilenet.results import tuning_runs
from tvm_mobilenet.tuning import kernels, setup

pytestmark = pytest.mark.usefixtures("warm_workers")
Capture = pytest.CaptureFixture[str]
ONNX = ("--onnx", "network.onnx")
INT8 = ("--precision", "int8", "--calibrate", "samples.npy")
BF16 = ("--precision", "bf16", "--target", "x86-znver4")


@pytest.fixture(autouse=True)
def in_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """With a network of three layers, and samples of its input."""
    monkeypatch.chdir(tmp_path)
    nodes = [
        node("Conv", ["x", "w0"], ["c0"], pads=[1] * 4, group=8),
        node("Relu", ["c0"], ["a0"]),
        node("Conv", ["a0", "w1"], ["c1"]),
        node("Relu", ["c1"], ["a1"]),
        node("Conv", ["a1", "w2"], ["y"]),
    ]
    shapes = ((8, 1, 3), (16, 8, 1), (16, 16, 1))
    weights = {f"w{i}": conv(rng, *shape) for i, shape in enumerate(shapes)}
    onnx.save_model(network(nodes, weights), "network.onnx")
    np.save("samples.npy", rng.standard_normal((6, 8, 8, 8), np.float32))


def ran(stage: Any, *arguments: str) -> int:
    try:
        return int(stage.main(list(arguments)))
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else -1


def test_records_in_int8_are_found_by_compile(capsys: Capture) -> None:
    once = ("--trials-per-task", "1", "--work-dir", "records")
    assert ran(tune, *ONNX, *INT8, *once) == 0
    told = capsys.readouterr()
    assert "network.onnx in int8, by mse from 5 samples" in told.err
    (run,) = tuning_runs.load(Path("records")).runs
    assert run.of == "network, fp32 and int8"
    assert ran(records, "list", "records") == 0
    listed = capsys.readouterr().out.splitlines()[1:]
    for line in listed:
        precision = "fp32" if line.startswith("unpack_") else "int8"
        assert f"; {precision}, native, cold, " in line, line
    assert ran(compile, *ONNX, *INT8, "--tuning-records", "records", "-o", "b") == 0
    layers = bundle.open_bundle("b").manifest.layers
    tuned = [one.workload for one in layers if one.tuned]
    assert sum(name.startswith("quantized_") for name in tuned) == 3
    assert all(one.tuned for one in layers if one.own)


@pytest.mark.isa("avx512_bf16")
def test_kernels_in_bf16_are_tuned(capsys: Capture) -> None:
    assert ran(tune, *ONNX, *BF16, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("bf16_") for line in lines) == 3


def test_layers_kept_out_of_int8_are_held_to_what_bf16_rounds() -> None:
    """A run has one bound for all of its kernels."""
    found = []
    for more in ([], ["--max-loss", "1%"]):
        flags = [*ONNX, *INT8, "--target", "x86-znver4", *more]
        request = tune.make_request(
            tune.make_parser().parse_args(flags), target.resolve("x86-znver4")
        )
        found.append(setup.make_settings(request).tolerance)
    assert found == [TOLERANCES["fp32"], TOLERANCES["bf16"]]


def test_pictures_go_the_way_that_compile_sends_them(rng: np.random.Generator) -> None:
    """They become the input by the flags on pictures, and its range is part of the kernel."""
    weights = {"w": conv(rng, 8, 3, 3)}
    taken = network([node("Conv", ["x", "w"], ["y"])], weights, image=(1, 3, 8, 8))
    onnx.save_model(taken, "pictures.onnx")
    Path("pictures").mkdir()
    for index in range(2):
        pixels = rng.integers(0, 255, (10, 10, 3), np.uint8)
        Image.fromarray(pixels).save(f"pictures/{index}.png")
    found = []
    for scale in ("1/255", "1/100"):
        flags = ["--onnx", "pictures.onnx", "--precision", "int8", "--scale", scale]
        args = tune.make_parser().parse_args([*flags, "--calibrate", "pictures"])
        request = tune.make_request(args, target.resolve("x86-znver4"))
        request.networks.check()
        (source,) = request.networks.open()
        assert source.quantization is not None and source.quantization.samples == 1
        found.append(kernels.extract_kernels([source], request.options))
    one, other = ([str(kernel.func) for kernel in each] for each in found)
    assert len(one) == len(other) and one != other


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--precision", "int8"), "samples of the input of mobilenet_v1-1-224"),
        ((*ONNX, "--precision", "int8"), "network.onnx is not quantized; give samples of its"),
        ((*ONNX, "--calibrate", "samples.npy"), "--calibrate is for --precision int8; fp32"),
        ((*ONNX, *BF16, "--calibrate", "samples.npy"), "bf16 needs no samples"),
        ((*ONNX, "--max-loss", "1%"), "--calibration-method and --max-loss are for --calibrate"),
        ((*ONNX, "--precision", "int8", "--calibrate", "no.npy"), "no.npy: no such file"),
        ((*ONNX, "--precision", "int8", "--calibrate", "bad.npy"), "has nan or infinity in it"),
        ((*ONNX, *INT8, "--mean", "0,0,0"), "are for the pictures of --calibrate FOLDER"),
        ((*INT8, "--sweep"), "--sweep tunes several resolutions; samples.npy has samples of one"),
        ((*INT8, "--target", "cuda-sm_80"), "precision int8 is for CPUs"),
        (
            ("--precision", "bf16", "--target", "arm-rpi4"),
            "precision bf16 is for CPUs that multiply",
        ),
        (("--precision", "fp16", "--target", "x86-znver4"), "precision fp16 is for GPUs"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    flags: tuple[str, ...], says: str, capsys: Capture
) -> None:
    np.save("bad.npy", np.full((6, 8, 8, 8), np.nan, np.float32))
    assert ran(tune, "--dry-run", *flags) == 2
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert line.startswith("error: ") and says in line and not told.out
    assert not Path("tuning_records").exists()
