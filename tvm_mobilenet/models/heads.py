"""What a network ends in: its heads, and what their outputs are called and mean.

``classes`` gives logits, ``attributes`` the probability of each class by itself (several may be
true), ``embedding`` a vector of length 1, ``features`` the trunk's maps at its strides, ``ssd``
boxes and their classes (``models.ssd``). Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from tvm_mobilenet.errors import BadInput

Head = Literal["classes", "attributes", "embedding", "features", "ssd"]
HEADS: tuple[str, ...] = get_args(Head)

FEATURE_STRIDES = (8, 16, 32)
EMBEDDING_SIZE = 128  # FaceNet's (arXiv 1503.03832), which the paper distils
SSD_STRIDES = (16, 32)
SSD_RESOLUTION = 300
SSD_CLASSES = 91  # COCO's category numbers and, first, the background
BOXES, SCORES = "boxes", "scores"  # the outputs of ``ssd``


@dataclass(frozen=True)
class Outputs:
    """The outputs of a head: their names, and what each one's values are as scores of classes."""

    names: tuple[str, ...]
    scores: tuple[Literal["logits", "softmax", "sigmoid"] | None, ...]


def outputs_of(head: str, strides: tuple[int, ...] = FEATURE_STRIDES) -> Outputs:
    """The outputs of ``head``; ``strides`` are those of ``features``."""
    if head == "features":
        names = tuple(f"stride{stride}" for stride in strides)
        return Outputs(names, (None,) * len(names))
    if head == "ssd":
        return Outputs((BOXES, SCORES), (None, "softmax"))
    if head == "embedding":
        return Outputs(("output",), (None,))
    return Outputs(("output",), ("sigmoid" if head == "attributes" else "logits",))


def check_options(head: str, given: Collection[str]) -> None:
    """Raise BadInput for a field of the configuration that this head would ignore."""
    if head != "embedding" and "embedding_size" in given:
        raise BadInput(f"the size of an embedding is for the head embedding; drop it for {head}")
    if head in ("embedding", "features") and "num_classes" in given:
        raise BadInput(f"the head {head} tells no classes apart; drop their number")
