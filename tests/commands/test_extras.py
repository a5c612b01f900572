"""The extras of ``pip install``: what they bring, and the line that names one that is missing."""

from __future__ import annotations

import builtins
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tvm_mobilenet
from tvm_mobilenet import extras, tvm_runtime
from tvm_mobilenet.errors import RunFailed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]

# Run a command in a Python that lacks one module.
WITHOUT = "import sys; sys.modules[{module!r}] = None; from tvm_mobilenet.__main__ import main; "

Python = Callable[..., subprocess.CompletedProcess[str]]


def names(requirements: list[str]) -> set[str]:
    """The distributions that requirements name, as PyPI spells them."""
    found = {re.match(r"[\w.-]+", one)[0] for one in requirements}  # type: ignore[index]
    return {re.sub(r"[-_.]+", "-", name).lower() for name in found}


@pytest.mark.parametrize("extra", extras.MODULES)
def test_an_extra_brings_its_modules(extra: str) -> None:
    listed = names(PROJECT["optional-dependencies"][extra])
    of_module = importlib.metadata.packages_distributions()
    for module in extras.MODULES[extra]:
        if module not in of_module:
            pytest.skip(f"{module} is not installed here: pip install '.[{extra}]'")
        assert names(of_module[module]) & listed, f"{extra} does not bring {module}"


def test_running_a_bundle_needs_no_extra() -> None:
    assert names(PROJECT["dependencies"]) == {"numpy", "tomli"}


def test_the_version_stands_in_both_places() -> None:
    assert PROJECT["version"] == tvm_mobilenet.__version__


def test_a_wheel_holds_every_file_of_the_packages() -> None:
    data = PYPROJECT["tool"]["setuptools"]["package-data"]
    for package in ("tvm_mobilenet", "schedules", "targets", "tuning_logs"):
        folder = REPOSITORY / package
        patterns = [*(f"**/{pattern}" for pattern in data["*"]), *data.get(package, ())]
        packed = {file for pattern in ("**/*.py", *patterns) for file in folder.glob(pattern)}
        files = {file for file in folder.rglob("*") if file.is_file() and not ignored(file)}
        assert files, f"{package} is gone"
        assert files <= packed, files - packed


def ignored(file: Path) -> bool:
    return file.suffix == ".pyc" or file.name == ".lock"


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("torch", ["compile", "--alpha", "0.25", "--resolution", "32", "-o", "m"], "compile"),
        ("rich", ["compile", "-o", "m"], "compile"),
        ("onnx", ["tune", "--dry-run"], "compile"),
        ("xgboost", ["tune"], "tune"),
        ("psutil", ["tune", "--dry-run"], "tune"),
        ("rich", ["devices"], "report"),
        ("rich", ["cost"], "report"),
        ("rich", ["bench", "m"], "bench"),
        ("jinja2", ["report", "results.json", "-o", "report.html"], "report"),
    ],
)
def test_a_missing_module_is_one_line_that_names_its_extra(
    module: str, arguments: list[str], extra: str, python: Python
) -> None:
    done = python("-c", f"{WITHOUT.format(module=module)}sys.exit(main({arguments!r}))")
    expected = f"error: {module} is not installed: pip install 'tvm-mobilenet[{extra}]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_a_tvm_of_which_only_a_half_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where memory is limited: what it raises is any error of its own."""
    real = builtins.__import__

    def load(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "tvm":
            raise AttributeError("no attribute 'RegisterOpAttr'")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", load)
    with pytest.raises(RunFailed, match=r"AttributeError: no attribute .*; pip install .* memory"):
        tvm_runtime.compiler.__wrapped__()


def test_a_missing_module_of_no_extra_stays_an_error(python: Python) -> None:
    done = python("-c", f"{WITHOUT.format(module='json')}sys.exit(main(['cost']))")
    assert (done.returncode, done.stderr) == (
        1,
        "error: json is not installed, and this command needs it\n",
    )
