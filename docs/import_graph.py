"""The picture of imports in design.md, drawn from the imports themselves.

    python docs/import_graph.py            # writes it between the markers in docs/design.md
    python docs/import_graph.py --check    # exits 1 where design.md shows another picture

A node is a room: a folder or a module at the top of ``tvm_mobilenet/``, or ``schedules/``. An edge
says that a file of one room imports another room, in a function and for type checkers only too.
Edges that follow from others are left out (transitive reduction). Rooms that import each other, in
a circle, are drawn as one node. Standard library only.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = Path("docs/design.md")
PACKAGE = "tvm_mobilenet"
SCHEDULES = "schedules"
BEGIN, END = "<!-- imports:begin -->", "<!-- imports:end -->"

Graph = dict[str, set[str]]


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the imports in docs/design.md.")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    args = parser.parse_args()
    page = REPOSITORY / PAGE
    before = page.read_text(encoding="utf-8")
    try:
        graph = reduce(join_circles(read_graph(REPOSITORY)))
        after = insert(before, draw(REPOSITORY, graph))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if after == before:
        return 0
    if args.check:
        print(f"error: {PAGE} shows other imports; run python docs/import_graph.py")
        return 1
    page.write_text(after, encoding="utf-8")
    return 0


def read_graph(root: Path) -> Graph:
    """For each room, the rooms it imports. Raises ValueError where a package is not there."""
    files = [file for name in (PACKAGE, SCHEDULES) for file in sorted((root / name).rglob("*.py"))]
    modules = {".".join(parts_of(file, root)): file for file in files}
    for name in (PACKAGE, SCHEDULES):
        if name not in modules:
            raise ValueError(f"no package {name} in {root}")
    graph: Graph = {}
    for name, file in modules.items():
        room = room_of(name)
        if room is None:
            continue
        found = graph.setdefault(room, set())
        for imported in imports_of(file, root):
            other = room_of(imported) if imported in modules else room_of(parent_of(imported))
            if other is not None and other != room:
                found.add(other)
    return graph


def room_of(module: str) -> str | None:
    """The room of a module by its dotted name; None for the package itself and for strangers."""
    first, _, rest = module.partition(".")
    if first == SCHEDULES:
        return SCHEDULES
    room = rest.partition(".")[0]
    # __main__ names the commands and imports the one that is asked for
    return room if first == PACKAGE and room not in ("", "__main__") else None


def parent_of(module: str) -> str:
    return module.rpartition(".")[0]


def parts_of(file: Path, root: Path) -> tuple[str, ...]:
    parts = file.relative_to(root).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports_of(file: Path, root: Path) -> Iterator[str]:
    """Dotted names; of ``from a import b``, which may be a module or not, ``a.b``."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            folder = file.relative_to(root).parts[: -node.level] if node.level else ()
            base = ".".join([*folder, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def join_circles(graph: Mapping[str, set[str]]) -> Graph:
    """Rooms in a circle as one, named ``a + b``; every other room stays itself."""
    reached = {room: reach(graph, room) for room in graph}
    joined = {
        room: " + ".join(sorted({room, *(one for one in reached[room] if room in reached[one])}))
        for room in graph
    }
    result: Graph = {name: set() for name in joined.values()}
    for room, others in graph.items():
        result[joined[room]] |= {joined[other] for other in others} - {joined[room]}
    return result


def reach(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """The rooms that ``start`` imports, directly or through others."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph[waiting.pop()] - found
        found |= new
        waiting += new
    return found


def reduce(graph: Mapping[str, set[str]]) -> Graph:
    """Without the edges that a longer way implies; ``graph`` has no circle."""
    reached = {room: reach(graph, room) for room in graph}
    return {
        room: {
            other
            for other in others
            if not any(other in reached[between] for between in others - {other})
        }
        for room, others in graph.items()
    }


def draw(root: Path, graph: Graph) -> str:
    """A Mermaid flowchart: folders as boxes, modules rounded, commands as stadiums."""
    name = {room: room.replace(" + ", "_") for room in sorted(graph)}
    lines = ["```mermaid", "flowchart TD"]
    lines += [f"  {name[room]}{shape_of(root, room)}" for room in name]
    lines += [f"  {name[room]} --> {name[other]}" for room in name for other in sorted(graph[room])]
    return "\n".join([*lines, "```"])


def shape_of(root: Path, room: str) -> str:
    if " + " in room or room == SCHEDULES or (root / PACKAGE / room).is_dir():
        return f'["{room}/"]'
    return f'(["{room}"])' if is_command(root / PACKAGE / f"{room}.py") else f'("{room}")'


def is_command(file: Path) -> bool:
    """Whether the module is run as a program: it has a function ``main``."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)


def insert(page: str, picture: str) -> str:
    """The page with ``picture`` between its markers. Raises ValueError where they are not there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE}: expected the markers {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{picture}\n\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
