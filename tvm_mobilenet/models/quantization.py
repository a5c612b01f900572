"""How a network was quantized, and how well it then agrees with float32, as it was measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from tvm_mobilenet.strict import Count


@dataclass(frozen=True)
class Quantization:
    """Calibrated by ``method`` with so many ``samples``, measured with ``held_out`` others.

    One sample alone is both. ``top1`` is the share of those with the same best class as in float32,
    None for outputs of no classes; ``cosine`` is of the angle between the outputs as vectors and
    ``error`` ‖a - b‖ / ‖b‖, each of the worst output. ``equalized`` tensors had their channels made
    alike. ``float_layers`` are those that stayed in float32, ``bf16_layers`` those in bfloat16
    instead, both by name.
    """

    method: str
    samples: Count
    held_out: Count
    top1: float | None
    cosine: float
    error: float
    bias_corrected: bool
    equalized: int = 0
    float_layers: tuple[str, ...] = ()
    bf16_layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        top1 = "" if self.top1 is None else f"top-1 {self.top1:.2%}, "
        kept = "".join(f"; in {name}: {', '.join(layers)}" for name, layers in self.kept())
        return (
            f"by {self.ranges}; as fp32 on {self.held_out}: {top1}"
            f"cosine {self.cosine:.5f}, relative error {self.error:.1e}{kept}"
        )

    @property
    def ranges(self) -> str:
        """How they were chosen, in a few words."""
        return f"{self.method} from {self.samples} sample{'' if self.samples == 1 else 's'}"

    def kept(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The layers that are not in int8, by what they are in."""
        for name, layers in (("bf16", self.bf16_layers), ("fp32", self.float_layers)):
            if layers:
                yield name, layers

    def fault(self) -> str | None:
        """What cannot be right about it, in a few words; None if nothing."""
        if self.top1 is not None and not 0 <= self.top1 <= 1:
            return f"expected a top1 of 0 to 1, got {self.top1}"
        if not (math.isfinite(self.error) and self.error >= 0 and -1.001 <= self.cosine <= 1.001):
            return f"expected a finite error and a cosine, got {self.error} and {self.cosine}"
        return None
