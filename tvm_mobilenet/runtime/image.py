"""A picture as the network's input. Needs Pillow, the extra ``images``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvm_mobilenet.bundle.layout import describe_array
from tvm_mobilenet.bundle.manifest import TensorInfo
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.normalisation import PIXEL_SCALE, Normalisation, of_flags
from tvm_mobilenet.models.resizing import MOST_ZOOM, ResizingFlags
from tvm_mobilenet.runtime.resize import Part, part_seen, resize

if TYPE_CHECKING:
    from PIL.Image import Image

AS_THE_BUNDLE_SAYS = ResizingFlags()
BYTES = "uint8"  # an input of these takes pixels as they are


@dataclass(frozen=True)
class Pixels:
    """How pixels become input values, and whether blue comes first in them."""

    normalisation: Normalisation
    bgr: bool = False


def pixels_of_flags(
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    scale: float | None,
    order: str | None,
) -> Pixels | None:
    """What ``--mean``, ``--std``, ``--scale`` and ``--channel-order`` say; None for none of them.

    Raises BadInput as ``models.normalisation.of_flags`` does.
    """
    if scale is None and order is not None:
        scale = PIXEL_SCALE  # the others' defaults are for --channel-order by itself too
    given = of_flags(mean, std, scale)
    return None if given is None else Pixels(given, order == "bgr")


def read(
    path: Path,
    expected: TensorInfo,
    pixels: Pixels | None = None,
    resizing: ResizingFlags = AS_THE_BUNDLE_SAYS,
    flag: str = "--input",
) -> NDArray[Any]:
    """The picture in ``path`` as an array of the input ``expected``: one image of 3 channels.

    It is resized as the bundle says, or the usual way where it does not, but for what ``resizing``
    says; then ``pixels``, without them the bundle's. ``flag`` named the file. Raises BadInput
    for a file that is no picture, a network that takes none or whose normalisation is not known,
    and where Pillow is not installed.
    """
    sizes = dict(zip(expected.layout, expected.shape, strict=True))
    if len(sizes) != 4 or (sizes["N"], sizes["C"]) != (1, 3):
        raise BadInput(
            f"{flag} {path}: the network takes {describe_array(expected.shape, expected.dtype)} "
            f"({expected.layout}), not one picture; give a .npy"
        )
    if pixels is None and expected.normalisation is not None:
        pixels = Pixels(expected.normalisation, expected.channel_order == "bgr")
    if pixels is None and expected.dtype == BYTES:
        pixels = Pixels(Normalisation(1.0, (0.0,) * 3, (1.0,) * 3))
    if pixels is None:
        raise BadInput(
            f"{flag} {path}: nothing says how pixels become the network's input; give --mean and "
            "--std as the network was trained (see --help), or a .npy"
        )
    fault = pixels.normalisation.fault(channels=3)
    if fault is not None:
        raise BadInput(f"--mean, --std, --scale: {fault}")
    how = resizing.over(expected.resizing, sizes["H"], sizes["W"])
    picture = _open(path, flag)
    if how.fit == "cover" and max(picture.size) > MOST_ZOOM * min(picture.size):
        width, height = picture.size
        raise BadInput(
            f"{flag} {path}: expected sides of at most 1 to {MOST_ZOOM}, got {width}x{height}; cut "
            "it, or give --fit stretch"
        )
    values = normalise(resize(picture, how, sizes["H"], sizes["W"]), pixels)
    if expected.layout == "NCHW":
        values = values.transpose(2, 0, 1)
    return as_type(np.ascontiguousarray(values[np.newaxis]), expected.dtype)


def part_of(path: Path, expected: TensorInfo, resizing: ResizingFlags = AS_THE_BUNDLE_SAYS) -> Part:
    """The part of the picture in ``path`` that ``read`` makes the input ``expected`` of."""
    sizes = dict(zip(expected.layout, expected.shape, strict=True))
    how = resizing.over(expected.resizing, sizes["H"], sizes["W"])
    return part_seen(_open(path, "--input").size, how, sizes["H"], sizes["W"])


def read_sample(path: Path, expected: TensorInfo) -> NDArray[Any]:
    """A picture to calibrate with: ``read`` for an input of any batch, without the batch."""
    one = replace(expected, shape=(1, *expected.shape[1:]))
    sample: NDArray[Any] = read(path, one, flag="--calibrate")[0]
    return sample


def normalise(
    picture: NDArray[np.uint8] | NDArray[np.float32], pixels: Pixels
) -> NDArray[np.float32]:
    """A picture in RGB, shape (H, W, 3), 0 to 255, as input values of that shape."""
    how = pixels.normalisation
    mean, std = np.array(how.mean, np.float32), np.array(how.std, np.float32)
    values: NDArray[np.float32] = (picture * np.float32(how.scale) - mean) / std
    return values[..., ::-1] if pixels.bgr else values


def as_type(values: NDArray[np.float32], dtype: str) -> NDArray[Any]:
    """The values in an input's type; of integers the nearest."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return values.astype(kind)
    limits = np.iinfo(kind)
    return np.clip(np.rint(values), limits.min, limits.max).astype(kind)


def _open(path: Path, flag: str) -> Image:
    """The picture in RGB, the way up that its camera says."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise BadInput(
            f"{flag} {path}: reading a picture needs Pillow; "
            "pip install 'tvm-mobilenet[images]', or give a .npy"
        ) from None
    try:
        with Image.open(path) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(f"{flag} {path}: not a picture that can be read: {error}") from error
