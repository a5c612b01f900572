"""What ``compile --calibrate`` is told: where the samples are, and what to do with them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.quantization.ranges import METHODS, Method

# of the three the one that loses least on the networks of docs/quantization.md
DEFAULT_METHOD: Method = "mse"


@dataclass(frozen=True)
class Abilities:
    """What the kernels that a network is quantized for have besides int8.

    ``bf16``: layers that would lose too much in int8 may be in bfloat16. ``tables``: functions of
    one byte are looked up.
    """

    bf16: bool = False
    tables: bool = False


INT8_ALONE = Abilities()


@dataclass(frozen=True)
class Calibration:
    """``samples`` is a folder of pictures, a .npy or a .npz; ``method`` chooses ranges by them.

    ``max_loss`` is the most that quantizing may lose, as a share: of held-out samples that get
    another class, or the outputs' relative error where there are no classes. None for whatever it
    is. With ``reduce_range`` weights have 7 bits, -63 to 63, of which CPUs without dot products sum
    more before they need 32 bits. Raises BadInput for a method or a loss that there is not.
    """

    samples: Path
    method: Method = DEFAULT_METHOD
    max_loss: float | None = None
    reduce_range: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BadInput(
                f"calibration method: expected {', '.join(METHODS)}, got {self.method!r}"
            )
        if self.max_loss is not None and not (
            math.isfinite(self.max_loss) and 0 <= self.max_loss < 1
        ):
            raise BadInput(f"max_loss: expected a share of 0 to 1, got {self.max_loss}")
