"""``tvm-mobilenet``: help without heavy imports, hand-over, unknown commands."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

import tvm_mobilenet
from tvm_mobilenet import __main__ as command

HEAVY = ("numpy", "onnx", "onnxruntime", "rich", "torch", "tvm", "tvm_ffi", "xgboost")


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, summary in command.COMMANDS.items():
        assert any(line.split() == [name, *summary.split()] for line in lines)
    assert max(map(len, lines)) <= 80


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out == f"tvm-mobilenet {tvm_mobilenet.__version__}\n"


@pytest.mark.parametrize(
    ("argv", "says"), [(["train"], "unknown command 'train'"), ([], "no command given")]
)
def test_unknown_command(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(argv) == 2
    error = capsys.readouterr().err
    assert error == f"error: {says}; there are: {', '.join(command.COMMANDS)}\n"


@pytest.mark.parametrize("name", command.COMMANDS)
def test_hands_over(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []
    stage = types.ModuleType(name)

    def main(argv: list[str]) -> int:
        given.append(argv)
        return 7

    stage.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, command.module_of(name), stage)
    assert command.main([name, "--threads", "1"]) == 7
    assert given == [["--threads", "1"]]


@pytest.mark.parametrize(
    "argv", [["--help"], *([name, "--help"] for name in command.COMMANDS)], ids=" ".join
)
def test_help_imports_nothing_heavy(argv: list[str], python: Any) -> None:
    done = python("-X", "importtime", "-m", "tvm_mobilenet", *argv)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: tvm-mobilenet")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "tvm_mobilenet" in imported
    assert imported.isdisjoint(HEAVY)


@pytest.mark.parametrize("name", command.COMMANDS)
def test_a_command_runs_as_a_module(name: str, python: Any) -> None:
    done = python("-m", command.module_of(name), "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: tvm-mobilenet {name}"), done.stderr
