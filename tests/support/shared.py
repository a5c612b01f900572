"""What the processes of a run make once for all of them, whichever needs it first."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

FOLDER = "TVM_MOBILENET_TESTS_SHARED"  # the variable that names it, in every process of a run


def folder() -> Path:
    """Where they lie, as long as the run's other folders."""
    return Path(os.environ[FOLDER])


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """The file of that name, which ``make`` writes to the path that it is given."""
    made = folder() / name
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be at it
        if not made.exists():
            draft = made.with_suffix(f".draft{made.suffix}")
            make(draft)
            draft.rename(made)
    return made
