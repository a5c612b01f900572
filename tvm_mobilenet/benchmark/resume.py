"""Going on with a sweep that was interrupted: its rows count where nothing else has changed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.provenance import Machine
from tvm_mobilenet.results import schema
from tvm_mobilenet.results.schema import ResultRow, Results

Network = tuple[str, float | None, int]  # model, alpha, resolution
# what two parts of one file have to share, and how it is called
_SAME = {
    "cpu": "CPU",
    "cores": "number of cores",
    "governor": "governor",
    "os": "operating system",
    "python": "Python",
    "versions": "versions of packages",
}


def load(path: Path, command: str, machine: Machine) -> Results | None:
    """The results so far; None where there is no file yet.

    Raises BadInput where the file cannot be read, or was made by another command, on another
    machine or with other versions.
    """
    if not path.exists():
        return None
    results = schema.load(path)
    if results.command != command:
        raise BadInput(
            f"--resume: {path} was made by {results.command or 'an unknown command'!r}; expected "
            f"{command!r}"
        )
    for key, name in _SAME.items():
        before, now = getattr(results.machine, key), getattr(machine, key)
        if before != now:
            raise BadInput(
                f"--resume: {path} was made with another {name}: {_shown(before, now)}; measure "
                "into another file"
            )
    if _device(results.machine) != _device(machine):
        raise BadInput(f"--resume: {path} was measured on another device")
    return results


def _shown(before: object, now: object) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        return ", ".join(f"{one} {before.get(one)}, now {now.get(one)}" for one in names)
    return f"{before}, now {now}"


def _device(machine: Machine) -> object:
    """What of a device does not change from run to run."""
    return machine.device and dataclasses.replace(machine.device, temperature_c=(), governor=None)


def network_of(row: ResultRow) -> Network:
    return row.model, row.alpha, row.resolution


def measured(results: Results) -> set[tuple[Network, int]]:
    """The networks that have rows, with their thread counts: rows of one are written at once."""
    return {(network_of(row), row.threads) for row in results.results}
