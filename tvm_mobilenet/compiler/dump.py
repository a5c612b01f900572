"""The module after each phase of a compilation, written down for people to read."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet.errors import BadInput, RunFailed

if TYPE_CHECKING:
    import tvm


class IrDump:
    """Writes each phase into a folder, numbered in order; without a folder it writes nothing.

    Raises BadInput where the folder cannot be made or written into, RunFailed where writing fails
    later.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._numbers = itertools.count()
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            trial = folder / ".trial"  # permission bits tell nothing on a read-only file system
            trial.touch()
            trial.unlink()
        except OSError as error:
            raise BadInput(
                f"--dump-ir {folder}: cannot be written into: {error.strerror}; name another folder"
            ) from error

    def __call__(self, phase: str, mod: tvm.IRModule) -> None:
        """Write the module as ``NN-phase.py``."""
        if self.folder is not None:
            self.text(f"{phase}.py", mod.script())

    def text(self, name: str, text: str) -> None:
        """Write any other text, such as assembly, as ``NN-name``."""
        if self.folder is None:
            return
        try:
            (self.folder / f"{next(self._numbers):02d}-{name}").write_text(f"{text}\n")
        except OSError as error:
            raise RunFailed(f"--dump-ir {self.folder}: {error.strerror}") from error


NO_DUMP = IrDump(None)
