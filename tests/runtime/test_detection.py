"""Boxes and scores become objects: non-maximum suppression against its definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tvm_mobilenet.runtime import detection
from tvm_mobilenet.runtime.resize import Part

LIMIT = 0.45


def boxes_of(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.uniform(0, 0.7, (count, 2))
    return np.hstack((corner, corner + rng.uniform(0.05, 0.5, (count, 2)))).astype(np.float32)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union, by hand."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return float(shared / (areas - shared))


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 40))
def test_what_is_kept_and_what_is_not(seed: int, count: int) -> None:
    boxes = boxes_of(np.random.default_rng(seed), count)
    kept = list(detection.suppress(boxes, LIMIT))
    assert kept == sorted(kept)
    for place in range(count):
        nearest = max(
            (overlap(boxes[better], boxes[place]) for better in kept if better < place), default=0
        )
        if abs(nearest - LIMIT) > 1e-5:  # else rounding decides
            assert (place in kept) == (nearest < LIMIT)


def test_overlaps() -> None:
    boxes = np.array([(0, 0, 2, 2), (1, 1, 3, 3), (2, 0, 4, 2), (5, 5, 5, 5)], np.float32)
    found = detection.overlaps(boxes[0], boxes)
    np.testing.assert_allclose(found, [1, 1 / 7, 0, 0])
    assert detection.overlaps(boxes[3], boxes[3:])[0] == 0, "of an empty box with itself"


def test_objects_come_by_probability_and_class_by_class() -> None:
    boxes = np.array(
        [(0.1, 0.1, 0.5, 0.5), (0.12, 0.1, 0.5, 0.5), (0.6, 0.6, 1.3, 0.9), (0, 0, 1, 1)]
    )
    scores = np.array(
        [
            # background, cat, dog
            (0.1, 0.8, 0.1),
            (0.0, 0.3, 0.7),  # overlaps the first: another class
            (0.38, 0.6, 0.02),
            (1.0, 0.0, 0.0),
        ]
    )
    found = detection.detect(boxes, scores, least_score=0.05)
    assert [(one.label, one.score) for one in found] == [(1, 0.8), (2, 0.7), (1, 0.6)]
    assert found[2].box == (0.6, 0.6, 1.0, 0.9), "cut to the image"


def test_equal_scores_stay_in_their_order() -> None:
    boxes = np.array([(0.0, 0.0, 0.1, 0.1), (0.5, 0.5, 0.6, 0.6)])
    found = detection.detect(boxes, np.full((2, 2), 0.5))
    assert [one.box for one in found] == [tuple(box) for box in boxes]


def test_lines_have_pixels_and_names() -> None:
    boxes = np.array([[(0.1, 0.2, 0.5, 0.6)], [(0.1, 0.2, 0.5, 0.6)]])
    scores = np.array([[(0.25, 0.75)], [(1.0, 0.0)]])
    part = Part(7, 3, width=200, height=100)
    lines = list(detection.lines_of(5, boxes, scores, ("nothing", "cat"), part))
    assert lines == [
        "    1   75.00%   27.0   23.0  107.0   63.0  cat",
        "",
        "nothing of a probability of 1% or more",
    ]
