"""How the pixels of a picture become the values a network was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm_mobilenet.errors import BadInput


@dataclass(frozen=True)
class Normalisation:
    """How pixel values become input values: ``(pixel * scale - mean) / std``.

    ``pixel`` is 0 to 255; ``mean`` and ``std`` have one number per channel, red first.
    """

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def fault(self, channels: int) -> str | None:
        """What cannot be right about it for so many channels, in a few words; None if nothing."""
        if not (math.isfinite(self.scale) and self.scale > 0):
            return f"expected a positive, finite scale, got {self.scale}"
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != channels:
                return f"expected one {name} a channel ({channels}), got {len(values)}"
            if not all(map(math.isfinite, values)):
                return f"expected a finite {name}, got {', '.join(map(str, values))}"
        if not all(self.std):
            return "expected a std other than 0"
        return None


PIXEL_SCALE = 1 / 255
# torchvision's, for networks trained by PyTorch's reference scripts
IMAGENET = Normalisation(PIXEL_SCALE, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# pixels to -1 ... 1, as TensorFlow's MobileNets are trained
SYMMETRIC = Normalisation(1 / 127.5, (1.0, 1.0, 1.0), (1.0, 1.0, 1.0))


def of_flags(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None, scale: float | None
) -> Normalisation | None:
    """What ``--mean``, ``--std`` and ``--scale`` say; None where none of them was given.

    Those left out take nothing away: mean 0, std 1, and a scale that makes pixels 0 to 1. Raises
    BadInput where they cannot be right together.
    """
    if mean is None and std is None and scale is None:
        return None
    channels = len(mean or std or (0, 0, 0))
    given = Normalisation(
        PIXEL_SCALE if scale is None else scale,
        mean or (0.0,) * channels,
        std or (1.0,) * channels,
    )
    fault = given.fault(channels)
    if fault is not None:
        raise BadInput(f"--mean, --std, --scale: {fault}")
    return given
