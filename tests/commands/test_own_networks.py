"""Networks of one's own, from an ONNX file to what ``run`` prints, each in its exporter's form."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from support import foreign_onnx
from support.foreign_onnx import FLOAT, FLOAT16, IMAGE, INT64

import tvm_mobilenet
from tvm_mobilenet import bundle, compile, run, tune
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.network import onnx_export

Capture = pytest.CaptureFixture[str]
node = helper.make_node
RNG = np.random.default_rng(7)
KERNEL = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)
CONV = node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1])
POOLED = [node("GlobalAveragePool", ["c"], ["p"]), node("Flatten", ["p"], ["f"])]
RGB = ("red", "green", "blue")


def status_of(stage: ModuleType, *arguments: str | Path) -> int:
    try:
        status: int = stage.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return status


def fails(capsys: Capture, stage: ModuleType, *arguments: str | Path) -> str:
    """The one line that a stage refuses its input with."""
    assert status_of(stage, *arguments) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    return line


def compiled(model: onnx.ModelProto, folder: Path, *flags: str | Path) -> Path:
    path = foreign_onnx.save(model, folder)
    out = folder / "out"
    arguments = ("--onnx", path, "-o", out, "--tuning-records", "none", "--on-untuned", "allow")
    assert status_of(compile, *arguments, *flags) == 0
    return out


def check_same(out: Path, model: onnx.ModelProto, *inputs: Any) -> list[Any]:
    """The bundle's outputs, on one thread and on two, are what ONNX Runtime makes of the file."""
    expected = onnx_export.evaluate(model, *inputs)
    for threads in (1, 2):
        with tvm_mobilenet.load(out, threads) as session:
            result = session.run(*inputs)
            results = result if isinstance(result, tuple) else (result,)
            for got, right in zip(results, expected, strict=True):
                assert (got.dtype, got.shape) == (right.dtype, right.shape)
                np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-5)
    return expected


def image(*shape: int) -> Any:
    return RNG.standard_normal(shape, np.float32)


# Sizes that the file leaves open


def open_network() -> onnx.ModelProto:
    """Of any batch and size, with stale shapes in between."""
    shapes = {"x": ("N", 3, "H", "W")}
    model = foreign_onnx.network(
        shapes, [CONV, *POOLED, node("Relu", ["f"], ["y"])], {"y": FLOAT}, {"w": KERNEL}
    )
    stale = helper.make_tensor_value_info("c", FLOAT, [1, 4, 224, 224])
    del model.graph.value_info[:]
    model.graph.value_info.append(stale)
    return model


def test_open_sizes(tmp_path: Path, capsys: Capture) -> None:
    model = open_network()
    path = foreign_onnx.save(model, tmp_path)
    line = fails(capsys, compile, "--onnx", path, "-o", tmp_path / "out")
    assert "dynamic shape Nx3xHxW; fix it, as with --input-shape x=1x3x224x224" in line
    out = compiled(model, tmp_path, "--batch", "2", "--input-shape", "x=2x3x9x7")
    check_same(out, model, image(2, 3, 9, 7))
    flags = ("--input-shape", "x=1x3x8x8", "--dry-run", "--work-dir", tmp_path / "records")
    assert status_of(tune, "--onnx", path, *flags) == 0
    assert "stem_conv2d_8x8x4" in capsys.readouterr().out
    assert "--input-shape" in fails(capsys, tune, "--onnx", path, "--dry-run")
    with pytest.raises(BadInput, match="--input-shape"):
        tvm_mobilenet.compile_bundle(tmp_path / "b", onnx=path)
    shapes = {"x": (1, 3, 8, 8)}
    tvm_mobilenet.compile_bundle(
        tmp_path / "b", onnx=path, input_shapes=shapes, tuning_records="none"
    )
    check_same(tmp_path / "b", model, image(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--batch", "4"), "--batch 4: input x has the fixed shape 1x3x8x8"),
        (("--input-shape", "x=1x3x9x9"), "only sizes that it leaves open can be given"),
        (("--alpha", "1.0", "--resolution", "224"), "--alpha, --resolution: not for --onnx"),
        (("--input-shape", "1x3x8x8"), "expected an input's name and shape, such as input=1x3"),
        (("--mean", "0.5,0.5"), "expected one mean a channel (3), got 2"),
        (("--scale", "0", "--channel-order", "bgr"), "expected a positive, finite scale, got 0"),
    ],
)
def test_flags_that_would_be_ignored(
    flags: tuple[str, ...], says: str, tmp_path: Path, capsys: Capture
) -> None:
    path = foreign_onnx.save(foreign_onnx.classifier(node("Relu", ["scores"], ["y"])), tmp_path)
    for stage in (compile,) if flags[0] in ("--mean", "--scale") else (compile, tune):
        assert says in fails(capsys, stage, "--onnx", path, *flags)


def test_an_input_shape_is_for_files(capsys: Capture) -> None:
    line = fails(capsys, compile, "--input-shape", "x=1x3x8x8")
    assert "--input-shape is for --onnx" in line


# Pictures and labels


def photo(folder: Path) -> Path:
    """All of one colour: 255 of red, 51 of green, none of blue."""
    pillow = pytest.importorskip("PIL.Image", reason="pip install 'tvm-mobilenet[images]'")
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[...] = (255, 51, 0)
    pillow.fromarray(pixels).save(folder / "photo.png")
    return folder / "photo.png"


def colours(*, channels_last: bool) -> onnx.ModelProto:
    """A classifier whose scores are the means of the three channels."""
    first = node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])
    shape = (1, 8, 8, 3) if channels_last else (1, 3, 8, 8)
    nodes = [
        *([first] if channels_last else []),
        node("GlobalAveragePool", ["t" if channels_last else "x"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "eye"], ["y"]),
    ]
    eye = np.eye(3, dtype=np.float32)
    return foreign_onnx.network({"x": shape}, nodes, {"y": FLOAT}, {"eye": eye})


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_photo_with_labels(*, channels_last: bool, tmp_path: Path, capsys: Capture) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(RGB))
    model = colours(channels_last=channels_last)
    flags = ("--mean", "0,0.2,0.5", "--std", "1,2,0.5", "--channel-order", "bgr")
    out = compiled(model, tmp_path, *flags, "--labels", labels)
    with bundle.open_bundle(out) as opened:
        (taken,), (given,) = opened.manifest.inputs, opened.manifest.outputs
    assert taken.layout == ("NHWC" if channels_last else "NCHW")
    assert (taken.channel_order, given.labels) == ("bgr", RGB)
    check_same(out, model, image(*taken.shape))
    capsys.readouterr()

    # blue first: (0 - 0.5) / 0.5, then green: (0.2 - 0.2) / 2, then red: (1 - 0) / 1
    scores = tmp_path / "y.npy"
    assert status_of(run, out, "--input", photo(tmp_path), "--top", "2", "--output", scores) == 0
    np.testing.assert_allclose(np.load(scores), [[-1, 0, 1]], atol=1e-5)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [(index, name) for index, _, name in lines] == [("2", "blue"), ("1", "green")]

    # the flags of `run` go before what the bundle says
    flags = ("--mean", "0,0,0", "--channel-order", "rgb", "--output", str(scores))
    assert status_of(run, out, "--input", tmp_path / "photo.png", *flags) == 0
    np.testing.assert_allclose(np.load(scores), [[1, 0.2, 0]], atol=1e-5)


def test_labels_that_do_not_fit(tmp_path: Path, capsys: Capture) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("one\ntwo\n")
    path = foreign_onnx.save(colours(channels_last=False), tmp_path)
    arguments = ("--onnx", path, "-o", tmp_path / "out", "--labels")
    assert "expected 3 lines, one a class, got 2" in fails(capsys, compile, *arguments, labels)
    assert "no such file" in fails(capsys, compile, *arguments, tmp_path / "none.txt")
    made = foreign_onnx.network({"x": IMAGE}, [node("Relu", ["x"], ["y"])], {"y": FLOAT})
    path = foreign_onnx.save(made, tmp_path)
    arguments = ("--onnx", path, "-o", tmp_path / "out", "--labels")
    assert "expected a classifier" in fails(capsys, compile, *arguments, labels)


# Inputs and outputs of all kinds

TOP = [node("TopK", ["f", "k"], ["best", "which"])]
KINDS: dict[str, tuple[list[onnx.NodeProto], dict[str, int], dict[str, Any]]] = {
    "the same tensor twice": (
        [node("Relu", ["c"], ["y"]), node("Identity", ["y"], ["z"])],
        {"y": FLOAT, "z": FLOAT},
        {},
    ),
    "the input": (
        [node("Relu", ["c"], ["y"]), node("Identity", ["x"], ["z"])],
        {"y": FLOAT, "z": FLOAT},
        {},
    ),
    "the input, by its own name": ([node("Relu", ["c"], ["y"])], {"y": FLOAT, "x": FLOAT}, {}),
    "a constant": ([node("Shape", ["c"], ["n"])], {"c": FLOAT, "n": INT64}, {}),
    "the best class": (
        [*POOLED, node("ArgMax", ["f"], ["y"], axis=1, keepdims=0)], {"y": INT64}, {},
    ),
    "the best classes": ([*POOLED, *TOP], {"best": FLOAT, "which": INT64}, {"k": np.array([3])}),
    "a tensor in two parts": (
        [
            node("Split", ["c", "sizes"], ["a", "b"], axis=3),
            node("Exp", ["a"], ["y"]),
            node("Neg", ["b"], ["z"]),
        ],
        {"y": FLOAT, "z": FLOAT},
        {"sizes": np.array([3, 5])},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_outputs(kind: str, tmp_path: Path) -> None:
    nodes, outputs, weights = KINDS[kind]
    model = foreign_onnx.network({"x": IMAGE}, [CONV, *nodes], outputs, {"w": KERNEL, **weights})
    check_same(compiled(model, tmp_path), model, image(*IMAGE))


def test_several_inputs(tmp_path: Path, capsys: Capture) -> None:
    nodes = [CONV, *POOLED, node("Mul", ["f", "scale"], ["y"])]
    shapes = {"x": IMAGE, "scale": (1, 4)}
    model = foreign_onnx.network(shapes, nodes, {"y": FLOAT}, {"w": KERNEL})
    inputs = (image(*IMAGE), image(1, 4))
    out = compiled(model, tmp_path)
    (expected,) = check_same(out, model, *inputs)
    check_same(compiled(model, tmp_path, "--executor", "vm"), model, *inputs)

    np.savez(tmp_path / "x.npz", input0=inputs[0], input1=inputs[1])
    arguments = ("--input", tmp_path / "x.npz", "--output", tmp_path / "y.npy")
    assert status_of(run, out, *arguments) == 0
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), expected, rtol=1e-4, atol=1e-5)
    np.savez(tmp_path / "x.npz", input0=inputs[0])
    assert "expected the arrays input0, input1" in fails(
        capsys, run, out, "--input", tmp_path / "x.npz"
    )
    np.save(tmp_path / "x.npy", inputs[0])
    line = fails(capsys, run, out, "--input", tmp_path / "x.npy")
    assert "takes 2 inputs; give a .npz with the arrays input0, input1" in line
    with (
        tvm_mobilenet.load(out) as session,
        pytest.raises(BadInput, match=r"expected 2 input\(s\) \(input0, input1\), got 1"),
    ):
        session.run(inputs[0])


def test_bytes_and_indices_go_in(tmp_path: Path) -> None:
    """Pixels as a camera has them, and an index, which never leads out of its tensor."""
    nodes = [
        node("Cast", ["x"], ["real"], to=FLOAT),
        node("Sub", ["real", "middle"], ["centred"]),
        node("Mul", ["centred", "scale"], ["n"]),
        node("Conv", ["n", "w"], ["c"], pads=[1, 1, 1, 1]),
        *POOLED,
        node("Gather", ["f", "which"], ["y"], axis=1),
    ]
    weights = {"w": KERNEL, "middle": np.float32(127.5), "scale": np.float32(1 / 127.5)}
    model = foreign_onnx.network(
        {"x": IMAGE, "which": (2,)}, nodes, {"y": FLOAT}, weights, kind=onnx.TensorProto.UINT8
    )
    model.graph.input[1].type.tensor_type.elem_type = INT64
    out = compiled(model, tmp_path)
    pixels = RNG.integers(0, 256, IMAGE, np.uint8)
    check_same(out, model, pixels, np.array([3, -4]))
    with tvm_mobilenet.load(out) as session:
        assert [one.dtype for one in session.manifest.inputs] == ["uint8", "int64"]
        far, last = (session.run(pixels, np.array([at, at])) for at in (2**40, 3))
        np.testing.assert_array_equal(far, last)


def test_an_input_of_bytes_takes_a_picture_as_it_is(tmp_path: Path) -> None:
    nodes = [
        node("Cast", ["x"], ["real"], to=FLOAT),
        node("GlobalAveragePool", ["real"], ["p"]),
        node("Flatten", ["p"], ["y"]),
    ]
    model = foreign_onnx.network({"x": IMAGE}, nodes, {"y": FLOAT}, kind=onnx.TensorProto.UINT8)
    means = tmp_path / "y.npy"
    arguments = ("--input", photo(tmp_path), "--output", means)
    assert status_of(run, compiled(model, tmp_path), *arguments) == 0
    np.testing.assert_allclose(np.load(means), [[255, 51, 0]], rtol=1e-6)


def test_half_precision(tmp_path: Path) -> None:
    nodes = [CONV, node("Relu", ["c"], ["y"])]
    weights = {"w": KERNEL.astype(np.float16)}
    model = foreign_onnx.network({"x": IMAGE}, nodes, {"y": FLOAT16}, weights, kind=FLOAT16)
    x = image(*IMAGE).astype(np.float16)
    with tvm_mobilenet.load(compiled(model, tmp_path)) as session:
        got = np.asarray(session.run(x))
    (expected,) = onnx_export.evaluate(model, x)
    assert got.dtype == expected.dtype == np.float16
    np.testing.assert_allclose(got, expected, rtol=1e-2, atol=1e-2)


# Numbers


def test_outputs_near_zero_are_held_to_an_absolute_difference(
    tmp_path: Path, capsys: Capture
) -> None:
    """ONNX Runtime's sigmoid far below zero is off by 1e-7, which is all of such an output."""
    nodes = [CONV, node("Sub", ["c", "far"], ["d"]), node("Sigmoid", ["d"], ["y"])]
    weights = {"w": KERNEL, "far": np.float32(60)}
    model = foreign_onnx.network({"x": IMAGE}, nodes, {"y": FLOAT}, weights)
    out = compiled(model, tmp_path)
    assert status_of(run, out) == 0
    assert capsys.readouterr().out.endswith("ok\n")
    with tvm_mobilenet.load(out) as session:
        assert np.asarray(session.run(image(*IMAGE))).max() < 1e-6


def test_weights_that_are_no_numbers(tmp_path: Path, capsys: Capture) -> None:
    spoilt = KERNEL.copy()
    spoilt[1, 1, 1, 1] = np.nan
    conv = node("Conv", ["x", "w"], ["c"], name="stem")
    model = foreign_onnx.network({"x": IMAGE}, [conv], {"c": FLOAT}, {"w": spoilt})
    path = foreign_onnx.save(model, tmp_path)
    line = fails(capsys, compile, "--onnx", path, "-o", tmp_path / "out")
    assert "1 of the 108 weights w of Conv (node stem) are nan or infinite" in line


@pytest.mark.parametrize("executor", ["static", "vm"])
def test_denormal_weights_are_flushed(executor: str, tmp_path: Path) -> None:
    """A CPU multiplies by them on a slow path; without them a channel is its bias."""
    tiny = KERNEL.copy()
    tiny[2] *= np.float32(1e-39)
    weights = {"w": tiny, "b": np.arange(4, dtype=np.float32)}
    conv = node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1])
    model = foreign_onnx.network({"x": IMAGE}, [conv], {"c": FLOAT}, weights)
    out = compiled(model, tmp_path, "--executor", executor)
    check_same(out, model, image(*IMAGE))
    with tvm_mobilenet.load(out) as session:
        got = np.asarray(session.run(np.full(IMAGE, 1e37, np.float32)))
        assert (got[0, 2] == 2).all()
    if executor == "static":
        kept = np.fromfile(out / bundle.PARAMETERS, np.float32)
        assert not ((np.abs(kept) < np.finfo(np.float32).tiny) & (kept != 0)).any()


# Files beside the file


def test_external_weights_are_part_of_what_a_bundle_was_made_from(
    tmp_path: Path, capsys: Capture
) -> None:
    known = []
    for scale in (1, 2):
        folder = tmp_path / str(scale)
        folder.mkdir()
        weights = {"w": KERNEL * np.float32(scale)}
        model = foreign_onnx.network({"x": IMAGE}, [CONV], {"c": FLOAT}, weights)
        right = onnx_export.evaluate(model, image(*IMAGE))
        path = folder / "net.onnx"
        onnx.save_model(
            model, str(path), save_as_external_data=True, location="net.data", size_threshold=0
        )
        arguments = ("--onnx", path, "-o", folder / "out", "--on-untuned", "allow")
        assert status_of(compile, *arguments) == 0
        with bundle.open_bundle(folder / "out") as opened:
            known.append(opened.manifest.model)
        assert np.isfinite(right[0]).all()
    assert known[0]["onnx_sha256"] == known[1]["onnx_sha256"]
    assert set(known[0]["weights_sha256"]) == {"net.data"}
    assert known[0]["weights_sha256"] != known[1]["weights_sha256"]
    capsys.readouterr()
    (tmp_path / "1" / "net.data").unlink()
    line = fails(capsys, compile, "--onnx", tmp_path / "1" / "net.onnx", "-o", tmp_path / "out")
    assert "net.data" in line


def test_a_file_newer_than_onnx_runtime_reads(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is run as an older one that says the same."""
    load = onnx_export.open_session

    def loads_old_ones(model: onnx.ModelProto, **options: bool) -> Any:
        if model.ir_version > 10 or model.opset_import[0].version > 20:
            raise TypeError("unsupported version")
        return load(model, **options)

    monkeypatch.setattr(onnx_export, "open_session", loads_old_ones)
    nodes = [CONV, node("Relu", ["c"], ["y"])]
    model = foreign_onnx.network({"x": IMAGE}, nodes, {"y": FLOAT}, {"w": KERNEL}, opset=22)
    model.ir_version = 11
    out = compiled(model, tmp_path)
    assert "(ONNX Runtime)" in capsys.readouterr().out
    check_same(out, model, image(*IMAGE))
