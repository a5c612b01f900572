"""What the tests' own temporary folder is held to, and what they make once in a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import shared
from support.leftovers import Leftovers


def test_what_is_left_is_told_with_the_test_after_which_it_was_there(tmp_path: Path) -> None:
    found = Leftovers(tmp_path)
    (tmp_path / "goes").mkdir()
    found.look("first")
    (tmp_path / "stays").mkdir()
    found.look("second")
    (tmp_path / "goes").rmdir()
    found.look("third")
    (tmp_path / "torchinductor_me").mkdir()
    (tmp_path / "late").touch()
    assert found.found() == ["late, after the last test", "stays, after second"]


def test_a_file_is_made_once_and_only_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(shared.FOLDER, str(tmp_path))

    def fail(made: Path) -> None:
        made.write_text("half of it")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        shared.made_once("a.o", fail)
    first = shared.made_once("a.o", lambda made: made.write_text("first"))
    second = shared.made_once("a.o", lambda made: made.write_text("second"))
    assert first == second == tmp_path / "a.o"
    assert first.read_text() == "first"
