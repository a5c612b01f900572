"""What ``bench`` sees of where it measures: a machine, and rows for a case."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tvm_mobilenet.provenance import Machine
from tvm_mobilenet.results.schema import ResultRow

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.cases import Case


class Place(Protocol):
    """``architecture`` is None where it is this machine's own."""

    architecture: str | None

    def machine(self) -> Machine:
        """The machine as the results describe it, with what is known so far."""

    def measure(self, case: Case, threads: int) -> list[ResultRow]:
        """One row for each candidate of the case."""
