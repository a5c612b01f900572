"""``compile --precision fp16`` on ARM: what it says, and whom it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.float_networks import mobile
from support.quantized_networks import QuantizedNetwork

from tvm_mobilenet import bundle, compile, inspect
from tvm_mobilenet.hardware import target as targets

Capture = pytest.CaptureFixture[str]
FP16 = ("--precision", "fp16", "--target", "arm-rpi5", "--on-untuned", "allow")
HAVE = (
    "arm-apple-m1, arm-apple-m2, arm-graviton2, arm-graviton3, arm-jetson-orin, arm-rk3566, "
    "arm-rpi5"
)


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def command(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    status = compile.main(list(arguments))
    told = capsys.readouterr()
    return status, told.out, told.err


def test_a_bundle_in_fp16(capsys: Capture) -> None:
    onnx.save_model(mobile(np.random.default_rng(3)), "network.onnx")
    status, out, err = command(capsys, "--onnx", "network.onnx", *FP16, "-o", "b")
    assert status == 0, err
    assert "fp16_pointwise_conv2d_2x2x16_32" in out
    with bundle.open_bundle("b", "aarch64") as opened:
        manifest = opened.manifest
        assert manifest.precision == "fp16"
        assert "asimdhp" in manifest.cpu_features, "what a core is asked for when it is loaded"
        assert {one.dtype for one in (*manifest.inputs, *manifest.outputs)} == {"float32"}
        assert opened.tolerance() >= 1e-2
    assert inspect.main(["b"]) == 0
    assert "static, fp16" in capsys.readouterr().out


@pytest.mark.parametrize("target", ["arm-rpi4", "arm-rpi3", "arm-rpi2-armv7", "x86-znver4"])
def test_targets_without_it(capsys: Capture, target: str) -> None:
    status, _, err = command(capsys, "--precision", "fp16", "--target", target)
    assert status == 2
    assert err == (
        f"error: target {target}: precision fp16 is for GPUs and for ARM cores with arithmetic "
        f"over float16; those of {HAVE} have it\n"
    )


def test_a_core_that_is_not_ours(capsys: Capture) -> None:
    """What a core can is what LLVM says of it: a Cortex-A75 can, of which no target here is."""
    text = (Path(targets.__file__).parents[2] / "targets" / "arm-rpi5.toml").read_text()
    Path("a75.toml").write_text(text.replace("cortex-a76", "cortex-a75"))
    Path("a53.toml").write_text(text.replace("cortex-a76", "cortex-a53"))
    onnx.save_model(mobile(np.random.default_rng(3)), "network.onnx")
    flags = ("--onnx", "network.onnx", "--precision", "fp16", "--on-untuned", "allow")
    assert command(capsys, *flags, "--target", "a53.toml")[0] == 2
    status, _, err = command(capsys, *flags, "--target", "a75.toml", "-o", "b")
    assert status == 0, err


def test_a_quantized_network(capsys: Capture) -> None:
    net = QuantizedNetwork((1, 4, 4, 4))
    x = net.start()
    onnx.save_model(net.model(net.quantized(net.convolution(x, 8), 0.01)), "quantized.onnx")
    status, _, err = command(capsys, "--onnx", "quantized.onnx", *FP16)
    assert status == 2
    assert err == (
        "error: --precision fp16: quantized.onnx is quantized already; compile it without, in "
        "int8\n"
    )


def test_weights_that_do_not_fit(capsys: Capture) -> None:
    model = mobile(np.random.default_rng(3))
    (weight,) = (one for one in model.graph.initializer if one.name == "w4")
    array = onnx.numpy_helper.to_array(weight) * 1e6
    weight.CopyFrom(onnx.numpy_helper.from_array(array, "w4"))
    onnx.save_model(model, "network.onnx")
    status, _, err = command(capsys, "--onnx", "network.onnx", *FP16)
    assert status == 1
    assert "--precision fp16: the network has a weight of " in err
    assert err.endswith(", fp16's largest is 65504; compile it in fp32\n") and err.count("\n") == 1
