"""A folder for what a run builds, gone with the run however that ends."""

from __future__ import annotations

import contextlib
import shutil
import subprocess

from tvm_mobilenet import files

# Its standard input ends when the tuner does, by kill -9 too; the workers need a moment to follow.
JANITOR = 'read -r _; sleep 1; rm -rf -- "$1"'


class Scratch:
    """A new temporary folder, ``path``; a process of its own removes it if this one dies.

    Raises BadInput where none can be made.
    """

    def __init__(self) -> None:
        self.path = files.make_temporary_folder()
        self._janitor = subprocess.Popen(
            ["/bin/sh", "-c", JANITOR, "sh", str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the tuner
        )

    def remove(self) -> None:
        """Remove the folder and all in it."""
        self._janitor.kill()
        self._janitor.wait()
        if self._janitor.stdin is not None:
            with contextlib.suppress(OSError):
                self._janitor.stdin.close()
        shutil.rmtree(self.path, ignore_errors=True)
