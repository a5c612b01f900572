"""A benchmark from its request to its results: case after case, each with every thread count."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet.benchmark import cases
from tvm_mobilenet.errors import RunFailed
from tvm_mobilenet.provenance import now
from tvm_mobilenet.results import schema
from tvm_mobilenet.results.schema import Results
from tvm_mobilenet.results.tables import is_ours

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.cases import Case
    from tvm_mobilenet.benchmark.places.place import Place
    from tvm_mobilenet.benchmark.progress import PlainProgress
    from tvm_mobilenet.benchmark.request import BenchRequest


def measure(
    request: BenchRequest,
    place: Place,
    progress: PlainProgress,
    show: Callable[[Results], None],
) -> Results:
    """Measure every case; ``show`` gets the rows of each as soon as they are there.

    The request's results file holds every finished row at any time.
    """
    results = Results(place.machine(), (), request.command, now())
    with tempfile.TemporaryDirectory(prefix="tvm-mobilenet-bench-") as scratch:
        try:
            for case in open_cases(request, Path(scratch), place.architecture, progress):
                for threads in request.threads:
                    progress.heading(f"{case.title}, {threads} thread{'s' if threads > 1 else ''}")
                    rows = tuple(place.measure(case, threads))
                    results = replace(
                        results, machine=place.machine(), results=(*results.results, *rows)
                    )
                    if request.json is not None:
                        schema.dump(results, request.json)
                    show(replace(results, results=rows))
        except KeyboardInterrupt:
            if request.json is not None and results.results:
                finished = len(results.results)
                progress.note(f"{request.json} holds the {finished} rows finished so far")
            raise
    return results


def open_cases(
    request: BenchRequest, scratch: Path, architecture: str | None, progress: PlainProgress
) -> Iterator[Case]:
    """The request's cases, each prepared when its turn comes; files for them go to ``scratch``."""
    if request.sweep is not None:
        return request.sweep.cases(request.against, scratch, progress, architecture)
    return cases.from_bundles(
        request.bundles,
        cases.Files(request.onnx, request.weights, request.calibrate),
        request.against,
        scratch,
        architecture,
    )


def check_measured(results: Results) -> None:
    """Raise RunFailed where ours has no latency, or nobody has."""
    failed = [row for row in results.results if is_ours(row) and row.status != "ok"]
    if failed:
        raise RunFailed(f"{failed[0].engine} was not measured: {failed[0].reason}")
    if not any(row.status == "ok" for row in results.results):
        raise RunFailed("no engine could be measured")
