"""A classifier's output as the most probable classes, by name where names are given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.bundle.manifest import TensorInfo
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.runtime.session import Session


def check_classifier(session: Session) -> None:
    outputs = session.manifest.outputs
    if len(outputs) > 1 or len(outputs[0].shape) != 2:
        shapes = ", ".join("x".join(map(str, output.shape)) for output in outputs)
        raise BadInput(f"--top: expected a classifier (one N x classes output), got {shapes}")


def read_labels(path: Path, output: TensorInfo) -> list[str]:
    try:
        names = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--labels {path}: cannot be read: {error}") from error
    if len(names) != output.shape[-1]:
        raise BadInput(
            f"--labels {path}: expected {output.shape[-1]} lines, one a class, got {len(names)}"
        )
    return names


def top_classes(
    count: int, values: NDArray[Any], scores: str | None, names: list[str] | None
) -> Iterator[str]:
    """One line per class: index, score, name; a blank line between images.

    The score is a probability wherever the bundle says what ``values`` are, else the value itself.
    """
    for number, row in enumerate(softmax(values) if scores == "logits" else values):
        if number:
            yield ""
        for index in row.argsort()[::-1][:count]:
            name = f"  {names[index]}" if names else ""
            score = f"{row[index]:.6g}" if scores is None else f"{row[index]:.2%}"
            yield f"{index:5d}  {score:>7}{name}"
    if scores is None:
        yield "the bundle does not say what the scores are: they are shown as they are"


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Probabilities over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    probabilities: NDArray[Any] = np.exp(shifted)
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    return probabilities
