"""A bundle of ours, through the runtime that ``run`` uses."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tvm_mobilenet.benchmark.engines.protocol import EngineUnavailable, Job
from tvm_mobilenet.runtime.session import load

if TYPE_CHECKING:
    from tvm_mobilenet.benchmark.engines.protocol import Array


class BundleEngine:
    """The compiled network; its arena holds input and output, so ``infer`` copies nothing."""

    def __init__(self, job: Job) -> None:
        if job.bundle is None:
            raise EngineUnavailable("no bundle was passed")
        self._path = job.bundle
        self._threads = job.threads

    def load(self) -> None:
        self._session = load(self._path, threads=self._threads)

    def set_inputs(self, inputs: Sequence[Array]) -> None:
        for place, x in zip(self._session.inputs, inputs, strict=True):
            np.copyto(place, x)

    def infer(self) -> None:
        self._session.infer_in_place()

    def outputs(self) -> list[Array]:
        return [np.array(output) for output in self._session.outputs]

    def version(self) -> str:
        return f"tvm {importlib.metadata.version('apache-tvm')}"

    def close(self) -> None:
        self._session.close()
