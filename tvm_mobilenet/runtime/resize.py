"""A picture to the H x W pixels of an input, as ``models.resizing`` says. Needs Pillow."""

from __future__ import annotations

from dataclasses import dataclass
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
    picture = picture.crop(_cut(picture.size, how.cut))
    rows, columns = _scale_size(picture.size, how, height, width)
    if how.interpolation == "tensorflow":
        pixels: Pixels = _like_tensorflow(np.asarray(picture, np.float32), rows, columns)
    else:
        pixels = np.asarray(picture.resize((columns, rows), _filter(how)), np.uint8)
    top, left = _middle(rows, height), _middle(columns, width)
    return pixels[top : top + height, left : left + width]


@dataclass(frozen=True)
class Part:
    """A rectangle of a picture, in its pixels."""

    left: float
    top: float
    width: float
    height: float


def part_seen(size: tuple[int, int], how: Resizing, height: int, width: int) -> Part:
    """Which part of a picture of ``size`` (width, height) the H x W pixels of the input show."""
    left, top, right, bottom = _cut(size, how.cut)
    rows, columns = _scale_size((right - left, bottom - top), how, height, width)
    across, down = (right - left) / columns, (bottom - top) / rows
    return Part(
        left + across * _middle(columns, width),
        top + down * _middle(rows, height),
        across * width,
        down * height,
    )


def _middle(have: int, take: int) -> int:
    """Where so many in the middle begin; as torchvision rounds: half a pixel to the even side."""
    return round((have - take) / 2)


def _cut(size: tuple[int, int], share: float) -> tuple[int, int, int, int]:
    """The left, top, right and bottom of the middle, as ``tf.image.central_crop`` finds it."""
    width, height = size
    left, top = int((width - width * share) / 2), int((height - height * share) / 2)
    return left, top, width - left, height - top


def _scale_size(size: tuple[int, int], how: Resizing, height: int, width: int) -> tuple[int, int]:
    """The rows and columns to resize to, at least height and width."""
    have_width, have_height = size
    least = min(height, width)
    rows, columns = round(how.size * height / least), round(how.size * width / least)
    if how.fit == "stretch":
        return rows, columns
    # torchvision rounds the longer side down
    if rows * have_width >= columns * have_height:
        return rows, int(rows * have_width / have_height)
    return int(columns * have_height / have_width), columns


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
