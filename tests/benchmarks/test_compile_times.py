"""The study of compile times names functions that are there."""

from __future__ import annotations

import subprocess
from collections.abc import Callable


def test_every_phase_has_its_function(
    python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = python("benchmarks/compile_times.py", "--check-phases")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("phases have their functions\n")
