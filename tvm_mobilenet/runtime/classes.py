"""A classifier's output as the most probable classes, by name where names are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.errors import BadInput, first_line
from tvm_mobilenet.runtime.session import Session


def check_classifier(session: Session) -> None:
    """Raise BadInput where the bundle's outputs are not the scores of classes."""
    outputs = session.manifest.outputs
    if not is_classifier([output.shape for output in outputs]):
        shapes = ", ".join("x".join(map(str, output.shape)) for output in outputs)
        raise BadInput(f"--top: expected a classifier (one N x classes output), got {shapes}")


def is_classifier(shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether outputs of these shapes are one (N, classes)."""
    return [len(shape) for shape in shapes] == [2]


def read_labels(path: Path) -> tuple[str, ...]:
    """The lines of a text file. Raises BadInput where it cannot be read."""
    try:
        return tuple(path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--labels {path}: cannot be read: {first_line(error)}") from error


def check_labels(labels: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> None:
    """Raise BadInput where ``labels`` do not name the classes of outputs of these shapes."""
    if not is_classifier(shapes):
        shown = ", ".join("x".join(map(str, shape)) for shape in shapes)
        raise BadInput(f"--labels: expected a classifier (one N x classes output), got {shown}")
    classes = shapes[0][-1]
    if len(labels) != classes:
        raise BadInput(f"--labels: expected {classes} lines, one a class, got {len(labels)}")


def top_classes(
    count: int, values: NDArray[Any], scores: str | None, names: Sequence[str]
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
