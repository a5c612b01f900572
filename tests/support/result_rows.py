"""Results made by hand, for the tests of what reads them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tvm_mobilenet.provenance import Machine
from tvm_mobilenet.results.schema import ResultRow, Results
from tvm_mobilenet.results.statistics import summarize

MACHINE = Machine(
    cpu="Imaginary CPU",
    cores=2,
    governor="performance",
    load_average=(0.1, 0.2, 0.3),
    os="Debian GNU/Linux 12 (bookworm), Linux 6.1",
    python="3.11.2",
    versions={"torch": "2.13.0", "apache-tvm": "0.27.0.post1"},
)


def samples(median_ms: float, runs: int = 100, seed: int = 0) -> tuple[float, ...]:
    """Latencies scattered by 1 % around ``median_ms``."""
    scatter = np.random.default_rng(seed).normal(1.0, 0.01, runs)
    return tuple(round(float(x), 5) for x in median_ms * scatter)


def row(engine: str, median_ms: float | None, **other: Any) -> ResultRow:
    """A row of 1.0-224 on one thread; ``not run`` where ``median_ms`` is None."""
    ok = median_ms is not None
    times = samples(median_ms, seed=len(engine)) if median_ms is not None else ()
    values: dict[str, Any] = {
        "model": "mobilenet_v1",
        "alpha": 1.0,
        "resolution": 224,
        "batch": 1,
        "precision": "fp32",
        "engine": engine,
        "engine_version": "1.2.3" if ok else None,
        "target": "x86-znver4" if engine.startswith("bundle") else "x86_64",
        "threads": 1,
        "how": "native",
        "tuned": False,
        "latency_ms": summarize(times) if ok else None,
        "samples_ms": times,
        "load_ms": 12.5 if ok else None,
        "first_run_ms": 20.25 if ok else None,
        "peak_rss_mb": 101.5 if ok else None,
        "artifact_mb": 17.0 if ok else None,
        "max_abs_diff": 2e-6 if ok else None,
        "reference": "pytorch",
        "status": "ok" if ok else "not run",
        "reason": None if ok else "openvino is not installed: pip install it",
    }
    return ResultRow(**{**values, **other})


def results(*rows: ResultRow) -> Results:
    return Results(MACHINE, rows, "tvm-mobilenet bench b.tar", "2026-01-02T03:04:05+00:00")


def counted(engine: str, instructions: int | None, **other: Any) -> ResultRow:
    """A row of counted instructions; ``not run`` where there are none."""
    bare = {"how": "emulated", "latency_ms": None, "samples_ms": (), "instructions": instructions}
    return row(engine, None if instructions is None else 1.0, **{**bare, **other})
