"""Runs the scripts of benchmarks/ as a user does.

As programs of their own, or in this one, where all that they import has been imported already.
That each is a program, its help says (tests/benchmarks/test_scripts.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from support import script_here

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "benchmarks"
TIMEOUT_S = 240  # a loaded machine included


def run(
    name: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``python benchmarks/NAME.py``, in the repository's root; output captured as text."""
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": path, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def run_here(
    name: str, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The same in this process."""
    return script_here.run(
        FOLDER / f"{name}.py", *arguments, folder=REPOSITORY, environment=environment
    )
