"""A picture to the H x W pixels of an input, as ``models.resizing`` says. Needs Pillow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.models.resizing import Resizing

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8] | NDArray[np.float32]  # (H, W, 3), 0 to 255


def resize(picture: Image, how: Resizing, height: int, width: int) -> Pixels:
    """The part of an RGB picture that is the input, shape (height, width, 3), 0 to 255.

    Whole numbers as Pillow rounds them, but for the interpolation ``tensorflow``, which rounds
    nothing.
    """
    picture = _cut(picture, how.cut)
    rows, columns = _resized(picture, how, height, width)
    if how.interpolation == "tensorflow":
        pixels: Pixels = _like_tensorflow(np.asarray(picture, np.float32), rows, columns)
    else:
        pixels = np.asarray(picture.resize((columns, rows), _filter(how)), np.uint8)
    # as torchvision rounds: half a pixel to the even side
    top, left = round((rows - height) / 2), round((columns - width) / 2)
    return pixels[top : top + height, left : left + width]


def _cut(picture: Image, share: float) -> Image:
    """The middle, as ``tf.image.central_crop`` finds it."""
    left = int((picture.width - picture.width * share) / 2)
    top = int((picture.height - picture.height * share) / 2)
    return picture.crop((left, top, picture.width - left, picture.height - top))


def _resized(picture: Image, how: Resizing, height: int, width: int) -> tuple[int, int]:
    """The rows and columns to resize to, at least height and width."""
    least = min(height, width)
    rows, columns = round(how.size * height / least), round(how.size * width / least)
    if how.fit == "stretch":
        return rows, columns
    # torchvision rounds the longer side down
    if rows * picture.width >= columns * picture.height:
        return rows, int(rows * picture.width / picture.height)
    return int(columns * picture.height / picture.width), columns


def _filter(how: Resizing) -> int:
    from PIL.Image import Resampling

    return int(
        {
            "nearest": Resampling.NEAREST,
            "bilinear": Resampling.BILINEAR,
            "bicubic": Resampling.BICUBIC,
        }[how.interpolation]
    )


def _like_tensorflow(pixels: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """``tf.compat.v1.image.resize_bilinear`` with its default of unaligned corners."""
    for axis, size in enumerate((rows, columns)):
        have = pixels.shape[axis]
        place = np.arange(size, dtype=np.float32) * np.float32(have / size)
        below = np.floor(place).astype(np.int64)
        above = np.minimum(below + 1, have - 1)
        share = (place - below.astype(np.float32)).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        low, high = np.take(pixels, below, axis), np.take(pixels, above, axis)
        pixels = low + (high - low) * share
    return pixels
