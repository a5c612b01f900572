"""What a network gave, into a file or one line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet import files
from tvm_mobilenet.bundle.manifest import TensorInfo
from tvm_mobilenet.errors import BadInput, RunFailed


def summary(array: NDArray[Any]) -> str:
    """Type, shape and range of an output."""
    shape = "x".join(map(str, array.shape))
    return f"{array.dtype} {shape}, from {array.min():.6g} to {array.max():.6g}"


def check_output(path: Path, outputs: int) -> None:
    """Raise BadInput, before any work, for a file that so many outputs cannot go into."""
    suffix = ".npz" if outputs > 1 else ".npy"
    if path.suffix != suffix:
        raise BadInput(f"--output {path}: expected a {suffix} file, for {outputs} output(s)")
    files.check_writable(path, "--output")


def write_output(path: Path, infos: Sequence[TensorInfo], results: Sequence[NDArray[Any]]) -> None:
    """One output as .npy, several by name as .npz. Raises RunFailed where that fails."""
    try:
        if len(results) == 1:
            np.save(path, results[0])
        else:
            arrays: dict[str, Any] = {info.name: x for info, x in zip(infos, results, strict=True)}
            np.savez(path, **arrays)
    except OSError as error:
        raise RunFailed(f"--output {path}: cannot be written: {error.strerror or error}") from error
    print(f"wrote {path}")
