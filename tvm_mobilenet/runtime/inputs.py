"""What a network is run on: an array in a .npy, or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.normalisation import Normalisation
from tvm_mobilenet.runtime import image
from tvm_mobilenet.runtime.session import Session, mismatch


def is_array(path: Path) -> bool:
    return path.suffix.lower() == ".npy"


def read_input(path: Path, session: Session, normalisation: Normalisation | None) -> NDArray[Any]:
    """The array in a .npy, or a picture, checked against what the network takes."""
    expected = session.manifest.inputs[0]
    if not is_array(path):
        return image.read(path, expected, normalisation)
    try:
        x: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"--input {path}: not a readable .npy: {error}") from error
    if x.shape != expected.shape or x.dtype != expected.dtype:
        raise BadInput(f"--input {path}: {mismatch(x, expected)}")
    if not np.isfinite(x).all():
        bad = int(np.count_nonzero(~np.isfinite(x)))
        raise BadInput(
            f"--input {path}: expected finite values, got {bad} of {x.size} that are nan or "
            "infinite; check how it was made"
        )
    return x
