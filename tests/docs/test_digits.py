"""examples/digits: a network trained here, and its bundle on the whole test set."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvm_mobilenet import bundle

LEAST_PERCENT = 97.0
TEST_IMAGES = 360

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None,
    reason="needs scikit-learn: pip install 'tvm-mobilenet[dev]'",
)


def test_a_network_trained_here_tells_digits_apart(tmp_path: Path, python: Any) -> None:
    trained = python("examples/digits/train.py", str(tmp_path))
    assert trained.returncode == 0, trained.stderr
    evaluated = python("examples/digits/evaluate.py", str(tmp_path))
    assert evaluated.returncode == 0, evaluated.stderr
    # 36 images of each digit or so, none of them trained on
    with np.load(tmp_path / "digits-test.npz") as file:
        labels, pytorch = file["labels"], file["pytorch"]
    assert np.bincount(labels).min() >= 34 and len(labels) == TEST_IMAGES
    correct = int(np.count_nonzero(labels == pytorch))
    assert "0 classes other than PyTorch's" in evaluated.stdout
    with bundle.open_bundle(tmp_path / "digits") as opened:
        accuracy = opened.manifest.accuracy
        (output,) = opened.manifest.outputs
    assert accuracy is not None and accuracy.percent >= LEAST_PERCENT
    assert (accuracy.correct, accuracy.images) == (correct, TEST_IMAGES)
    assert output.labels[7] == "seven"
    printed = re.search(r"PyTorch: ([\d.]+)% of 360", trained.stdout)
    assert printed is not None and float(printed[1]) == pytest.approx(accuracy.percent, abs=0.01)
