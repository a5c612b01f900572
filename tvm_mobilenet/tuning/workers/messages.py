"""What the tuner and its worker processes say to each other: plain values, which are pickled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tvm_mobilenet.errors import BadInput, TvmMobilenetError

Role = Literal["input", "constant", "output"]

Cause = Literal[
    "build error",
    "build timeout",
    "run error",
    "run timeout",
    "wrong result",
    "device lost",
    "not modelled",
]


@dataclass(frozen=True)
class Argument:
    """A kernel's parameter. A constant is a weight: in a network it comes from beyond L2.

    ``scales`` says of how many products of bytes the sums are that it makes real numbers of, 0 for
    any other parameter. ``bits_by`` is the place of the scale that this parameter holds in fixed
    point, beside what sums start at. ``most`` is the magnitude of the largest byte, 0 for whatever
    its type holds; an ``order`` counts from 0 on in each row, whose last entries, so many, are 0.
    """

    shape: tuple[int, ...]
    dtype: str
    role: Role
    limit: int = (
        100  # of an integer's random values, which may be indices; bytes have all of theirs
    )
    scales: int = 0
    bits_by: int | None = None
    most: int = 0
    order: int = 0


@dataclass(frozen=True)
class Settings:
    """How to build and time; the same for a whole run. Times in seconds."""

    target: dict[str, object]
    # module:function(IRModule, Target) -> Module
    build_fn: str = "tvm_mobilenet.compiler.cpu.lowering:lower"
    gpu: bool = False  # the candidates are for a GPU
    link: tuple[str, ...] = ("cc", "-shared")  # makes object files a shared library
    threads: int = 1
    cold: bool = True  # take the weights from beyond L2 for every call
    repeats: int = 3  # the latency is the least of their medians
    samples: int = 5  # timed blocks in a repeat
    sample_s: float = 1e-3  # a block repeats the kernel for at least this long
    launches: int = 20  # in a repeat on a GPU, whose clock counts in half microseconds
    cut_off: float = 1.5  # a candidate this much slower than the best is timed by one block only
    tolerance: float = 1e-4  # ‖a-b‖/‖b‖ against the reference
    seed: int = 0

    @property
    def cache(self) -> str:
        return "cold" if self.cold else "warm"


@dataclass(frozen=True)
class DeviceAddress:
    """Which devices a worker may use: those that the tracker has under ``key``."""

    host: str
    port: int
    key: str
    features: tuple[str, ...]  # the CPU features that the target's code may use
    library: str  # to try a device with, and to ask it what it is
    triple: str = ""  # of the CPU that this library is for


@dataclass(frozen=True)
class Hello:
    """First message to a worker."""

    settings: Settings
    cores: tuple[int, ...]  # where it may run
    device: DeviceAddress | None = None


@dataclass(frozen=True)
class Waiting:
    """From a worker whose device is not there yet: it has imported what it needs."""


@dataclass(frozen=True)
class Ready:
    """From a worker that can take a job; ``cpu`` is what a device calls its CPU, or its GPU."""

    rss: int
    cpu: str = ""


@dataclass(frozen=True)
class Refused:
    """From a worker that has got a device which is no good for the target.

    ``failed``: it might be, but has failed, as one whose memory is full.
    """

    reason: str
    failed: bool = False


@dataclass(frozen=True)
class BuildTask:
    """To the builder: the workload that jobs of ``task`` schedule, as TVM's JSON."""

    task: int
    mod_json: str


@dataclass(frozen=True)
class MakeCase:
    """To the builder: arguments for ``task`` and what it must compute, into the file ``case``.

    Its answer's ``detail`` says where the latter is from.
    """

    job: int
    task: int
    arguments: tuple[Argument, ...]
    case: str


@dataclass(frozen=True)
class Build:
    """To the builder: schedule, compile and link with ``objects`` into ``library``."""

    job: int
    task: int
    trace_json: str
    library: str
    objects: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunTask:
    """To the runner: the arguments of ``task``, and the file with their values."""

    task: int
    arguments: tuple[Argument, ...]
    case: str


@dataclass(frozen=True)
class Run:
    """To the runner: check ``library`` against the reference and time it.

    ``best_s`` is the best time so far, None not to cut off. ``keep``: it will be run again.
    """

    job: int
    task: int
    library: str
    best_s: float | None
    timeout_s: float
    keep: bool = False


@dataclass(frozen=True)
class Done:
    """A worker's answer. ``medians`` are a run's times in seconds, one for each repeat.

    ``cause`` is None where it went well. ``seconds`` is what the job took. ``lost``: the device
    went before it could answer. ``ready``: the worker can take the next job; else it says Ready
    when it can.
    """

    job: int
    seconds: float = 0.0
    rss: int = 0
    cause: Cause | None = None
    detail: str = ""
    medians: tuple[float, ...] = ()
    cut: bool = False
    error: float = 0.0
    lost: bool = False
    ready: bool = True


def refuse(error: TvmMobilenetError) -> Refused:
    """What a worker says of a device that raised ``error``."""
    return Refused(str(error), failed=not isinstance(error, BadInput))
