"""``compile --precision bf16``: half the bytes, the same results as far as 8 bits go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.float_networks import mobile
from support.quantized_networks import QuantizedNetwork

import tvm_mobilenet
from tvm_mobilenet import bundle, compile, inspect

Capture = pytest.CaptureFixture[str]
BF16 = ("--precision", "bf16", "--target", "x86-znver4", "--on-untuned", "allow")


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save_model(mobile(np.random.default_rng(3)), "network.onnx")


def command(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    status = compile.main(list(arguments))
    told = capsys.readouterr()
    return status, told.out, told.err


@pytest.mark.isa("avx512_bf16")
@pytest.mark.parametrize("executor", ["static", "vm"])
def test_a_bundle_in_bf16(capsys: Capture, rng: np.random.Generator, executor: str) -> None:
    how = ("--executor", executor, "-o", "b")
    status, out, err = command(capsys, "--onnx", "network.onnx", *BF16, *how)
    assert status == 0, err
    assert "agrees with its reference to" in out
    manifest = bundle.open_bundle("b").manifest
    assert manifest.precision == "bf16"
    assert "avx512_bf16" in manifest.cpu_features
    assert {one.dtype for one in (*manifest.inputs, *manifest.outputs)} == {"float32"}
    assert inspect.main(["b"]) == 0
    assert f"{executor}, bf16" in capsys.readouterr().out
    x = rng.standard_normal((1, 8, 8, 8), dtype=np.float32)
    with tvm_mobilenet.load("b") as session, tvm_mobilenet.load("b", threads=2) as two:
        assert np.isfinite(session.run(x)).all()
        np.testing.assert_array_equal(session.run(x), two.run(x))


@pytest.mark.parametrize("target", ["x86-skylake-avx512", "x86-icelake", "arm-rpi4", "cuda-sm_80"])
def test_cpus_without_it(capsys: Capture, target: str) -> None:
    flags = ("--precision", "bf16", "--target", target)
    status, _, err = command(capsys, "--onnx", "network.onnx", *flags)
    assert status == 2
    assert err == (
        f"error: target {target}: precision bf16 is for CPUs that multiply bfloat16 "
        "(avx512_bf16, or bf16 on ARM); those of arm-apple-m2, arm-graviton3, x86-sapphirerapids, "
        "x86-znver4, x86-znver5 do\n"
    )


def test_a_quantized_network(capsys: Capture) -> None:
    net = QuantizedNetwork((1, 4, 4, 4))
    x = net.start()
    onnx.save_model(net.model(net.quantized(net.convolution(x, 8), 0.01)), "quantized.onnx")
    status, _, err = command(capsys, "--onnx", "quantized.onnx", *BF16)
    assert status == 2
    assert err == (
        "error: --precision bf16: quantized.onnx is quantized already; compile it without, in "
        "int8\n"
    )
