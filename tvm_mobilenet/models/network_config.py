"""The configuration of every network but MobileNetV1, which has more to choose (``stages.py``).

Nothing heavy is imported here, so that the command line can use it at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tvm_mobilenet import strict
from tvm_mobilenet.errors import BadInput
from tvm_mobilenet.models.heads import EMBEDDING_SIZE, FEATURE_STRIDES, Head
from tvm_mobilenet.models.stages import IMAGE_CHANNELS, TRUNK_STRIDE, Padding
from tvm_mobilenet.strict import Above, AtLeast, AtMost, Count

# of widths, to multiples of 8: as TF-Slim and PyTorch do, or as Keras, which rounds down before
Rounding = Literal["eights", "down_eights"]


@dataclass(frozen=True)
class NetworkConfig:
    """One network, in plain values: ``dataclasses.asdict`` survives JSON.

    ``model`` is a name in ``models.MODELS``, ``alpha`` the width multiplier where the network has
    one, ``head`` what it ends in (``models.heads``), ``embedding_size`` for that head, ``seed``
    chooses the random weights. ``padding``, ``channel_rounding`` and ``batch_norm_epsilon`` (None:
    the network's own) are for weights of implementations that differ in them, as
    ``ModelEntry.differs`` says. Raises BadInput for a value outside the bounds.
    """

    model: str
    resolution: Annotated[int, AtLeast(TRUNK_STRIDE)]
    alpha: Annotated[float, Above(0), AtMost(2)] = 1.0
    num_classes: Count = 1000
    seed: Annotated[int, AtLeast(0)] = 0
    padding: Padding = "pytorch"
    channel_rounding: Rounding = "eights"
    batch_norm_epsilon: Annotated[float, Above(0), AtMost(1)] | None = None
    head: Head = "classes"
    embedding_size: Count = EMBEDDING_SIZE

    def __post_init__(self) -> None:
        try:
            strict.check(self)
        except strict.Unexpected as error:
            raise BadInput(str(error)) from None
        # alpha=1 means the network that alpha=1.0 means
        object.__setattr__(self, "alpha", float(self.alpha))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return (IMAGE_CHANNELS, self.resolution, self.resolution)

    @property
    def feature_strides(self) -> tuple[int, ...]:
        """The strides of the head ``features``, whose maps are the outputs."""
        return FEATURE_STRIDES if self.head == "features" else ()
