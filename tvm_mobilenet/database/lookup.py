"""Where a target's records are found: the user's own come before those that ship."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet.database.store import Records

if TYPE_CHECKING:
    from tvm_mobilenet.hardware.target import TargetSpec

TUNING_LOGS = Path("tuning_logs")
NO_RECORDS = Path("none")


def open_records(spec: TargetSpec, folder: Path | None) -> Records | None:
    """The records of ``folder``, or of tuning_logs/<target>; None where that does not exist.

    The working directory's logs come before those that ship with the project. A folder ``none``
    stands for no records.
    """
    if folder is not None:
        return None if folder == NO_RECORDS else Records.open(folder, spec)
    for logs in (TUNING_LOGS, shipped_logs()):
        if (logs / spec.name).is_dir():
            return Records.open(logs / spec.name, spec)
    return None


def shipped_logs() -> Path:
    """The tuning logs that come with the project."""
    return Path(str(importlib.resources.files("tuning_logs")))
