"""The 16 variants of a network that the paper publishes: four widths, four resolutions."""

from __future__ import annotations

import itertools

ALPHAS = (1.0, 0.75, 0.5, 0.25)
RESOLUTIONS = (224, 192, 160, 128)
VARIANTS = tuple(itertools.product(ALPHAS, RESOLUTIONS))
