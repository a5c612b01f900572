"""A detector's boxes and scores as the objects that were found: non-maximum suppression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.runtime.resize import Part

BACKGROUND = 0  # the class of what is no object
# as in torchvision's SSD
LEAST_SCORE = 0.01
LARGEST_OVERLAP = 0.45
MOST_CANDIDATES = 400  # of a class, the most probable ones

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Detection:
    """An object: its class, its probability, and its box.

    That is left, top, right, bottom as shares of the image.
    """

    label: int
    score: float
    box: tuple[float, float, float, float]


def detect(boxes: Array, scores: Array, least_score: float = LEAST_SCORE) -> list[Detection]:
    """What one image has, most probable first, by ``boxes`` (P, 4) and ``scores`` (P, classes).

    Boxes are cut to the image. Of two boxes of one class that overlap by more than
    LARGEST_OVERLAP (intersection over union) the more probable one is kept.
    """
    inside = np.clip(boxes, 0, 1)
    found = []
    for label in range(scores.shape[1]):
        if label == BACKGROUND:
            continue
        of_class = scores[:, label]
        # a stable order: equal scores stay in the order of the priors
        order = np.argsort(-of_class, kind="stable")[:MOST_CANDIDATES]
        order = order[of_class[order] >= least_score]
        for index in order[suppress(inside[order], LARGEST_OVERLAP)]:
            left, top, right, bottom = map(float, inside[index])
            found.append(Detection(label, float(of_class[index]), (left, top, right, bottom)))
    return sorted(found, key=lambda one: -one.score)


def suppress(boxes: Array, largest_overlap: float) -> NDArray[np.intp]:
    """The places of the ``boxes`` (n, 4), best first, that no better kept one overlaps by more."""
    kept: list[int] = []
    waiting = np.arange(len(boxes))
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]
        kept.append(int(best))
        waiting = waiting[overlaps(boxes[best], boxes[waiting]) <= largest_overlap]
    return np.array(kept, np.intp)


def overlaps(box: Array, others: Array) -> Array:
    """Intersection over union of a box (4,) with each of ``others`` (n, 4); 0 for empty boxes."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared: Array = np.prod(np.maximum(sides, 0), axis=1)
    union = _area(box[np.newaxis]) + _area(others) - shared
    return shared / np.maximum(union, np.finfo(union.dtype).tiny)


def lines_of(
    count: int,
    boxes: Array,
    scores: Array,
    names: Sequence[str],
    part: Part,
) -> Iterator[str]:
    """One line an object: class, probability, box in pixels, name.

    ``boxes`` are (N, P, 4), ``scores`` (N, P, classes), ``part`` what the input shows of a picture,
    in whose pixels boxes are told; a blank line comes between images.
    """
    origin = np.array([part.left, part.top] * 2)
    sides = np.array([part.width, part.height] * 2)
    for number in range(len(boxes)):
        if number:
            yield ""
        found = detect(boxes[number], scores[number])[:count]
        if not found:
            yield f"nothing of a probability of {LEAST_SCORE:.0%} or more"
        for one in found:
            box = "  ".join(f"{value:5.1f}" for value in origin + np.array(one.box) * sides)
            name = f"  {names[one.label]}" if names else ""
            yield f"{one.label:5d}  {one.score:>7.2%}  {box}{name}"


def _area(boxes: Array) -> Array:
    area: Array = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    return area
