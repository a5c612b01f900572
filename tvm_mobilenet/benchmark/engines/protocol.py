"""What an engine is asked to load and what it has to answer.

To add an engine: one class with these methods, and one line in ``ENGINES``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    # A worker sets its environment before NumPy loads, so nothing here may import it.
    from numpy.typing import NDArray

    Array = NDArray[Any]


class EngineUnavailable(Exception):
    """This engine cannot run here; the text says why and what to install or pass."""


@dataclass(frozen=True)
class Job:
    """The network in the forms that engines load, and the threads they may use.

    ``bundle`` is a bundle's path, ``config`` the fields of a ``models.Config``, ``onnx`` an ONNX
    file with the same weights, ``tflite`` such a file of LiteRT's, ``weights`` the file that
    ``config`` has its weights from, None for random ones. A form that does not exist for this
    network is None. ``precision`` is that of the network; in int8, ``onnx`` and ``tflite`` are.
    """

    threads: int
    bundle: Path | None = None
    config: dict[str, Any] | None = None
    onnx: Path | None = None
    weights: Path | None = None
    precision: str = "fp32"
    tflite: Path | None = None


class Engine(Protocol):
    """One runtime with one network, of one or more inputs, (N, C, H, W) for an image, and outputs,
    (N, classes) for a classifier, in the order of the network's file.

    The timed call is ``infer`` alone: the inputs already lie where the runtime reads them, the
    outputs stay where the runtime leaves them. Every method may raise ``EngineUnavailable``.
    """

    def __init__(self, job: Job) -> None: ...

    def load(self) -> None:
        """Import the runtime and make the network ready."""

    def set_inputs(self, inputs: Sequence[Array]) -> None:
        """Put the inputs where ``infer`` reads them."""

    def infer(self) -> None:
        """One inference."""

    def outputs(self) -> list[Array]:
        """Copies of the last inference's outputs."""

    def version(self) -> str:
        """The runtime's version."""

    def close(self) -> None:
        """Give back what ``load`` took."""
