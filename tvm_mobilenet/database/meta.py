"""A tuning log's ``meta.json``: of which target it is, and how its runs went."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_mobilenet import tvm_runtime
from tvm_mobilenet.database import meta_file
from tvm_mobilenet.database.meta_file import FORMAT_VERSION, META
from tvm_mobilenet.errors import BadInput, RunFailed
from tvm_mobilenet.files import replace
from tvm_mobilenet.provenance import now

if TYPE_CHECKING:
    from tvm_mobilenet.hardware.target import TargetSpec

# What makes a target another one for a record; the number of cores does not.
TARGET_KEYS = ("kind", "mcpu", "mattr", "mtriple", "keys", "arch")


@dataclass(frozen=True)
class LogTarget:
    """The target that a log's records are of: its name, TVM's dict of it, its device's name."""

    name: str
    target: Mapping[str, Any]
    device: str

    @classmethod
    def of(cls, spec: TargetSpec | LogTarget) -> LogTarget:
        return cls(spec.name, spec.target, spec.device)

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> LogTarget:
        """As a log's ``meta.json`` has it."""
        name = meta["target_name"]
        return cls(name, meta["target"], meta.get("device", name))


def read(directory: Path, target: LogTarget | None, *, required: bool) -> dict[str, Any]:
    """What the folder's file says; empty where there is none and none is ``required``.

    Raises BadInput for a file that cannot be used, or of another target than ``target``.
    """
    found = meta_file.read(directory)
    if found is None:
        if required:
            raise BadInput(f"no tuning records in {directory}: {META} is missing")
        return {}
    meta: dict[str, Any] = dict(found)
    if target is not None and identity(meta["target"]) != identity(target.target):
        raise BadInput(
            f"{directory} holds records of target {meta.get('target_name')}, not {target.name}; "
            "records of another target go in through 'tune --tuning-records', "
            "which measures them again"
        )
    return meta


def new(meta: Mapping[str, Any], target: LogTarget) -> dict[str, Any]:
    """``meta`` brought up to date by who opens the folder for writing; at first it is empty."""
    return {
        "format_version": FORMAT_VERSION,
        "target_name": target.name,
        "target": dict(target.target),
        "device": meta.get("device", target.device),
        "cpu": meta.get("cpu", "unknown"),  # until something is measured
        "tvm_version": tvm_runtime.version(),
        "created": meta.get("created", now()),
        "updated": now(),
        "runs": meta.get("runs", []),
    }


def write(directory: Path, meta: Mapping[str, Any]) -> None:
    """Put ``meta`` into the folder. Raises RunFailed where the disk does not take it."""
    try:
        replace(directory / META, json.dumps(meta, indent=2) + "\n")
    except OSError as error:
        raise RunFailed(f"{directory / META} cannot be written: {error.strerror}") from None


def identity(target: Mapping[str, Any]) -> dict[str, Any]:
    """What of a target's dict decides whether a record of it may be used for another."""
    return {key: target[key] for key in TARGET_KEYS if target.get(key)}
