"""``python FILE ARGUMENTS`` in this process, which has all imported already that a script needs."""

from __future__ import annotations

import contextlib
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest


def run(
    script: Path, *arguments: str, folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """As from that folder; what processes print that the script starts is not captured."""
    status: object = 0
    with contextlib.ExitStack() as stack:
        out, err = (stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2))
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.chdir(folder)
            patch.syspath_prepend(str(Path.cwd() / script.parent))
            patch.setattr(sys, "argv", [str(script), *arguments])
            for variable, value in (environment or {}).items():
                patch.setenv(variable, value)
            try:
                runpy.run_path(str(script), run_name="__main__")
            except SystemExit as ended:
                status = ended.code or 0
        if not isinstance(status, int):  # a message, as Python would print it
            err.write(f"{status}\n")
            status = 1
        for file in (out, err):
            file.seek(0)
        command = [str(script), *arguments]
        return subprocess.CompletedProcess(command, status, out.read(), err.read())
