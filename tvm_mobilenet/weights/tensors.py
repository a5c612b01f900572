"""What a file of weights holds, as arrays by name, before anybody knows what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float = NDArray[np.float32]
Format = Literal["torch", "keras", "tensorflow"]


@dataclass(frozen=True)
class Tensors:
    """The arrays of a file, by the names they have in it, in the order of the file.

    ``format`` is the family of programs that wrote it. ``said`` are fields of the configuration
    that the file itself states, such as a graph's activation, ``recipe`` what it states of
    pictures, in the keys of timm's ``pretrained_cfg``. ``part`` is the part of the file they are
    from, where it has several.
    """

    format: Format
    arrays: Mapping[str, Array]
    said: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    part: str | None = None
