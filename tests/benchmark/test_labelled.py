"""Labelled images: each engine's own accuracy, measured beside its latency."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvm_mobilenet.benchmark import labelled
from tvm_mobilenet.errors import BadInput

INPUTS = [np.zeros((1, 4), np.float32)]
IMAGES = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 2]]
LABELS = np.array([0, 1, 2, 3, 1])


class Largest:
    """Answers with its input, and so with the place of the one in it."""

    def first_run(self, inputs: Any) -> tuple[float, list[Any]]:
        (image,) = inputs
        assert image.shape == (1, 4)
        return 0.1, [image]


def write(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "images.npz", **arrays)
    return folder / "images.npz"


def test_the_largest_score_is_the_answer(tmp_path: Path) -> None:
    known = labelled.read(write(tmp_path, images=IMAGES, labels=LABELS), INPUTS)
    found = known.measure(Largest())
    assert (found.correct, found.images, found.data) == (4, 5, "images.npz")
    assert replace(known, labels=LABELS + 4).measure(Largest()).correct == 0


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "names": ({"images": IMAGES, "classes": LABELS}, "images and labels, got classes, images"),
    "shape": ({"images": IMAGES[:, :3], "labels": LABELS}, r"shape \(5, 4\), got .* \(5, 3\)"),
    "as many": ({"images": IMAGES[:4], "labels": LABELS}, r"got float32 of \(4, 4\)"),
    "type": ({"images": IMAGES.astype("f8"), "labels": LABELS}, "of float32 .* got float64"),
    "labels": ({"images": IMAGES, "labels": LABELS / 2}, r"labels as \(N,\) integers"),
    "none": ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"labels as \(N,\) integers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_one_line(case: str, tmp_path: Path) -> None:
    arrays, says = WRONG[case]
    with pytest.raises(BadInput, match=f"--labelled .*images.npz: .*{says}") as caught:
        labelled.read(write(tmp_path, **arrays), INPUTS)
    assert "\n" not in str(caught.value)


def test_one_image_at_a_time(tmp_path: Path) -> None:
    path = write(tmp_path, images=IMAGES, labels=LABELS)
    for inputs in ([np.zeros((2, 4), np.float32)], [*INPUTS, *INPUTS]):
        with pytest.raises(BadInput, match="takes more than one image"):
            labelled.read(path, inputs)
    (tmp_path / "images.npz").write_bytes(b"no archive")
    with pytest.raises(BadInput, match=r"not a readable \.npz"):
        labelled.read(path, INPUTS)
