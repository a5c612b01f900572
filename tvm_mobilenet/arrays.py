"""Arrays in NumPy's files: one in a .npy, several by name in a .npz."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.errors import BadInput, first_line

Array = NDArray[Any]

MAGIC, OF_AN_ARCHIVE = b"\x93NUMPY", b"PK"  # what a .npy begins with, and a .npz


def read_one(path: Path, called: str, *, mapped: bool = False) -> Array:
    """The array in a .npy; where ``mapped``, read-only and from the disk as it is used.

    Raises BadInput, which begins with what the user ``called`` the file, for what is no such file.
    """
    try:
        check_begin(path)
        found = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except Exception as error:  # NumPy raises whatever a damaged header made it meet
        raise BadInput(f"{called}: not a readable .npy: {first_line(error)}") from error
    if not isinstance(found, np.ndarray):
        found.close()
        raise BadInput(f"{called}: expected one array, got an archive of arrays; name it .npz")
    return found


def read_named(path: Path, called: str) -> dict[str, Array]:
    """The arrays in a .npz by name. Raises BadInput as ``read_one`` does."""
    try:
        check_begin(path)
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            arrays = None if isinstance(found, np.ndarray) else dict(found.items())
    except Exception as error:  # zipfile and zlib have errors of their own for damaged archives
        raise BadInput(f"{called}: not a readable .npz: {first_line(error)}") from error
    if arrays is None:
        raise BadInput(f"{called}: expected an archive of arrays, got one array; name it .npy")
    return arrays


def check_begin(path: Path) -> None:
    """Raise ValueError where the file is neither: NumPy takes any other for pickled objects."""
    with path.open("rb") as file:
        begin = file.read(len(MAGIC))
    if not begin.startswith((MAGIC, OF_AN_ARCHIVE)):
        raise ValueError("it does not begin as NumPy's files do")
