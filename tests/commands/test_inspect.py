"""The ``inspect`` stage, and flags of the C library that make no sense."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import tiny_bundle

from tvm_mobilenet import compile as compile_stage
from tvm_mobilenet import inspect

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("name", ["tiny", "tiny.tar"])
def test_all_that_a_bundle_holds(capsys: Capture, tmp_path: Path, name: str) -> None:
    """Of any machine: nothing of it is loaded."""
    tiny_bundle.write(tmp_path / name, b"no library", cpu_features=("avx9000",))
    assert inspect.main([str(tmp_path / name)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for text in (
        "name tiny, alpha 0.25; weights file",
        "needs        avx9000",
        "static, fp32; C library network",
        "float32 1x3x4x4 (NCHW), rgb (pixel * 0.00392157 - (0.5, 0.5, 0.5)) / (0.25, 0.25, 0.25)",
        "float32 1x3 (NC), logits",
        "3 bytes in parameters.bin",
        "128 bytes",
        "10 model.so",
        "2, 1 tuned",
        "native 2026-01-01, 1.5 us",
    ):
        assert text in out


def test_a_bundle_that_is_damaged(capsys: Capture, tmp_path: Path) -> None:
    tiny_bundle.write(tmp_path / "tiny")
    (tmp_path / "tiny" / "model.so").write_bytes(b"another")
    assert inspect.main([str(tmp_path / "tiny")]) == 2
    assert "model.so is not the file that was compiled" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--executor", "vm", "--static"], "for a C library; leave them out for --executor vm"),
        (
            ["--target", "cuda", "--static"],
            "for the C library of a CPU's bundle; leave them out",
        ),
        (["--name", "Not-C"], "--name Not-C: expected a lower-case C identifier"),
        (["--name", "int"], "--name int: expected a lower-case C identifier"),
    ],
)
def test_flags_of_the_library(capsys: Capture, arguments: list[str], line: str) -> None:
    assert compile_stage.main(arguments) == 2
    assert line in capsys.readouterr().err
