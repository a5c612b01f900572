"""What is left in the temporary folder by the end of a run, and which test was the first to see it.

Commands and what they start have it to themselves and leave nothing, tests too: a machine on which
they run a hundred times a day is full of it by evening.
"""

from __future__ import annotations

import contextlib
import gc
import os
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

# caches of libraries that stay in this process, each under a name of its own
CACHES = (".ses", "torchinductor_*")  # ONNX Runtime's, PyTorch's


class Leftovers:
    """Of the tests that this process runs, in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen_after: dict[str, str] = {}

    def look(self, test: str) -> None:
        """Once a test is over."""
        for name in os.listdir(self._folder):
            self._seen_after.setdefault(name, test)

    def found(self) -> list[str]:
        """What is there now, each with the test after which it was there first."""
        gc.collect()  # a caught exception's frames hold folders of TVM's, in a circle
        names = sorted(os.listdir(self._folder))
        return [
            f"{name}, after {self._seen_after.get(name, 'the last test')}"
            for name in names
            if not any(fnmatch(name, cache) for cache in CACHES)
        ]


KEY = pytest.StashKey[Leftovers]()


@contextlib.contextmanager
def temporary_folder(folder: Path) -> Iterator[None]:
    """Meanwhile it is that of this process and of those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", str(folder))
        yield
