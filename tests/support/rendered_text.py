"""Text as pictures, drawn with the font that Pillow has in it: what is right is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

PAGE = (420, 560)  # pixels
MARGIN = 20
TEXT = (
    "compilers turn a network of layers into machine code while schedules decide how its loops are "
    "split and reordered for every target so that the quick brown fox jumps over the lazy dog"
)


def page(rng: np.random.Generator) -> Image.Image:
    """A page of random words, upright, of a random size and length."""
    picture = Image.new("RGB", PAGE, "white")
    draw = ImageDraw.Draw(picture)
    size = int(rng.integers(14, 30))
    font = ImageFont.load_default(size)
    words = TEXT.split()
    last = int(rng.integers(PAGE[1] // 2, PAGE[1] - size - MARGIN))
    for top in range(MARGIN, last, int(size * 1.5)):
        line = ""
        while True:
            longer = f"{line} {rng.choice(words)}".strip()
            if draw.textlength(longer, font) > PAGE[0] - 2 * MARGIN:
                break
            line = longer
        draw.text((MARGIN, top), line, fill="black", font=font)
    return picture


def line(text: str, width: int, height: int) -> Image.Image:
    """One line of text that fills the height."""
    picture = Image.new("RGB", (width, height), "white")
    font = ImageFont.load_default(int(height * 0.7))
    draw = ImageDraw.Draw(picture)
    draw.text((4, height // 2), text, fill="black", font=font, anchor="lm")
    return picture


def values(picture: Image.Image, mean: float = 0.5, std: float = 0.5) -> NDArray[np.float32]:
    """(1, 3, H, W) of pixels from 0 to 1, less ``mean`` and divided by ``std``."""
    pixels = np.asarray(picture, np.float32) / 255
    return ((pixels - mean) / std).transpose(2, 0, 1)[np.newaxis].astype(np.float32)
