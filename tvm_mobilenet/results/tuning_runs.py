"""How the runs of ``tune`` went, as a tuning log's ``meta.json`` says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tvm_mobilenet import strict
from tvm_mobilenet.database import meta_file
from tvm_mobilenet.errors import BadInput


@dataclass(frozen=True)
class TuningRun:
    """One run: ``curve`` holds (seconds, microseconds of the best kernels together).

    ``what`` was tuned, in kernels of ``precisions``: both are empty in older logs.
    """

    date: str
    seconds: float
    trials: int
    records: int
    interrupted: bool
    curve: tuple[tuple[float, ...], ...]
    failures: dict[str, int]
    what: str = ""
    precisions: tuple[str, ...] = ()

    @property
    def of(self) -> str:
        """What was tuned, with its precisions: times of different ones do not compare."""
        return ", ".join(part for part in (self.what, " and ".join(self.precisions)) if part)


@dataclass(frozen=True)
class TuningRuns:
    """A tuning log's target and its runs."""

    target: str
    device: str
    cpu: str
    tvm_version: str | None
    updated: str
    runs: tuple[TuningRun, ...]


def load(directory: Path) -> TuningRuns:
    """Raises BadInput where the folder is no tuning log, or its file departs from the format."""
    found = meta_file.read(directory)
    if found is None:
        raise BadInput(
            f"{directory}: expected a results file, or the folder of a tuning log, which has a "
            f"{meta_file.META}"
        )
    runs = []
    for place, one in enumerate(found["runs"]):
        try:
            run = strict.read(TuningRun, {"curve": [], "failures": {}, **one})
            if any(len(point) != 2 for point in run.curve):
                raise strict.Unexpected("expected pairs of seconds and microseconds", ".curve")
        except strict.Unexpected as error:
            where = error.within(f"[{place}]").within(".runs")
            raise BadInput(f"{directory / meta_file.META}: {where}") from None
        runs.append(run)
    return TuningRuns(
        found["target_name"],
        found["device"],
        found["cpu"],
        found["tvm_version"],
        found["updated"],
        tuple(runs),
    )
