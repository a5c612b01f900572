"""What a report is made of: results of ``bench``, profiles, tuning logs, told apart by content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_mobilenet import files, strict
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.results import profiles, schema, tuning_runs
from tvm_mobilenet.results.profiles import Profiles
from tvm_mobilenet.results.schema import Results
from tvm_mobilenet.results.tuning_runs import TuningRuns


@dataclass(frozen=True)
class Inputs:
    """Everything of one report, each with the name of the file it is from."""

    results: tuple[tuple[str, Results], ...] = ()
    profiles: tuple[tuple[str, Profiles], ...] = ()
    tuning: tuple[tuple[str, TuningRuns], ...] = ()


def load(paths: Sequence[Path]) -> Inputs:
    """Read files and tuning logs. Raises BadInput for one that is none, or departs from its format.

    A file that is given twice is one that somebody mistyped: BadInput too.
    """
    twice = [path for place, path in enumerate(paths) if path in paths[:place]]
    if twice:
        raise BadInput(f"{twice[0]}: given twice")
    results: list[tuple[str, Results]] = []
    found: list[tuple[str, Profiles]] = []
    logs: list[tuple[str, TuningRuns]] = []
    for path in paths:
        if path.is_dir():
            logs.append((str(path), tuning_runs.load(path)))
            continue
        one = _load_file(path)
        if isinstance(one, Profiles):
            found.append((str(path), one))
        else:
            results.append((str(path), one))
    return Inputs(tuple(results), tuple(found), tuple(logs))


def _load_file(path: Path) -> Results | Profiles:
    text = files.read_text(path, str(path))
    try:
        document = strict.parse_json(text)
        if isinstance(document, dict) and "profiles" in document:
            return profiles.read(document)
        if isinstance(document, dict) and document and "results" not in document:
            raise BadInput(f"{path}: no results of `bench`, and no profile, in it")
        return schema.read(document)
    except strict.Unexpected as error:
        raise BadInput(f"{path}: {error}") from None


def is_results(path: Path) -> bool:
    """Whether a file says of itself that it holds results of ``bench``, right or wrong."""
    try:
        document = strict.parse_json(files.read_text(path, str(path)))
    except strict.Unexpected:
        return False
    rows = document.get("results") if isinstance(document, dict) else None
    return isinstance(rows, list) and any(isinstance(r, dict) and "engine" in r for r in rows)


def load_results(path: Path) -> list[tuple[str, Results]]:
    """A results file, or those of a folder. Raises BadInput for anything else."""
    if path.is_dir():
        found = [one for one in sorted(path.glob("*.json")) if is_results(one)]
        if not found:
            raise BadInput(f"{path}: no results file of `bench` in it")
        return [pair for one in found for pair in load([one]).results]
    loaded = load([path])
    if not loaded.results:
        raise BadInput(f"{path}: a profile; expected results of `bench`")
    return list(loaded.results)
