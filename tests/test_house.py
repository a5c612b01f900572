"""The rules of the house that a reader of the imports can hold: one line of data, one direction."""

from __future__ import annotations

import ast
import functools
import graphlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parent.parent
PACKAGE = "tvm_mobilenet"

# The rooms, lowest first: what a room's files import, in functions and for types alone too, lies in
# rooms further up this list, or in the same one. Every file of the package is in one of them.
ROOMS = (
    "errors",
    "numerics",
    "extras",
    "chatter",  # what TVM says of a failure
    "strict",
    "signals",  # that ask a command to end
    "files",
    "ending",  # how a command ends, whatever was raised
    "cli",
    "tvm_runtime",
    "processes",
    "hardware",
    "provenance",
    "models",
    "weights",  # of other programs, for the models
    "network",
    "quantization",  # of a float network, into QDQ ONNX
    "kernels",
    "scheduling",
    "database",
    "compiler",
    "bundle",
    "library",  # the C library that a CPU bundle is
    "runtime",
    "building",  # from an opened network to a bundle that was checked
    "api",  # the public face: compile and load
    "preparation",  # from a network to what is compiled of it
    "network_flags",  # what the commands' flags say of a network
    "core_model",
    "emulation",
    "remote",
    "tuning",
    "results",
    "benchmark",
    "reporting",
    "commands",
)
# The files that are commands, of which none imports another.
COMMANDS = (
    "tune",
    "records",
    "compile",
    "run",
    "inspect",
    "bench",
    "report",
    "devices",
    "cost",
)
# Rooms within a room that are built upon each other, lowest first.
INNER_ROOMS = {
    "compiler": ("graph", "cpu", "cuda"),
    "tuning": ("workers", "measuring", "search"),
    "benchmark": ("engines", "profile", "places"),
}

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
    """The Python files of a folder that must have some: a rule over no file holds nothing."""
    files = sorted((REPOSITORY / folder).rglob("*.py"))
    assert files, f"{folder} holds no Python file; this test names folders that are gone"
    return files


def module_name(file: Path) -> str:
    parts = file.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@functools.cache
def imports_of(file: Path) -> list[Import]:
    tree = tree_of(file)
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
    assert start in files, f"{start} is gone; this test names modules that are not there"
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


def room_of(module: str) -> str | None:
    """The room of what a full name names; None for the package itself and its attributes."""
    parts = module.split(".")
    path = REPOSITORY / PACKAGE / parts[min(1, len(parts) - 1)]
    if len(parts) == 1 or not (path.is_dir() or path.with_suffix(".py").is_file()):
        return None
    return "commands" if parts[1] in (*COMMANDS, "__main__") else parts[1]


def test_every_file_is_in_a_room_and_every_room_has_files() -> None:
    found = {room_of(module_name(file)) for file in files_of(PACKAGE)} - {None}
    assert found == set(ROOMS)
    names = {module_name(file) for file in files_of(PACKAGE)}
    assert {f"{PACKAGE}.{name}" for name in (*COMMANDS, "__main__")} <= names
    for outer, inner in INNER_ROOMS.items():
        assert {f"{PACKAGE}.{outer}.{name}" for name in inner} <= names


@pytest.mark.parametrize("file", identifiers(files_of(PACKAGE)))
def test_imports_go_to_the_same_room_or_lower_ones(file: Path) -> None:
    room = room_of(module_name(file))
    if room is None:
        return  # tvm_mobilenet itself: test_importing_the_package_alone_is_free
    allowed = {None, *ROOMS[: ROOMS.index(room) + 1]}
    upwards = [
        f"line {one.line}: {one.name}"
        for one in imports_of(file)
        if one.top == PACKAGE and room_of(one.name) not in allowed
    ]
    assert not upwards


@pytest.mark.parametrize("outer", INNER_ROOMS)
def test_inner_rooms_are_built_upon_each_other(outer: str) -> None:
    order = INNER_ROOMS[outer]
    upwards = []
    for file in files_of(f"{PACKAGE}/{outer}"):
        inner = file.relative_to(REPOSITORY / PACKAGE / outer).parts[0]
        if inner in order:
            above = {f"{PACKAGE}.{outer}.{name}" for name in order[order.index(inner) + 1 :]}
            upwards += [
                f"{file.name}, line {one.line}: {one.name}"
                for one in imports_of(file)
                if ".".join(one.name.split(".")[:3]) in above
            ]
    assert not upwards


@pytest.mark.parametrize("command", [*COMMANDS, "__main__"])
def test_no_command_imports_another(command: str) -> None:
    others = {f"{PACKAGE}.{name}" for name in (*COMMANDS, "__main__")} - {f"{PACKAGE}.{command}"}
    imported = {one.name for one in imports_of(REPOSITORY / PACKAGE / f"{command}.py")}
    found = {other for other in others for name in imported if f"{name}.".startswith(f"{other}.")}
    assert not found


def test_no_module_imports_itself_through_others() -> None:
    files = {module_name(file): file for file in files_of(PACKAGE)}
    graph: dict[str, set[str]] = {}
    for name, file in files.items():
        graph[name] = set()
        for one in imports_of(file):
            found = one.name if one.name in files else one.name.rpartition(".")[0]
            if one.top == PACKAGE and found != name and not one.typing_only and not one.lazy:
                graph[name].add(found)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"imports go in a circle: {' ← '.join(error.args[1])}")


@pytest.mark.parametrize(("folder", "other"), [("benchmarks", "tests"), ("tests", "benchmarks")])
def test_benchmarks_and_tests_do_not_import_each_other(folder: str, other: str) -> None:
    theirs = {name for file in files_of(other) for name in file.relative_to(REPOSITORY).parts[:2]}
    theirs = {name.removesuffix(".py") for name in theirs}
    ours = {name for file in files_of(folder) for name in file.relative_to(REPOSITORY).parts[1:]}
    ours = {name.removesuffix(".py") for name in ours} | set(sys.stdlib_module_names)
    ours |= {PACKAGE, "schedules", "targets", "tuning_logs"}
    found = [
        f"{file.relative_to(REPOSITORY)}, line {one.line}: {one.name}"
        for file in files_of(folder)
        for one in imports_of(file)
        if one.top in theirs - ours
    ]
    assert not found


def test_importing_the_package_alone_is_free() -> None:
    imports = imports_of(REPOSITORY / PACKAGE / "__init__.py")
    at_once = {one.top for one in imports if not (one.lazy or one.typing_only)}
    assert at_once == {"__future__"}


@pytest.mark.parametrize(
    "name", ["run", "runtime.session", "bundle", "api", "tuning.workers.worker"]
)
def test_what_runs_bundles_or_candidates_imports_no_compiler(name: str) -> None:
    reached = closure(f"{PACKAGE}.{name}", lazy=False)
    found = {module: {one.top for one in imports} & COMPILER for module, imports in reached.items()}
    assert not {module: names for module, names in found.items() if names}


def test_run_imports_no_compiler_even_later() -> None:
    later = imports_of(REPOSITORY / PACKAGE / "run.py")
    assert not {one.top for one in later if not one.typing_only} & COMPILER


def test_report_reads_json_only() -> None:
    reached = closure(f"{PACKAGE}.report", lazy=True)
    found = {module: {one.top for one in imports} & COMPILER for module, imports in reached.items()}
    assert not {module: names for module, names in found.items() if names}
    assert not {module for module in reached if module.startswith(f"{PACKAGE}.benchmark")}


@pytest.mark.parametrize("file", identifiers(files_of(PACKAGE)))
def test_engines_are_the_only_other_runtimes(file: Path) -> None:
    # network asks ONNX Runtime whether it exported right, quantization what tensors are like
    rooms = ("benchmark.engines", "network", "quantization")
    allowed = tuple(f"{PACKAGE}.{room}." for room in rooms)
    if not module_name(file).startswith(allowed):
        assert not {one.top for one in imports_of(file)} & {"onnxruntime", "openvino"}


@pytest.mark.parametrize(
    "file", identifiers([*files_of(PACKAGE), *files_of("schedules"), *files_of("tests")])
)
def test_no_star_imports_and_no_utils(file: Path) -> None:
    assert file.stem not in ("utils", "helpers", "common", "misc")
    tree = tree_of(file)
    stars = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    ]
    assert not stars


@pytest.mark.parametrize("file", identifiers(files_of(PACKAGE)))
def test_functions_behind_a_command_take_no_flags(file: Path) -> None:
    """A command makes values of its flags, some of them by ``cli`` and ``network_flags``."""
    if component_of(file) in (*COMMANDS, "cli", "network_flags"):
        return
    tree = tree_of(file)
    functions = [one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef)]
    assert not [one.name for one in functions if "Namespace" in ast.unparse(one.args)]


OURS = (PACKAGE, "schedules")
# Whose subject is the inside of PyTorch.
OF_TORCH = REPOSITORY / "tests" / "support" / "torch_exporter.py"


@pytest.mark.parametrize("file", identifiers(files_of("tests")))
def test_tests_reach_into_no_privates(file: Path) -> None:
    """What a test needs of ours is public, to be imported, read or replaced."""
    tree = tree_of(file)
    strangers, found = {"self", "cls"}, []
    for node in ast.walk(tree):
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            module = (node.module if isinstance(node, ast.ImportFrom) else None) or alias.name
            if module.partition(".")[0] not in OURS:
                strangers.add(alias.asname or alias.name.partition(".")[0])
            elif is_private(alias.name):
                found.append(alias.name)
    for node in ast.walk(tree):
        of, name = parts_of(node)
        if of is not None and is_private(name) and first_name(of) not in strangers:
            found.append(f"line {of.lineno}: {name}")
    assert not found or file == OF_TORCH


def parts_of(node: ast.AST) -> tuple[ast.expr | None, str]:
    """What an attribute is of, and its name; of ``setattr`` likewise. None for anything else."""
    if isinstance(node, ast.Attribute):
        return node.value, node.attr
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr"):
        match node.args:
            case [of, ast.Constant(value=str(name)), *_]:
                return of, name
    return None, ""


def is_private(name: str) -> bool:
    of_namedtuples = ("_asdict", "_fields", "_replace")
    return name.startswith("_") and not name.endswith("_") and name not in of_namedtuples


def first_name(node: ast.AST) -> str | None:
    """The variable that an expression such as ``a.b[c].d`` begins with."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None
