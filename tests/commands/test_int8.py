"""``compile --precision int8``: samples and a float network in, a bundle in int8 out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image
from support.float_networks import mobile

import tvm_mobilenet
from tvm_mobilenet import api, bundle, compile, inspect
from tvm_mobilenet.models.normalisation import SYMMETRIC
from tvm_mobilenet.models.resizing import ResizingFlags
from tvm_mobilenet.network.source import from_onnx
from tvm_mobilenet.quantization.calibration import Calibration
from tvm_mobilenet.runtime.image import Pixels, normalise

Capture = pytest.CaptureFixture[str]
SMALL = ("--alpha", "0.25", "--resolution", "32")


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def samples() -> NDArray[np.float32]:
    """Of ``network.onnx``: in samples.npy."""
    rng = np.random.default_rng(3)
    onnx.save_model(mobile(rng), "network.onnx")
    values = rng.standard_normal((12, 8, 8, 8), np.float32)
    np.save("samples.npy", values)
    return values


def command(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    try:
        status = compile.main(list(arguments))
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else -1
    told = capsys.readouterr()
    return status, told.out, told.err


INT8 = ("--precision", "int8", "--on-untuned", "allow")


def test_a_float_network_becomes_an_int8_bundle(
    capsys: Capture, samples: NDArray[np.float32]
) -> None:
    status, out, err = command(
        capsys,
        *("--onnx", "network.onnx", *INT8, "--calibrate", "samples.npy"),
        *("--quantized-onnx", "quantized.onnx", "-o", "b"),
    )
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0].split() == [
        "int8",
        "tensor",
        "of",
        "operators",
        "SNR",
        "dB",
        "from",
        "to",
        "clipped",
    ]
    rows = lines[1 : lines.index(next(line for line in lines if line.startswith("int8: ")))]
    assert len(rows) == 11 and any("Conv+HardSwish" in row for row in rows)
    assert "int8: ranges by mse from 9 samples" in out
    assert "int8 and fp32 on 3 held-out: top-1 " in out
    assert "not in int8" not in out
    assert "agrees with its reference to" in lines[-1] and "b: network.onnx for x86-" in lines[-1]
    manifest = bundle.open_bundle("b").manifest
    assert manifest.precision == "int8" and manifest.quantization is not None
    assert (manifest.quantization.samples, manifest.quantization.held_out) == (9, 3)
    assert list(manifest.model) == ["onnx_sha256"]  # of the file that it was made from
    assert inspect.main(["b"]) == 0
    told = capsys.readouterr().out
    assert "quantized    by mse from 9 samples; as fp32 on 3: top-1 " in told
    in_int8 = sum(one.workload.startswith("quantized_") for one in manifest.layers)
    every = len(manifest.layers)
    assert f"{every}, 0 tuned; {in_int8} in int8, {every - in_int8} in fp32" in told
    # what was compiled is what was written, and is right as ONNX Runtime has it
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    reference = onnxruntime.InferenceSession("quantized.onnx", options)
    exact = onnxruntime.InferenceSession("network.onnx")
    with tvm_mobilenet.load("b") as session:
        for x in samples:
            found = np.asarray(session.run(x[None]))
            (right,), (fp32,) = (one.run(None, {"x": x[None]}) for one in (reference, exact))
            size = np.linalg.norm(fp32)
            assert np.linalg.norm(found - right) <= session.bundle.tolerance() * size
            assert 1e-4 * size < np.linalg.norm(found - fp32) < 0.1 * size
    # the file goes the way of others' quantized files, to the same kernels
    status, _, err = command(capsys, "--onnx", "quantized.onnx", *INT8, "-o", "again")
    assert status == 0, err
    again = bundle.open_bundle("again").manifest
    assert again.precision == "int8" and again.quantization is None
    assert [one.workload for one in again.layers] == [one.workload for one in manifest.layers]


@pytest.mark.parametrize(
    ("target", "bound", "kept_in"),
    [
        ("x86-64-v3", "0.8%", "fp32"),
        pytest.param("x86-znver4", "0.8%", "bf16", marks=pytest.mark.isa("avx512_bf16")),
        # what bf16 loses too
        pytest.param("x86-znver4", "0.2%", "fp32", marks=pytest.mark.isa("avx512_bf16")),
    ],
)
def test_layers_that_hurt_are_kept_out_of_int8(
    capsys: Capture, samples: NDArray[np.float32], target: str, bound: str, kept_in: str
) -> None:
    """Of maps the loss is the relative error: some layers stay in float between those in int8."""
    model = onnx.load("network.onnx")
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("a4", 1, [1, 32, 2, 2]))
    onnx.save_model(model, "maps.onnx")
    arguments = ("--onnx", "maps.onnx", *INT8, "--calibrate", "samples.npy", "--max-loss", bound)
    status, out, err = command(capsys, *arguments, "--target", target, "-o", "b")
    assert status == 0, err
    with tvm_mobilenet.load("b") as session:
        manifest = session.manifest
        exact = onnxruntime.InferenceSession("maps.onnx").run(None, {"x": samples[:1]})[0]
        found = np.asarray(session.run(samples[:1]))
    assert manifest.quantization is not None and manifest.quantization.top1 is None
    ((name, kept),) = manifest.quantization.kept()
    assert name == kept_in and f"in {name} for --max-loss: {', '.join(kept)}" in out
    most = float(bound.rstrip("%")) / 100
    assert 1 <= len(kept) <= 5 and manifest.quantization.error <= most
    kernels = [one.workload for one in manifest.layers if "conv2d" in one.workload]
    (outside,) = [line for line in out.splitlines() if line.startswith("not in int8: ")]
    others = [one for one in kernels if not one.startswith("quantized")]
    assert all(one in outside for one in others) and outside.count(",") == len(kept) - 1
    assert 5 - len(kept) == sum(one.startswith("quantized") for one in kernels)
    assert sum(one.startswith("bf16") for one in kernels) == (len(kept) if name == "bf16" else 0)
    assert np.linalg.norm(found - exact) <= 1.5 * most * np.linalg.norm(exact)


def test_pictures_go_through_the_networks_own_preparation(tmp_path: Path) -> None:
    """A folder of pictures is what a .npy of the prepared pictures is."""
    rng = np.random.default_rng(1)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(5):
        pixels = rng.integers(0, 255, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    x = np.stack([np.asarray(Image.open(one)) for one in sorted(folder.iterdir())])
    np.save("x.npy", normalise(x, Pixels(SYMMETRIC)).transpose(0, 3, 1, 2))
    onnx.save_model(image_network(), "image.onnx")
    source = from_onnx(Path("image.onnx")).normalised(SYMMETRIC).resized(ResizingFlags(crop=1.0))
    found = [
        api.in_int8(source, Calibration(path))[0].onnx.SerializeToString()
        for path in (folder, Path("x.npy"))
    ]
    assert found[0] == found[1]


def wrong() -> dict[str, tuple[tuple[str, ...], str]]:
    calibrate = ("--calibrate", "samples.npy")
    onnx_file = ("--onnx", "network.onnx")
    return {
        "no samples": ((*onnx_file, *INT8), "network.onnx is not quantized; give samples of its"),
        "no samples, a network of ours": ((*SMALL, *INT8), "samples of the input of mobilenet_v1"),
        "fp32": ((*onnx_file, *calibrate), "--calibrate is for --precision int8"),
        "method alone": ((*INT8, "--calibration-method", "mse"), "are for --calibrate SAMPLES"),
        "loss alone": ((*onnx_file, "--max-loss", "1%"), "are for --calibrate SAMPLES"),
        "range alone": ((*INT8, "--reduce-range"), "--reduce-range is for --calibrate SAMPLES"),
        "nowhere to write": (
            (*onnx_file, *INT8, *calibrate, "--quantized-onnx", "none/q.onnx"),
            "--quantized-onnx none/q.onnx: cannot be written: No such file",
        ),
        "file alone": ((*INT8, "--quantized-onnx", "q"), "is for --calibrate SAMPLES"),
        "no share": ((*INT8, *calibrate, "--max-loss", "x"), "expected a share such as 0.5%"),
        "all of it": ((*INT8, *calibrate, "--max-loss", "100%"), "expected a share such as 0.5%"),
        "no method": ((*INT8, "--calibration-method", "x"), "choose from 'minmax'"),
        "no such file": ((*onnx_file, *INT8, "--calibrate", "no.npy"), "no.npy: no such file"),
        "another shape": ((*SMALL, *INT8, *calibrate), "expected float32 of shape Nx3x32x32"),
        "pictures without mean": (
            ("--onnx", "image.onnx", *INT8, "--calibrate", "pictures"),
            "--calibrate pictures/a.png: nothing says how pixels become the network's input; give",
        ),
        "no picture": ((*SMALL, *INT8, "--calibrate", "pictures"), "not a picture that can be"),
        "CUDA": (
            ("--target", "cuda-sm_80", *INT8, *calibrate),
            "for CPUs; arm-android, arm-apple-m1",
        ),
    }


@pytest.mark.parametrize("name", wrong())
def test_what_cannot_be_used_is_one_line(
    name: str, capsys: Capture, samples: NDArray[np.float32]
) -> None:
    Path("pictures").mkdir()
    Path("pictures", "a.png").write_bytes(b"no picture")
    onnx.save_model(image_network(), "image.onnx")
    arguments, says = wrong()[name]
    status, out, err = command(capsys, *arguments, "-o", "b")
    assert (status, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1
    assert says in err
    assert not Path("b").exists()


def image_network() -> onnx.ModelProto:
    """One that takes pictures of 3 channels, and does not say how."""
    helper = onnx.helper
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "image",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 4, 6, 6])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_quantized_file_needs_no_samples(capsys: Capture, samples: NDArray[np.float32]) -> None:
    model = onnx.load("network.onnx")
    step = onnx.numpy_helper.from_array(np.array(0.02, np.float32), "step")
    zero = onnx.numpy_helper.from_array(np.array(128, np.uint8), "zero")
    model.graph.initializer.extend([step, zero])
    node = onnx.helper.make_node
    first = model.graph.node[0]
    first.input[0] = "xd"
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(
        [
            node("QuantizeLinear", ["x", "step", "zero"], ["xq"]),
            node("DequantizeLinear", ["xq", "step", "zero"], ["xd"]),
            *rest,
        ]
    )
    onnx.save_model(model, "quantized.onnx")
    arguments = ("--onnx", "quantized.onnx", *INT8, "--calibrate", "samples.npy", "-o", "b")
    status, _, err = command(capsys, *arguments)
    assert status == 2 and "--calibrate: quantized.onnx is quantized already; drop it" in err
