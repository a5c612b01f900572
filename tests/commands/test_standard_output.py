"""A full or closed stdout is one line."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from onnx import helper
from support import foreign_onnx, tiny_bundle
from support.stage_ends import ROOT, Capture, ends, fails

from tvm_mobilenet import __main__ as command
from tvm_mobilenet import bundle, compile, cost, devices, run

node = helper.make_node


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny_bundle.write(tmp_path / "tiny", tiny_bundle.classifier())
    return tmp_path / "tiny"


PRINTS: dict[str, tuple[types.ModuleType, tuple[str, ...]]] = {
    "help": (command, ("--help",)),
    "help of run": (run, ("--help",)),
    "help of compile": (compile, ("--help",)),
    "version": (command, ("--version",)),
    "cost": (cost, ()),
    "devices": (devices, ()),
    "run": (run, ("tiny",)),
}


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("buffering", [-1, 1], ids=["buffered", "by line"])
@pytest.mark.parametrize("name", PRINTS)
def test_a_full_stdout(
    name: str, buffering: int, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, arguments = PRINTS[name]
    with open("/dev/full", "w", buffering=buffering, encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        line = fails(capfd, 1, stage, *arguments)
        monkeypatch.undo()
        # as Python does at its end: by now it goes nowhere, and is no error
    assert line == "error: stdout cannot be written: No space left on device\n"


def test_a_table_on_a_full_stdout(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By rich, after the work."""
    path = foreign_onnx.save(foreign_onnx.classifier(node("Relu", ["scores"], ["y"])), tmp_path)
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        arguments = ("--onnx", path, "-o", tmp_path / "out", "--on-untuned", "allow")
        line = fails(capfd, 1, compile, *arguments)
        monkeypatch.undo()
    assert line == "error: stdout cannot be written: No space left on device\n"
    assert bundle.is_bundle(tmp_path / "out")


def test_what_the_encoding_of_stdout_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's name may have any bytes, and a terminal any locale."""
    written = io.BytesIO()
    ascii_only = io.TextIOWrapper(written, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)

    def body() -> int:
        print(os.fsdecode(b"caf\xe9"), "2 ÷ 1")
        return 0

    assert ends(body) == 0
    assert written.getvalue() == rb"caf\udce9 2 \xf7 1" + b"\n"
    assert ascii_only.errors == "strict"


SHELL = {
    "full": (">/dev/full", "stdout cannot be written: No space left on device", 1),
    "closed": (">&-", "stdout is closed; send it to a file, or to /dev/null", 2),
    "head": ("| true", "stdout cannot be written: Broken pipe", 1),
    "nowhere to say it": (">/dev/full 2>/dev/full", "", 1),
    "no stderr": (">/dev/full 2>&-", "", 1),
}


@pytest.mark.parametrize("way", SHELL)
@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_stdout_as_a_shell_gives_it(way: str, unbuffered: str) -> None:
    redirection, says, status = SHELL[way]
    words = f"{sys.executable} -m tvm_mobilenet --help {redirection}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", words],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stderr, done.returncode) == (f"error: {says}\n" if says else "", status)


def test_no_file_gets_the_number_of_a_closed_stderr() -> None:
    """TVM and LLVM print to the number, whatever is behind it."""
    body = "print(open('/dev/zero').fileno() > 2) or 0"
    script = f"from tvm_mobilenet import ending; ending.run(lambda: {body}, debug=False)"
    words = f'{sys.executable} -c "{script}" 2>&- 0>&-'
    done = subprocess.run(["bash", "-c", words], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"True\n")
