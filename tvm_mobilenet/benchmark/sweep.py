"""The 16 variants of the paper, compiled one after the other and measured beside the peers."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from tvm_mobilenet import models, processes
from tvm_mobilenet.benchmark import cases
from tvm_mobilenet.benchmark.engines import ENGINES, OURS
from tvm_mobilenet.benchmark.progress import PlainProgress
from tvm_mobilenet.benchmark.rows import Candidate
from tvm_mobilenet.errors import BadInput, RunFailed

ALPHAS = (1.0, 0.75, 0.5, 0.25)
RESOLUTIONS = (224, 192, 160, 128)


def sweep(
    target: str,
    batch: int,
    records: Path | None,
    against: Sequence[str],
    scratch: Path,
    progress: PlainProgress,
    architecture: str | None = None,
) -> Iterator[cases.Case]:
    """The cases of all variants, each compiled when its turn comes.

    ``architecture`` is that of the device that will run them, None for this machine.

    ``records`` is the folder of tuning records to compile with, None for those that ship. A
    variant that does not compile still gives its case, with the reason in the row of ours.
    """
    for alpha, resolution in itertools.product(ALPHAS, RESOLUTIONS):
        config = models.config_from("mobilenet_v1", alpha, resolution)
        progress.heading(f"mobilenet_v1 {alpha}-{resolution}: compiling")
        output = scratch / f"{alpha}-{resolution}.tar"
        ours = _compiled(target, config, batch, records, output, architecture)
        network = cases.of_model(config, batch, "fp32", against, scratch)
        peers = cases.peer_candidates(against, network, architecture)
        yield cases.Case(network, (ours, *peers))


def _compiled(
    target: str,
    config: models.MobileNetConfig,
    batch: int,
    records: Path | None,
    output: Path,
    architecture: str | None,
) -> Candidate:
    try:
        path = processes.call(_compile, target, config, batch, output, records)
        return cases.bundle_candidate(path, architecture=architecture)
    except (BadInput, RunFailed) as error:
        reason = f"does not compile: {error}"
        where = architecture or platform.machine()
        return Candidate(OURS, ENGINES[OURS], where, absent=reason)


def _compile(
    target: str,
    config: models.MobileNetConfig,
    batch: int,
    output: Path,
    records: Path | None,
) -> Path:
    from tvm_mobilenet.api import build_bundle
    from tvm_mobilenet.compiler.options import CompileOptions
    from tvm_mobilenet.database.lookup import open_records
    from tvm_mobilenet.hardware import target as targets
    from tvm_mobilenet.network import source

    spec = targets.resolve(target)
    network, opened = source.from_config(config, batch), open_records(spec, records)
    return build_bundle(network, CompileOptions(spec), output, opened).path
