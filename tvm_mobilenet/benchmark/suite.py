"""A benchmark from its request to its results: case after case, each with every thread count."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_mobilenet.benchmark import cases, resume
from tvm_mobilenet.benchmark.pace import Pace, about, guess_s
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

    The request's results file holds every finished row at any time. Of a request to ``resume`` what
    that file holds is not measured again. Raises BadInput where the file is of something else.
    """
    results = Results(place.machine(), (), request.command, now())
    if request.resume and request.json is not None:
        results = resume.load(request.json, request.command, place.machine()) or results
    done = resume.measured(results)
    pace = _announce(request, progress, done)
    with tempfile.TemporaryDirectory(prefix="tvm-mobilenet-bench-") as scratch:
        try:
            for case in open_cases(request, Path(scratch), place.architecture, progress, done):
                network = (case.network.model, case.network.alpha, case.network.resolution)
                for threads in request.threads:
                    if (network, threads) in done:
                        continue
                    plural = "s" if threads > 1 else ""
                    where = "" if pace is None else f" ({pace})"
                    progress.heading(f"{case.title}, {threads} thread{plural}{where}")
                    rows = tuple(place.measure(case, threads))
                    results = replace(
                        results, machine=place.machine(), results=(*results.results, *rows)
                    )
                    if pace is not None:
                        pace.done += 1
                    if request.json is not None:
                        schema.dump(results, request.json)
                    show(replace(results, results=rows))
        except KeyboardInterrupt:
            if request.json is not None and results.results:
                finished = len(results.results)
                more = "; --resume goes on with it" if request.sweep is not None else ""
                progress.note(f"{request.json} holds the {finished} rows finished so far{more}")
            raise
    return results


def _announce(
    request: BenchRequest, progress: PlainProgress, done: Set[tuple[resume.Network, int]]
) -> Pace | None:
    """Say how long a sweep will take, and what of it is there; None of any other request."""
    if request.sweep is None:
        return None
    networks = request.sweep.networks()
    left = [[one for one in request.threads if (network, one) not in done] for network in networks]
    total = sum(map(len, left))
    if done:
        there = len(networks) * len(request.threads) - total
        progress.note(f"{there} of {there + total} measurements are in {request.json} already")
    times = 1 + len(request.noise)
    guess = sum(guess_s(1, len(one) * times, request.against, request.plan) for one in left if one)
    engines = 1 + len(request.against)
    progress.heading(
        f"{sum(map(bool, left))} networks, {total} measurements of {engines} "
        f"engine{'s' if engines > 1 else ''}: {about(guess)}"
    )
    return Pace(total)


def open_cases(
    request: BenchRequest,
    scratch: Path,
    architecture: str | None,
    progress: PlainProgress,
    done: Set[tuple[resume.Network, int]] = frozenset(),
) -> Iterator[Case]:
    """The request's cases, each prepared when its turn comes; files for them go to ``scratch``.

    Networks of a sweep that are ``done`` on all thread counts are left out.
    """
    if request.sweep is not None:
        whole = [
            network
            for network in request.sweep.networks()
            if all((network, threads) in done for threads in request.threads)
        ]
        return request.sweep.cases(request.against, scratch, progress, architecture, whole)
    return cases.from_bundles(
        request.bundles,
        cases.Files(request.onnx, request.weights, request.calibrate, request.labelled),
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
