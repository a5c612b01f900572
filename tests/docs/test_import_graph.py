"""docs/import_graph.py: rooms and imports of a small package, the reduction, the page."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "docs" / "import_graph.py"
FILES = {
    "schedules/__init__.py": "import tvm",
    "tvm_mobilenet/__init__.py": "",
    "tvm_mobilenet/errors.py": "",
    "tvm_mobilenet/run.py": "import tvm_mobilenet.runtime.session\ndef main(): ...\n",
    "tvm_mobilenet/runtime/__init__.py": "",
    "tvm_mobilenet/runtime/session.py": "from tvm_mobilenet import errors\nfrom . import arena\n",
    "tvm_mobilenet/runtime/arena.py": "def f():\n    from tvm_mobilenet.errors import Failed\n",
    "tvm_mobilenet/compiler.py": "import schedules.x86\nfrom tvm_mobilenet import errors, run\n",
}


@pytest.fixture
def imports() -> ModuleType:
    specification = importlib.util.spec_from_file_location("import_graph", SCRIPT)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_room_is_what_lies_at_the_top(imports: ModuleType, package: Path) -> None:
    assert imports.read_graph(package) == {
        "schedules": set(),
        "errors": set(),
        "run": {"runtime"},
        "runtime": {"errors"},
        "compiler": {"schedules", "errors", "run"},
    }


def test_what_a_longer_way_implies_is_left_out(imports: ModuleType, package: Path) -> None:
    assert imports.reduce(imports.read_graph(package))["compiler"] == {"schedules", "run"}


def test_a_circle_is_one_node(imports: ModuleType) -> None:
    graph = {"a": {"b", "d"}, "b": {"c"}, "c": {"a"}, "d": set(), "e": {"c"}}
    joined = {"a + b + c": {"d"}, "d": set(), "e": {"a + b + c"}}
    assert imports.join_circles(graph) == joined
    assert imports.join_circles(joined) == joined


def test_the_picture(imports: ModuleType, package: Path) -> None:
    picture = imports.draw(package, imports.reduce(imports.read_graph(package)))
    assert picture.splitlines() == [
        "```mermaid",
        "flowchart TD",
        '  compiler("compiler")',
        '  errors("errors")',
        '  run(["run"])',
        '  runtime["runtime/"]',
        '  schedules["schedules/"]',
        "  compiler --> run",
        "  compiler --> schedules",
        "  run --> runtime",
        "  runtime --> errors",
        "```",
    ]


def test_a_package_that_is_gone_is_an_error(imports: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no package tvm_mobilenet in"):
        imports.read_graph(tmp_path)


def test_a_page_without_markers_is_an_error(imports: ModuleType) -> None:
    with pytest.raises(ValueError, match="expected the markers"):
        imports.insert("# Design\n", "picture")


def test_the_page_shows_the_imports_of_today() -> None:
    check = [sys.executable, str(SCRIPT), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_check_tells_a_page_that_is_out_of_date(
    imports: ModuleType, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = package / "docs" / "design.md"
    page.parent.mkdir()
    page.write_text(f"above\n{imports.BEGIN}\n{imports.END}\nbelow\n")
    monkeypatch.setattr(imports, "REPOSITORY", package)
    monkeypatch.setattr(sys, "argv", ["import_graph.py", "--check"])
    assert imports.main() == 1
    assert "flowchart" not in page.read_text()
    monkeypatch.setattr(sys, "argv", ["import_graph.py"])
    assert imports.main() == 0
    text = page.read_text()
    assert text.startswith("above\n") and text.endswith("below\n") and "run --> runtime" in text
    monkeypatch.setattr(sys, "argv", ["import_graph.py", "--check"])
    assert imports.main() == 0
