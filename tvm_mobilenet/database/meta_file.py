"""The format of a tuning log's ``meta.json``, for those who show a log and need no TVM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_mobilenet import files, strict
from tvm_mobilenet.errors import BadInput

FORMAT_VERSION = 1
META = "meta.json"


@dataclass(frozen=True)
class LogMeta:
    """What the file holds; each of ``runs`` tells how a run of ``tune`` went."""

    format_version: int
    target_name: str
    target: Mapping[str, Any]
    device: str
    cpu: str
    tvm_version: str | None
    created: str
    updated: str
    runs: tuple[Mapping[str, Any], ...]


def read(directory: Path) -> Mapping[str, Any] | None:
    """What the folder's file says; None where there is none.

    Raises BadInput for a file that cannot be read or departs from the format.
    """
    path = directory / META
    if not path.exists():
        return None
    text = files.read_text(path, str(path))
    try:
        document = strict.parse_json(text)
        strict.check_version(document, FORMAT_VERSION)
        strict.read(LogMeta, document)
    except strict.Unexpected as error:
        raise BadInput(f"{path}: {error}") from None
    meta: dict[str, Any] = document
    return meta
