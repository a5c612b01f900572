"""How a picture of any size becomes the H x W pixels that a network was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tvm_mobilenet.errors import BadInput

Fit = Literal["cover", "stretch"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "tensorflow"]
FITS: tuple[Fit, ...] = ("cover", "stretch")
INTERPOLATIONS: tuple[Interpolation, ...] = ("nearest", "bilinear", "bicubic", "tensorflow")

# ImageNet's usual evaluation crop: the middle 224 of 256
CROP_FRACTION = 0.875


@dataclass(frozen=True)
class Resizing:
    """A picture's way to H x W pixels: cut out its middle, resize, and cut out the middle of that.

    ``cut`` is the share of height and width that is kept before all else. ``size`` is the shorter
    side, in pixels, of what the picture is resized to: ``cover`` keeps its proportions, ``stretch``
    gives it those of H x W. The middle H x W of the result is the input. ``interpolation`` is
    Pillow's, whose bilinear and bicubic ones average where a picture shrinks; ``tensorflow`` is
    TensorFlow's bilinear one, which takes four pixels whatever the size.
    """

    size: int
    fit: Fit = "cover"
    interpolation: Interpolation = "bilinear"
    cut: float = 1.0

    def fault(self, height: int, width: int) -> str | None:
        """What cannot be right about it for an input of H x W, in a few words; None if nothing."""
        if self.fit not in FITS:
            return f"expected a fit of {', '.join(FITS)}, got {self.fit!r}"
        if self.interpolation not in INTERPOLATIONS:
            return (
                f"expected an interpolation of {', '.join(INTERPOLATIONS)}, "
                f"got {self.interpolation!r}"
            )
        if not (math.isfinite(self.cut) and 0 < self.cut <= 1):
            return f"expected a cut above 0 and of at most 1, got {self.cut}"
        least = min(height, width)
        if not least <= self.size <= MOST_ZOOM * least:
            return (
                f"expected a size of {least} to {MOST_ZOOM * least} pixels for an input of "
                f"{height}x{width}, got {self.size}"
            )
        return None

    def described(self, height: int, width: int) -> str:
        """In words, for an input of H x W pixels."""
        cut = "" if self.cut == 1 else f"the middle {self.cut:.1%} "
        how = f"stretched to {self.size}" if self.fit == "stretch" else f"shorter side {self.size}"
        crop = "" if self.size == min(height, width) else f", cropped to {height}x{width}"
        return f"{cut}{how}, {self.interpolation}{crop}"


# Of an input's size, and of a picture's shorter side; more is a mistake, and would take all memory.
MOST_ZOOM = 64


def usual(height: int, width: int) -> Resizing:
    """ImageNet's usual one, where nobody said: the middle 7/8, bilinear."""
    return Resizing(size_for(height, width, CROP_FRACTION))


def size_for(height: int, width: int, crop: float) -> int:
    """The shorter side, in pixels, of which an input of H x W is the share ``crop``, as timm's."""
    return math.floor(min(height, width) / crop)


@dataclass(frozen=True)
class ResizingFlags:
    """What ``--resize``, ``--crop``, ``--fit`` and ``--interpolation`` say; None: nothing."""

    size: int | None = None
    crop: float | None = None
    fit: Fit | None = None
    interpolation: Interpolation | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in (self.size, self.crop, self.fit)) or (
            self.interpolation is not None
        )

    def over(self, known: Resizing | None, height: int, width: int) -> Resizing:
        """``known``, or the usual one, with what was said in its place, for an input of H x W.

        Raises BadInput where that cannot be.
        """
        if self.size is not None and self.crop is not None:
            raise BadInput("--resize and --crop say the same in two ways; drop one of them")
        if self.crop is not None and not 0 < self.crop <= 1:
            raise BadInput(f"--crop: expected a share above 0 and of at most 1, got {self.crop:g}")
        base = known or usual(height, width)
        size = self.size
        if size is None:
            size = base.size if self.crop is None else size_for(height, width, self.crop)
        found = Resizing(
            size, self.fit or base.fit, self.interpolation or base.interpolation, base.cut
        )
        fault = found.fault(height, width)
        if fault is not None:
            raise BadInput(f"--resize, --crop: {fault}")
        return found
