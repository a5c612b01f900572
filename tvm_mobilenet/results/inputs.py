"""What a report is made of: results of ``bench``, profiles, tuning logs, told apart by content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_mobilenet import strict
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
    text = schema.read_text(path)
    try:
        document = strict.parse_json(text)
        if isinstance(document, dict) and "profiles" in document:
            return profiles.read(document)
        return schema.read(document)
    except strict.Unexpected as error:
        raise BadInput(f"{path}: {error}") from None
