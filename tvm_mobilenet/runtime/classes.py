"""A classifier's output as the most probable classes, by name where names are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import files
from tvm_mobilenet.bundle.manifest import Manifest
from tvm_mobilenet.errors import BadInput


def output_of_classes(head: str | None, shapes: Sequence[tuple[int, ...]]) -> int | None:
    """Which output has the scores of classes, on its last axis; None where none has.

    ``head`` is the manifest's; where nobody said it, one output (N, classes) is a classifier's.
    """
    if head == "ssd":
        return 1
    if head in ("embedding", "features") or [len(shape) for shape in shapes] != [2]:
        return None
    return 0


def check_top(manifest: Manifest) -> None:
    """Raise BadInput where the bundle's outputs have no scores of classes."""
    _find_classes("--top", manifest.head, [output.shape for output in manifest.outputs])


def read_labels(path: Path) -> tuple[str, ...]:
    """The lines of a text file. Raises BadInput where it cannot be read."""
    name = f"--labels {path}"
    files.check_file(path, name)
    return tuple(files.read_text(path, name).splitlines())


def check_labels(
    labels: Sequence[str], head: str | None, shapes: Sequence[tuple[int, ...]]
) -> None:
    """Raise BadInput where ``labels`` do not name the classes of outputs of these shapes."""
    classes = shapes[_find_classes("--labels", head, shapes)][-1]
    if len(labels) != classes:
        raise BadInput(f"--labels: expected {classes} lines, one a class, got {len(labels)}")


def _find_classes(flag: str, head: str | None, shapes: Sequence[tuple[int, ...]]) -> int:
    """``output_of_classes``, or BadInput for what ``flag`` asks."""
    found = output_of_classes(head, shapes)
    if found is None:
        shown = ", ".join("x".join(map(str, shape)) for shape in shapes)
        of_head = "" if head is None else f" of the head {head}"
        raise BadInput(f"{flag}: expected a classifier or a detector, got {shown}{of_head}")
    return found


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
