"""How a stage ends: its status, and the one line that it says."""

from __future__ import annotations

import argparse
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tvm_mobilenet import cli, compile

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]


def ends(body: Callable[[], int], *, debug: bool = False) -> int:
    """The status of a stage with this body."""
    return cli.run_command(lambda _: body(), argparse.Namespace(debug=debug))


def status_of(stage: types.ModuleType, *arguments: str | Path) -> int:
    try:
        status: int = stage.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return status


def fails(capfd: pytest.CaptureFixture[str], status: int, *arguments: Any) -> str:
    """The one line that a stage ends with, of all that its process writes to stderr."""
    got = status_of(*arguments)
    captured = capfd.readouterr()
    assert got == status, captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def compiled(capfd: Capture, path: Path, out: Path, *flags: str) -> str:
    arguments: tuple[str | Path, ...] = ("--onnx", path, "-o", out, "--on-untuned", "allow", *flags)
    assert status_of(compile, *arguments) == 0
    return capfd.readouterr().out
