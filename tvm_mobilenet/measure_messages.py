"""What the tuner and its worker processes say to each other: plain values, which are pickled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["input", "constant", "output"]

Cause = Literal[
    "build error", "build timeout", "run error", "run timeout", "wrong result", "device lost"
]
CAUSES: tuple[Cause, ...] = (
    "build error",
    "build timeout",
    "run error",
    "run timeout",
    "wrong result",
    "device lost",
)


@dataclass(frozen=True)
class Argument:
    """A kernel's parameter. A constant is a weight: in a network it comes from beyond L2."""

    shape: tuple[int, ...]
    dtype: str
    role: Role


@dataclass(frozen=True)
class Settings:
    """How to build and time; the same for a whole run. Times in seconds."""

    target: dict[str, object]
    build_fn: str = "tvm_mobilenet.lowering:lower"  # module:function(IRModule, Target) -> Module
    workers: str = "tvm_mobilenet.measure_worker"  # module of the Builder and Runner
    compiler: str = "cc"  # links an object file into a shared library
    threads: int = 1
    cold: bool = True  # take the weights from beyond L2 for every call
    repeats: int = 3  # the latency is the least of their medians
    samples: int = 5  # timed blocks in a repeat
    sample_s: float = 1e-3  # a block repeats the kernel for at least this long
    cut_off: float = 1.5  # a candidate this much slower than the best is timed by one block only
    tolerance: float = 1e-4  # ‖a-b‖/‖b‖ against the reference
    seed: int = 0


@dataclass(frozen=True)
class Hello:
    """First message to a worker."""

    settings: Settings
    cores: tuple[int, ...]  # where it may run


@dataclass(frozen=True)
class Ready:
    """A worker's answer to Hello, once it has imported what it needs."""

    rss: int


@dataclass(frozen=True)
class BuildTask:
    """To the builder: the workload that jobs of ``task`` schedule, as TVM's JSON."""

    task: int
    mod_json: str


@dataclass(frozen=True)
class Build:
    """To the builder: schedule (not at all for None), compile and link into ``library``."""

    job: int
    task: int
    trace_json: str | None
    library: str


@dataclass(frozen=True)
class RunTask:
    """To the runner: the arguments of ``task``, and its reference kernel.

    The reference's outputs are computed once, and kept in the file ``expected``.
    """

    task: int
    arguments: tuple[Argument, ...]
    reference: str
    expected: str


@dataclass(frozen=True)
class Run:
    """To the runner: check ``library`` against the reference and time it.

    ``best_s`` is the best time so far, None not to cut off.
    """

    job: int
    task: int
    library: str
    best_s: float | None


@dataclass(frozen=True)
class Done:
    """A worker's answer. ``medians`` are a run's times in seconds, one for each repeat.

    ``cause`` is None where it went well. ``seconds`` is what the job took.
    """

    job: int
    seconds: float
    rss: int
    cause: Cause | None = None
    detail: str = ""
    medians: tuple[float, ...] = ()
    cut: bool = False
    error: float = 0.0
