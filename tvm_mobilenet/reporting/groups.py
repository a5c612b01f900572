"""Comparisons of several files, sorted by the machine they are of and by precision.

Rows are compared within the run that measured them and nowhere else: what stands in one group is
only shown together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm_mobilenet.results.changes import machine_name
from tvm_mobilenet.results.counts import CountTable, count_tables
from tvm_mobilenet.results.inputs import Inputs
from tvm_mobilenet.results.profiles import Profiles
from tvm_mobilenet.results.schema import Results
from tvm_mobilenet.results.tables import Comparison, comparisons


@dataclass(frozen=True)
class Run:
    """The comparisons in one precision of one results file."""

    source: str
    results: Results
    precision: str
    tables: tuple[Comparison, ...]
    counted: tuple[CountTable, ...] = ()


@dataclass(frozen=True)
class MachineGroup:
    """Everything that was measured on one kind of machine."""

    title: str
    runs: tuple[Run, ...]
    profiles: tuple[tuple[str, Profiles], ...]
    files: tuple[tuple[str, Results], ...]

    @property
    def precisions(self) -> list[str]:
        return list(dict.fromkeys(run.precision for run in self.runs))


def by_machine(inputs: Inputs) -> list[MachineGroup]:
    """The groups, in the order of the files."""
    machines = [results.machine for _, results in inputs.results]
    machines += [profiles.machine for _, profiles in inputs.profiles]
    titles = map(machine_name, machines)
    return [_group(title, inputs) for title in dict.fromkeys(titles)]


def _group(title: str, inputs: Inputs) -> MachineGroup:
    files = tuple(one for one in inputs.results if machine_name(one[1].machine) == title)
    profiles = tuple(one for one in inputs.profiles if machine_name(one[1].machine) == title)
    runs = tuple(run for source, results in files for run in _runs(source, results))
    return MachineGroup(title, runs, profiles, files)


def _runs(source: str, results: Results) -> Sequence[Run]:
    tables = comparisons(results)
    precisions = dict.fromkeys(table.lines[0].row.precision for table in tables)
    runs = [
        Run(source, results, one, tuple(t for t in tables if t.lines[0].row.precision == one))
        for one in precisions
    ]
    counted = count_tables(results)
    if counted:  # a count names its network's precision itself
        runs.append(Run(source, results, "instructions", (), tuple(counted)))
    return runs
