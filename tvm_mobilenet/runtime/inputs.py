"""What a network is run on: arrays in a .npy or .npz, or a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import arrays
from tvm_mobilenet.bundle.manifest import TensorInfo
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.resizing import ResizingFlags
from tvm_mobilenet.runtime import image
from tvm_mobilenet.runtime.image import Pixels
from tvm_mobilenet.runtime.session import mismatch

ARRAY, ARRAYS = ".npy", ".npz"


def is_array(path: Path) -> bool:
    """Whether the file's name says that it holds arrays, and no picture."""
    return path.suffix.lower() in (ARRAY, ARRAYS)


def read_inputs(
    path: Path,
    expected: Sequence[TensorInfo],
    pixels: Pixels | None,
    resizing: ResizingFlags = image.AS_THE_BUNDLE_SAYS,
) -> tuple[NDArray[Any], ...]:
    """The array in a .npy, those in a .npz by name, or a picture, checked against ``expected``.

    Raises BadInput for what the network does not take, and what cannot be read.
    """
    if path.suffix.lower() == ARRAYS:
        return _read_named(path, expected)
    if len(expected) > 1:
        names = ", ".join(one.name for one in expected)
        raise BadInput(
            f"--input {path}: the bundle takes {len(expected)} inputs; give a {ARRAYS} with the "
            f"arrays {names}"
        )
    if not is_array(path):
        return (image.read(path, expected[0], pixels, resizing),)
    return (_check_fits(path, arrays.read_one(path, f"--input {path}"), expected[0]),)


def _read_named(path: Path, expected: Sequence[TensorInfo]) -> tuple[NDArray[Any], ...]:
    found = arrays.read_named(path, f"--input {path}")
    names = [one.name for one in expected]
    if set(found) != set(names):
        raise BadInput(
            f"--input {path}: expected the arrays {', '.join(names)}, got {', '.join(found)}"
        )
    return tuple(_check_fits(path, found[one.name], one) for one in expected)


def _check_fits(path: Path, x: NDArray[Any], expected: TensorInfo) -> NDArray[Any]:
    if x.shape != expected.shape or x.dtype != expected.dtype:
        raise BadInput(f"--input {path}: {mismatch(x, expected)}")
    if not np.isfinite(x).all():
        bad = int(np.count_nonzero(~np.isfinite(x)))
        raise BadInput(
            f"--input {path}: expected finite values, got {bad} of {x.size} that are nan or "
            "infinite; check how it was made"
        )
    return x
