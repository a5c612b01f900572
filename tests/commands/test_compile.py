"""The compile stage's command line: what it writes and prints, and its one-line errors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import float_networks

from tvm_mobilenet import bundle, compile, run
from tvm_mobilenet.building import bundles
from tvm_mobilenet.compiler.options import CompileOptions
from tvm_mobilenet.database import lookup
from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.hardware import cpu, target
from tvm_mobilenet.network import source
from tvm_mobilenet.network.source import Array

Capture = pytest.CaptureFixture[str]
SMALL = ("--alpha", "0.25", "--resolution", "32")


@pytest.fixture(autouse=True)
def without_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel has a record, whatever logs the project ships."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lookup, "shipped_logs", lambda: tmp_path / "no-logs")


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    onnx.save_model(float_networks.separable(), str(path))
    return path


def ok(capsys: Capture, *arguments: str | Path) -> tuple[str, str]:
    """What ``compile`` prints, on stdout and stderr, when it ends well."""
    status = compile.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return captured.out, captured.err


def fails(capsys: Capture, status: int, *arguments: str | Path) -> str:
    """The one line that ``compile`` ends with."""
    try:
        got = compile.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        got = stop.code if isinstance(stop.code, int) else -1
    captured = capsys.readouterr()
    assert got == status, captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def foreign(
    tmp_path: Path, *nodes: onnx.NodeProto, channels: int = 3, rank: int = 4, **weights: Any
) -> Path:
    """An ONNX file of nodes from x, one image of 8x8, to y."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"][:rank])
    given = [
        numpy_helper.from_array(np.asarray(value, np.float32), name)
        for name, value in weights.items()
    ]
    graph = helper.make_graph(list(nodes), "foreign", [x], [y], given)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    path = tmp_path / "foreign.onnx"
    onnx.save_model(model, str(path))
    return path


# What it makes


def test_a_variant_becomes_a_bundle_that_runs(capsys: Capture) -> None:
    out, err = ok(capsys, *SMALL, "--batch", "4", "-o", "small", "--dump-ir", "ir")
    assert "agrees with its reference to" in out.splitlines()[-1]
    assert "mobilenet_v1 0.25-32" in out
    assert "stem_conv2d" in out
    assert "default" in out
    assert err.startswith("warning: 29 of 29 layers have no record")
    assert run.main(["small", "--threads", "2"]) == 0
    assert capsys.readouterr().out.endswith("ok\n")
    manifest = bundle.open_bundle("small").manifest
    assert manifest.inputs[0].shape == (4, 3, 32, 32)
    assert manifest.outputs[0].shape == (4, 1000)
    assert len(manifest.layers) == 29
    assert not any(layer.tuned for layer in manifest.layers)
    assert [path.stem[3:] for path in sorted(Path("ir").iterdir())] == [
        "import",
        "fold",
        "legalize",
        "legalize-rest",
        "schedule",
        "static",
        "lowered",
        "assembly",
    ]


def test_the_default_name_is_the_network_and_target(capsys: Capture) -> None:
    spec = target.resolve("x86")
    out, _ = ok(capsys, *SMALL, "--on-untuned", "allow")
    name = f"mobilenet_v1-0.25-32-{spec.name}"
    assert out.splitlines()[-1].startswith(f"{name}: ")
    assert bundle.open_bundle(name).manifest.inputs[0].shape == (1, 3, 32, 32)
    assert run.main([name]) == 0


def test_a_network_of_one_width_is_named_by_its_resolution(capsys: Capture) -> None:
    out, _ = ok(capsys, "--model", "lcnet_100", "--resolution", "32", "--on-untuned", "allow")
    name = f"lcnet_100-32-{target.resolve('x86').name}"
    assert out.splitlines()[-1].startswith(f"{name}: lcnet_100 32 for ")
    assert bundle.open_bundle(name).manifest.model["model"] == "lcnet_100"
    assert run.main([name]) == 0


def test_a_file_of_another_model(capsys: Capture, small_file: Path) -> None:
    out, err = ok(capsys, "--onnx", small_file, "-o", "small.tar", "--on-untuned", "allow")
    assert out.splitlines()[-1].startswith("small.tar: small.onnx for x86-")
    assert err == ""
    assert Path("small.tar").is_file()
    assert run.main(["small.tar"]) == 0
    with bundle.open_bundle("small.tar") as opened:
        (digest,) = opened.manifest.model.values()
    assert len(digest) == 64


CONV = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
KERNEL = np.random.default_rng(5).standard_normal((4, 1, 3, 3))


@pytest.mark.parametrize(
    ("nodes", "channels", "weights"),
    [
        ([CONV], 1, {"w": KERNEL}),
        ([helper.make_node("Relu", ["x"], ["y"])], 3, {}),
        (
            [
                helper.make_node("Conv", ["x", "w"], ["z"], group=4, pads=[1, 1, 1, 1]),
                helper.make_node("Sigmoid", ["z"], ["s"]),
                helper.make_node("Mul", ["z", "s"], ["y"]),
            ],
            4,
            {"w": KERNEL},
        ),
        (
            [
                helper.make_node("GlobalAveragePool", ["x"], ["p"]),
                helper.make_node("Flatten", ["p"], ["y"]),
            ],
            5,
            {},
        ),
    ],
    ids=["one channel", "no weights", "swish", "pooling alone"],
)
def test_small_foreign_models(
    capsys: Capture,
    tmp_path: Path,
    nodes: list[onnx.NodeProto],
    channels: int,
    weights: dict[str, Array],
) -> None:
    rank = 2 if nodes[-1].op_type == "Flatten" else 4
    path = foreign(tmp_path, *nodes, channels=channels, rank=rank, **weights)
    ok(capsys, "--onnx", path, "-o", "foreign", "--on-untuned", "allow")
    assert run.main(["foreign"]) == 0
    capsys.readouterr()
    assert run.main(["foreign", "--threads", "2"]) == 0


def test_for_another_cpu_it_is_written_but_not_run(
    capsys: Capture, small_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lesser = cpu.host_features() - {"avx512f"}
    monkeypatch.setattr(cpu, "host_features", lambda: lesser)
    arguments = ("--target", "x86-skylake-avx512", "--onnx", small_file, "-o", "other")
    out, _ = ok(capsys, *arguments)
    assert out.splitlines()[-1].endswith("not run here: made for another CPU")
    manifest = json.loads(Path("other", "manifest.json").read_text())
    assert "avx512f" in manifest["cpu_features"]
    assert run.main(["other"]) == 2
    assert "avx512f" in capsys.readouterr().err


def test_a_wrong_result_leaves_no_bundle(small_file: Path, tmp_path: Path) -> None:
    right = source.from_onnx(small_file)

    def wrong(x: Array) -> tuple[Array, ...]:
        return tuple(output * np.float32(1.001) for output in right.reference(x))

    network = dataclasses.replace(right, reference=wrong)
    with pytest.raises(RunFailed, match=r"differs from its reference by 1\.0e-03, 1e-04 allowed"):
        bundles.build_bundle(network, CompileOptions(target.resolve("x86")), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_is_replaced_by_a_newer_one(capsys: Capture, small_file: Path) -> None:
    for _ in range(2):
        ok(capsys, "--onnx", small_file, "-o", "small", "--on-untuned", "allow")
    assert run.main(["small"]) == 0


# Untuned kernels


def test_untuned_kernels_are_an_error_where_asked(capsys: Capture, small_file: Path) -> None:
    line = fails(capsys, 1, "--onnx", small_file, "--on-untuned", "error", "-o", "small")
    assert "no record for 5 of 5 layers" in line, "as many as the warning counts"
    for kind in ("stem_conv2d_", "depthwise_conv2d_", "pointwise_conv2d_", "dense_"):
        assert kind in line
    assert not Path("small").exists()


# Bad input, before any work


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("the input was bad, and yet a network was made")

    monkeypatch.setattr(source, "from_config", refuse)
    monkeypatch.setattr(bundles, "build_bundle", refuse)


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--target", "x86-imaginary"), "unknown target 'x86-imaginary'; known: x86 (this host)"),
        (("--target", "absent.toml"), "target file absent.toml"),
        (("--alpha", "0"), "--alpha: expected a number above 0 and at most 2, got '0'"),
        (("--alpha", "2.5"), "above 0 and at most 2, got '2.5'"),
        (("--alpha", "wide"), "above 0 and at most 2, got 'wide'"),
        (("--resolution", "100"), "resolution: expected a multiple of 32, got 100"),
        (("--resolution", "0"), "expected a whole number of at least 32, got '0'"),
        (("--batch", "0"), "a whole number of at least 1, got '0'"),
        (("--model", "mobilenet_v9"), "unknown model 'mobilenet_v9'; known: mobilenet_v1"),
        (("--model", "resnet18", "--alpha", "0.5"), "resnet18 has one width; drop alpha 0.5"),
        (("--onnx", "absent.onnx"), "ONNX file absent.onnx: no such file"),
        (("--onnx", "broken.onnx"), "ONNX file broken.onnx: not an ONNX model"),
        (("--output", "/proc/absent/bundle"), "/proc/absent/bundle"),
        (("--output", "precious"), "precious"),
        (("--on-untuned", "maybe"), "'maybe'"),
        (("--tuning-records", "absent"), "absent"),
        (("--dump-ir", "/proc/ir"), "--dump-ir /proc/ir: cannot be written into: "),
        (("--dump-ir", "broken.onnx"), "--dump-ir broken.onnx: cannot be written into: "),
    ],
    ids=[
        "target",
        "target file",
        "alpha 0",
        "alpha above",
        "alpha no number",
        "resolution",
        "resolution 0",
        "batch",
        "model",
        "one width",
        "no onnx",
        "malformed onnx",
        "output folder",
        "output is no bundle",
        "policy",
        "records",
        "a folder for IR that cannot be made",
        "a file for that folder",
    ],
)
def test_bad_input(capsys: Capture, arguments: tuple[str, ...], says: str) -> None:
    Path("broken.onnx").write_bytes(b"not onnx at all")
    Path("precious").mkdir()
    Path("precious", "photo.jpg").write_bytes(b"")
    assert says in fails(capsys, 2, *arguments)
    assert sorted(path.name for path in Path().iterdir()) == ["broken.onnx", "precious"]
    assert [path.name for path in Path("precious").iterdir()] == ["photo.jpg"]


def test_unknown_target_lists_those_known(capsys: Capture) -> None:
    line = fails(capsys, 2, "--target", "pdp11")
    assert all(name in line for name in target.known())


def test_onnx_that_cannot_be_compiled_is_named(capsys: Capture, tmp_path: Path) -> None:
    path = foreign(tmp_path, helper.make_node("Det", ["x"], ["y"]))
    assert "Det" in fails(capsys, 2, "--onnx", path, "-o", "foreign")
    assert not Path("foreign").exists()
