"""What every script of benchmarks/ has: a command that its docstring gives, and quick help."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from support.benchmark_scripts import FOLDER

HEAVY = ("onnx", "onnxruntime", "rich", "torch", "tvm", "tvm_ffi", "xgboost")
SCRIPTS = [path for path in sorted(FOLDER.glob("*.py")) if "__main__" in path.read_text()]


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) >= 10


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.stem))
def test_the_docstring_gives_the_command_and_help_imports_nothing_heavy(
    script: Any, python: Any
) -> None:
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    assert f"\n    python benchmarks/{script.name}" in text
    done = python("-X", "importtime", str(script), "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert imported.isdisjoint(HEAVY)
