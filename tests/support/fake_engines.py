"""Engines that behave and misbehave on purpose; each runs in a worker process of its own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.benchmark.engines import EngineEntry
from tvm_mobilenet.benchmark.engines.protocol import EngineUnavailable, Job

Array = NDArray[np.float32]


def entry(engine: type[Twice]) -> EngineEntry:
    """An entry for one of these; it needs nothing that is not there."""
    return EngineEntry(f"{__name__}:{engine.__name__}", "config", "numpy", "pip install numpy")


class Twice:
    """Its network doubles the input."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.runs = 0

    def load(self) -> None:
        print("loading")

    def set_inputs(self, inputs: Sequence[Array]) -> None:
        (self.x,) = inputs

    def infer(self) -> None:
        self.runs += 1
        self.y = 2 * self.x

    def outputs(self) -> list[Array]:
        return [self.y]

    def version(self) -> str:
        return "2.0"

    def close(self) -> None:
        pass


class Environment(Twice):
    """Says by its version what its process was given."""

    def version(self) -> str:
        return " ".join([os.environ["OMP_NUM_THREADS"], os.environ["TMPDIR"]])


class Wrong(Twice):
    def infer(self) -> None:
        self.y = 3 * self.x


class NotANumber(Twice):
    def infer(self) -> None:
        self.y = np.full_like(self.x, np.nan)


class WrongLater(Twice):
    """Right at first, wrong after the timed runs."""

    def infer(self) -> None:
        self.runs += 1
        self.y = (2 if self.runs < 10 else 3) * self.x


class Absent(Twice):
    def load(self) -> None:
        raise EngineUnavailable("needs a compiler: apt-get install g++")


class Raises(Twice):
    def infer(self) -> None:
        raise ValueError("this shape is not supported\nand more lines")


class CrashesAtLoad(Twice):
    def load(self) -> None:
        print("cannot map the library", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)


class CrashesLater(Twice):
    def infer(self) -> None:
        super().infer()
        if self.runs > 10:
            os._exit(7)


class Hangs(Twice):
    def infer(self) -> None:
        time.sleep(3600)


class Restless(Twice):
    """Leaves a thread that spins."""

    def load(self) -> None:
        threading.Thread(target=self.spin, daemon=True).start()

    def spin(self) -> None:
        while True:
            pass
