"""A picture as the network's input. Needs Pillow, the extra ``images``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.bundle.layout import describe_array
from tvm_mobilenet.bundle.manifest import TensorInfo
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.normalisation import Normalisation

# ImageNet's usual evaluation crop: the middle 224 of 256
CROP_FRACTION = 0.875


def read(
    path: Path, expected: TensorInfo, normalisation: Normalisation | None = None
) -> NDArray[Any]:
    """The picture in ``path`` as an array of the input ``expected``, shape (1, 3, H, W).

    The shorter side is resized (bilinear) so that the H x W crop in the middle takes 7/8 of it;
    then ``normalisation``, without it the bundle's. Raises BadInput for a file that is no picture,
    a network that takes none or whose normalisation is not known, and where Pillow is not
    installed.
    """
    if expected.layout != "NCHW" or expected.shape[:2] != (1, 3):
        raise BadInput(
            f"--input {path}: the bundle takes {describe_array(expected.shape, expected.dtype)} "
            f"({expected.layout}), not one picture; give a .npy"
        )
    normalisation = normalisation or expected.normalisation
    if normalisation is None:
        raise BadInput(
            f"--input {path}: the bundle does not say how pixels become its input; give --mean and "
            "--std as the network was trained (see --help), or a .npy"
        )
    fault = normalisation.fault(channels=3)
    if fault is not None:
        raise BadInput(f"--mean, --std, --scale: {fault}")
    pixels = _crop(path, height=expected.shape[2], width=expected.shape[3])
    return normalise(pixels, normalisation).astype(expected.dtype)


def normalise(pixels: NDArray[np.uint8], normalisation: Normalisation) -> NDArray[np.float32]:
    """``pixels`` of shape (H, W, 3), 0 to 255, as input values of shape (1, 3, H, W)."""
    mean = np.array(normalisation.mean, np.float32)
    std = np.array(normalisation.std, np.float32)
    values = (pixels * np.float32(normalisation.scale) - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1)[np.newaxis])


def _crop(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """The middle of the picture in RGB, shape (height, width, 3)."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise BadInput(
            f"--input {path}: reading a picture needs Pillow; "
            "pip install 'tvm-mobilenet[images]', or give a .npy"
        ) from None
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"--input {path}: not a picture that can be read: {error}") from error
    zoom = max(height / picture.height, width / picture.width) / CROP_FRACTION
    size = (round(picture.width * zoom), round(picture.height * zoom))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture.crop((left, top, left + width, top + height)), np.uint8)
