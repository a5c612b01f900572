"""How often each engine is right: labelled images, which every one of them classifies once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import arrays
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.accuracy import Accuracy

Array = NDArray[Any]
NAMES = {"images", "labels"}


class Classifier(Protocol):
    """What a measurement opens of an engine."""

    def first_run(self, inputs: Sequence[Array]) -> tuple[float | None, Sequence[Array]]:
        """The time of an inference of ``inputs``, and its outputs."""


@dataclass(frozen=True)
class Labelled:
    """``images`` (N, 1, …), each an input of the network, and the class of each; of a file."""

    images: Array
    labels: NDArray[np.integer[Any]]
    name: str

    def measure(self, engine: Classifier) -> Accuracy:
        """How many the first output's largest score names rightly."""
        correct = 0
        for image, label in zip(self.images, self.labels, strict=True):
            _, outputs = engine.first_run([image])
            correct += int(np.argmax(outputs[0]) == label)
        return Accuracy(correct, len(self.labels), self.name)


def read(path: Path, inputs: Sequence[Array]) -> Labelled:
    """The arrays ``images`` (N, …) and ``labels`` (N) of a .npz, for a network of ``inputs``.

    An image is one input without its batch; other arrays are passed over. Raises BadInput for what
    is no such file, or does not fit the network.
    """
    found = arrays.read_named(path, f"--labelled {path}")
    if not set(found) >= NAMES:
        raise BadInput(
            f"--labelled {path}: expected the arrays images and labels, got "
            f"{', '.join(sorted(found)) or 'none'}"
        )
    images, labels = found["images"], found["labels"]
    if len(inputs) != 1 or inputs[0].shape[0] != 1:
        raise BadInput(f"--labelled {path}: the network takes more than one image; drop it")
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise BadInput(
            f"--labelled {path}: expected labels as (N,) integers, got {labels.dtype} of "
            f"{labels.shape}"
        )
    expected = (len(labels), *inputs[0].shape[1:])
    if images.shape != expected or images.dtype != inputs[0].dtype:
        raise BadInput(
            f"--labelled {path}: expected images of {inputs[0].dtype} and shape {expected}, got "
            f"{images.dtype} of {images.shape}"
        )
    return Labelled(images[:, np.newaxis], labels, path.name)
