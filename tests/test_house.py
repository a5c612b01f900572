"""The rules of the house that a reader of the imports can hold: one line of data, one direction."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parent.parent
PACKAGE = "tvm_mobilenet"

# What a stage reaches through its imports, in functions and through supporting modules too, are
# earlier stages only. Modules that are not named here support stages; no list has to be kept.
STAGES = (
    "models",
    "onnx_export",
    "relax_import",
    "pipeline",
    "tune",
    "build",
    "bundle",
    "run",
    "compile",  # runs what it made, to check it
    "bench",
    "report",
)
# Commands that nothing else builds upon.
LEAVES = {"__main__", "cost", "report"}

COMPILER = {"tvm", "torch", "onnx", "onnxruntime", "openvino", "onnxscript"}


class Import:
    """One imported module, by absolute name, and how it is imported."""

    def __init__(self, name: str, line: int, lazy: bool, typing_only: bool) -> None:
        self.name, self.line, self.lazy, self.typing_only = name, line, lazy, typing_only

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]

    @property
    def component(self) -> str | None:
        """The component of our package that this imports; None for anything else."""
        parts = self.name.split(".")
        return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else None


def files_of(folder: str) -> list[Path]:
    return sorted((REPOSITORY / folder).rglob("*.py"))


def module_name(file: Path) -> str:
    parts = file.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(file: Path) -> list[Import]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return list(_walk(tree, file, lazy=False, typing_only=False))


def _walk(node: ast.AST, file: Path, lazy: bool, typing_only: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, lazy, typing_only)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(child, file)
            for alias in child.names:
                # "from package import x" may import the module package.x
                name = f"{base}.{alias.name}" if base.partition(".")[0] == PACKAGE else base
                yield Import(name, child.lineno, lazy, typing_only)
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            checking = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            yield from _walk(child, file, lazy or function, typing_only or checking)


def _absolute(node: ast.ImportFrom, file: Path) -> str:
    if not node.level:
        return node.module or ""
    package = list(file.relative_to(REPOSITORY).parts[: -node.level])
    return ".".join([*package, *([node.module] if node.module else [])])


def component_of(file: Path) -> str | None:
    parts = module_name(file).split(".")
    return parts[1] if len(parts) > 1 else None


def closure(start: str, lazy: bool) -> dict[str, list[Import]]:
    """Run-time imports of each module reachable from ``start``; ``lazy``: in functions too."""
    files = {module_name(file): file for file in files_of(PACKAGE)}
    found: dict[str, list[Import]] = {}
    waiting = [start]
    while waiting:
        name = waiting.pop()
        while name and name not in files:
            name = name.rpartition(".")[0]
        if not name or name in found:
            continue
        found[name] = [
            one for one in imports_of(files[name]) if not one.typing_only and (lazy or not one.lazy)
        ]
        waiting += [one.name for one in found[name] if one.top == PACKAGE]
    return found


def identifiers(files: list[Path]) -> Any:
    return [pytest.param(file, id=str(file.relative_to(REPOSITORY))) for file in files]


@pytest.mark.parametrize("file", identifiers(files_of("schedules")))
def test_schedules_import_tvm_only(file: Path) -> None:
    allowed = {"tvm", "tvm_ffi", "schedules", *sys.stdlib_module_names}
    strangers = [
        f"line {one.line}: {one.name}" for one in imports_of(file) if one.top not in allowed
    ]
    assert not strangers


@pytest.mark.parametrize("file", identifiers(files_of("targets") + files_of("tuning_logs")))
def test_data_folders_import_nothing(file: Path) -> None:
    assert not imports_of(file)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reaches_earlier_stages_only(stage: str) -> None:
    later = set(STAGES[STAGES.index(stage) + 1 :])
    trespassers = {
        module: names
        for module, imports in closure(f"{PACKAGE}.{stage}", lazy=True).items()
        if (names := {one.component for one in imports} & later)
    }
    assert not trespassers


@pytest.mark.parametrize("file", identifiers(files_of(PACKAGE)))
def test_nothing_builds_upon_a_leaf(file: Path) -> None:
    imported = {one.component for one in imports_of(file)} & LEAVES
    assert imported <= {component_of(file)}


def test_no_component_imports_itself_through_others() -> None:
    graph: dict[str, set[str]] = {}
    for file in files_of(PACKAGE):
        own = component_of(file)
        if own is not None:
            found = {one.component for one in imports_of(file) if not one.typing_only}
            graph.setdefault(own, set()).update({name for name in found if name} - {own})
    sorter = graphlib.TopologicalSorter(graph)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"imports go in a circle: {' ← '.join(error.args[1])}")


def test_importing_the_package_alone_is_free() -> None:
    imports = imports_of(REPOSITORY / PACKAGE / "__init__.py")
    at_once = {one.top for one in imports if not (one.lazy or one.typing_only)}
    assert at_once == {"__future__"}


@pytest.mark.parametrize("name", ["run", "session", "bundle"])
def test_running_a_bundle_imports_no_compiler(name: str) -> None:
    reached = closure(f"{PACKAGE}.{name}", lazy=False)
    found = {module: {one.top for one in imports} & COMPILER for module, imports in reached.items()}
    assert not {module: names for module, names in found.items() if names}


def test_run_imports_no_compiler_even_later() -> None:
    file = REPOSITORY / PACKAGE / "run.py"
    later = imports_of(file) if file.exists() else []
    assert not {one.top for one in later if not one.typing_only} & COMPILER


def test_report_reads_json_only() -> None:
    reached = closure(f"{PACKAGE}.report", lazy=True)
    found = {module: {one.top for one in imports} & COMPILER for module, imports in reached.items()}
    assert not {module: names for module, names in found.items() if names}
    assert not {module for module in reached if module.startswith(f"{PACKAGE}.engines")}


@pytest.mark.parametrize("file", identifiers(files_of(PACKAGE)))
def test_engines_are_the_only_other_runtimes(file: Path) -> None:
    allowed = {"engines", "onnx_export"}  # onnx_export asks ONNX Runtime whether it exported right
    if component_of(file) not in allowed:
        assert not {one.top for one in imports_of(file)} & {"onnxruntime", "openvino"}


@pytest.mark.parametrize(
    "file", identifiers([*files_of(PACKAGE), *files_of("schedules"), *files_of("tests")])
)
def test_no_star_imports_and_no_utils(file: Path) -> None:
    assert file.stem not in ("utils", "helpers", "common", "misc")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    stars = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    ]
    assert not stars
