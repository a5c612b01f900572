"""The runtime that tests compile once is what every library would compile for itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import kept_runtime, tiny_bundle

from tvm_mobilenet.library import building


def object_files(name: str, folder: Path) -> list[bytes]:
    """Of the runtime and the description, for a network of that name."""
    folder.mkdir()
    network = tiny_bundle.network_of(tiny_bundle.manifest(name=name))
    tools = building.toolchain_of(tiny_bundle.HOST)
    return [
        (folder / file).read_bytes() for file in building.compile_runtime(network, folder, tools)
    ]


def test_a_kept_runtime_is_the_compiled_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("first", "other_2")
    with monkeypatch.context() as patch:
        patch.setattr(building, "compile_source", kept_runtime.compile_anew)
        compiled = [object_files(name, tmp_path / f"compiled {name}") for name in names]
    assert compiled[0] != compiled[1]
    calls: list[tuple[str, ...]] = []
    run = building.Toolchain.run

    def counted(tools: building.Toolchain, folder: Path, *arguments: str) -> None:
        calls.append(arguments)
        run(tools, folder, *arguments)

    monkeypatch.setattr(building.Toolchain, "run", counted)
    with kept_runtime.used():
        kept = [object_files(name, tmp_path / f"kept {name}") for name in names]
    assert kept == compiled
    assert len(calls) == len(compiled[0]) + 1, "for the second network its description alone"
