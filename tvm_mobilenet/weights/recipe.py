"""How pictures become the input of a network, by the program that trained it.

What is not in a file of weights follows from where they are from: each program evaluates its
networks in one way. Sources: torchvision's ``ImageClassification`` presets; timm's ``default_cfg``;
Keras' ``load_img`` and ``preprocess_input``; TF-Slim's ``inception_preprocessing``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm_mobilenet.models import Config, name_of, normalisation_of
from tvm_mobilenet.models.normalisation import IMAGENET, PIXEL_SCALE, SYMMETRIC, Normalisation
from tvm_mobilenet.models.resizing import CROP_FRACTION, Resizing, size_for

# the programs, as ``sources`` has them
TORCHVISION, TIMM, KERAS, SLIM = "torchvision", "timm", "keras.applications", "TF-Slim"
OURS = "tvm-mobilenet"

# timm's share of the resized picture, and its interpolation, where they are not 0.875 and bicubic
TIMM_CROPS = {
    "efficientnet_lite1": 0.882,
    "efficientnet_lite2": 0.89,
    "efficientnet_lite3": 0.904,
    "efficientnet_lite4": 0.922,
}
TIMM_BILINEAR = ("mobileone_s0",)
# torchvision's one network here that is not evaluated on bilinear pictures
BICUBIC = ((TORCHVISION, "efficientnet_b0"),)
# timm's MobileNetV1 is trained on pixels to -1 ... 1
TIMM_HALF = Normalisation(PIXEL_SCALE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Recipe:
    """How pixels become values, and before that a picture of any size so many pixels."""

    normalisation: Normalisation
    resizing: Resizing


def recipe_of(source: str, config: Config, said: Mapping[str, Any]) -> Recipe:
    """The recipe of a source's network; ``said`` is what timm's ``config.json`` says of it."""
    side = config.resolution
    model = name_of(config)
    if source == KERAS:
        return Recipe(SYMMETRIC, Resizing(side, "stretch", "nearest"))
    if source == SLIM:
        return Recipe(SYMMETRIC, Resizing(side, "stretch", "tensorflow", CROP_FRACTION))
    if source == TIMM:
        return _timm(model, side, said)
    # torchvision's 256 for 224; and of our own names nobody says more than what is usual
    kind: Any = "bicubic" if (source, model) in BICUBIC else "bilinear"
    usual = Resizing(size_for(side, side, CROP_FRACTION), interpolation=kind)
    return Recipe(normalisation_of(config), usual)


def _timm(model: str, side: int, said: Mapping[str, Any]) -> Recipe:
    v1 = model.startswith("mobilenet_v1")
    normalisation = TIMM_HALF if v1 else IMAGENET
    mean, std = _colours(said.get("mean")), _colours(said.get("std"))
    if mean and std:
        normalisation = Normalisation(PIXEL_SCALE, mean, std)
    crop = said.get("crop_pct")
    if not (isinstance(crop, float | int) and 0 < crop <= 1):
        crop = TIMM_CROPS.get(model, CROP_FRACTION)
    kind: Any = said.get("interpolation")
    if kind not in ("bilinear", "bicubic", "nearest"):
        kind = "bilinear" if model in TIMM_BILINEAR else "bicubic"
    fit: Any = "stretch" if said.get("crop_mode") == "squash" else "cover"
    return Recipe(normalisation, Resizing(size_for(side, side, crop), fit, kind))


def _colours(values: Any) -> tuple[float, float, float] | None:
    """Three finite numbers, None for anything else."""
    if not isinstance(values, list) or len(values) != 3:
        return None
    if not all(isinstance(one, float | int) and math.isfinite(one) for one in values):
        return None
    red, green, blue = map(float, values)
    return red, green, blue
