"""Where records are: those of the user's own runs, and those that ship.

``tune`` writes into ``tuning_records/<target>`` of the working directory, which git ignores.
``compile`` takes a kernel's schedule from there first, then from ``tuning_logs/<target>`` of the
working directory, then from the logs that ship with the project.
"""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet.database.store import Records
from tvm_mobilenet.errors import BadInput

if TYPE_CHECKING:
    from tvm_mobilenet.hardware.target import TargetSpec

WORK = Path("tuning_records")
LOGS = Path("tuning_logs")
NO_RECORDS = Path("none")
GITIGNORE = (
    "# written by tvm-mobilenet tune; what is worth keeping: tvm-mobilenet records best\n*\n"
)


def work_directory(spec: TargetSpec) -> Path:
    """Where ``tune`` puts the records of a target unless told otherwise."""
    return WORK / spec.name


def make_work_directory(spec: TargetSpec) -> Path:
    """That folder's path; what holds it is made, and ignored by git. Raises BadInput where not."""
    ignore = WORK / ".gitignore"
    try:
        if not ignore.exists():
            WORK.mkdir(exist_ok=True)
            ignore.write_text(GITIGNORE, encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"{WORK} cannot be written here ({error.strerror}); name a folder with --work-dir"
        ) from None
    return work_directory(spec)


def shipped_logs() -> Path:
    """The tuning logs that come with the project."""
    return Path(str(importlib.resources.files("tuning_logs")))


def open_records(spec: TargetSpec, folder: Path | None) -> Records | None:
    """The records to compile for ``spec`` with: of ``folder``, else of every place there is.

    None where there are none, or ``folder`` is ``none``. Raises BadInput as ``Records.open`` does.
    """
    if folder is not None:
        return None if folder == NO_RECORDS else Records.open(folder, spec)
    found: Records | None = None
    for log in reversed(existing_logs(spec)):
        found = Records.open(log, spec, fallback=found)
    return found


def existing_logs(spec: TargetSpec) -> list[Path]:
    """The logs of a target, each once, in the order in which they are asked."""
    found: dict[Path, Path] = {}
    for place in (work_directory(spec), LOGS / spec.name, shipped_logs() / spec.name):
        if place.is_dir():
            found.setdefault(place.resolve(), place)
    return list(found.values())
