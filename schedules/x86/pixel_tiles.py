"""Which pixels share a tile register of AMX, and how many steps their channels take."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.x86.tile_products import LANES, ROW_BYTES, ROWS

# cycles of a product by the rows of its pixels, on an Emerald Rapids core; of others in between
CYCLES = {1: 9.5, 4: 9.3, 8: 11.2, 12: 13.5, 13: 14.7, 14: 14.9, 16: 16.0}
PIXELS_LOAD, WEIGHTS_LOAD = 9, 47  # cycles: from the first-level cache, from the second-level one
LEAST_PIXELS = 8  # of an image: fewer read the weights of a tile for too little
# A block of tiles is summed at once: so many of pixels, by so many of weights.
BLOCK_PIXELS, BLOCK_WEIGHTS = 2, 2
KEPT_STEPS = 2  # of a reduction, whose weights stay in registers


@dataclass(frozen=True)
class PixelTiles:
    """Tiles of ``rows`` by ``columns`` pixels that cover an image; the last ones overlap others."""

    image: tuple[int, int]
    rows: int
    columns: int

    @property
    def pixels(self) -> int:
        """Of one tile."""
        return self.rows * self.columns

    @property
    def counts(self) -> tuple[int, int]:
        """How many tiles there are, one above the other and side by side."""
        height, width = self.image
        return -(-height // self.rows), -(-width // self.columns)

    @property
    def block(self) -> tuple[int, int]:
        """How many are summed at once, one above the other and side by side."""
        down, across = self.counts
        if across % BLOCK_PIXELS == 0:
            return 1, BLOCK_PIXELS
        return (BLOCK_PIXELS if down % BLOCK_PIXELS == 0 else 1), 1

    def cycles(self, *, kept: bool) -> tuple[float, float]:
        """Of one step of all tiles: with what is loaded for it, and without.

        Where weights are ``kept`` in registers they are not loaded.
        """
        (down, across), (above, beside) = self.counts, self.block
        together = above * beside
        products = together * BLOCK_WEIGHTS * cycles_of(self.pixels)
        loads = together * PIXELS_LOAD + (0 if kept else BLOCK_WEIGHTS * WEIGHTS_LOAD)
        blocks = down * across // together
        return blocks * max(products, loads), blocks * products


def pixel_tiles(height: int, width: int, steps: int) -> PixelTiles:
    """The tiles that take the fewest cycles, for a reduction of so many steps.

    Of those, columns by four, whose bytes are stored together; then the widest ones.
    """
    fitting = [
        PixelTiles((height, width), rows, columns)
        for rows in range(1, min(ROWS, height) + 1)
        for columns in range(1, min(ROWS // rows, width) + 1)
    ]

    def cost(tiles: PixelTiles) -> tuple[object, ...]:
        cycles = tiles.cycles(kept=steps <= KEPT_STEPS)
        return *(round(one, 3) for one in cycles), tiles.columns % 4 > 0, -tiles.columns

    return min(fitting, key=cost)


def cycles_of(rows: int) -> float:
    """A product's."""
    below = max(known for known in CYCLES if known <= rows)
    above = min(known for known in CYCLES if known >= rows)
    if below == above:
        return CYCLES[rows]
    share = (rows - below) / (above - below)
    return CYCLES[below] + share * (CYCLES[above] - CYCLES[below])


@dataclass(frozen=True)
class Depth:
    """How many ``steps`` sum the channels of a pixel, and the ``channels`` of each."""

    steps: int
    channels: int


def depth_of(channels: int, channel_bytes: int) -> Depth:
    """The fewest steps: each takes as long as any other. Whole vectors of LANES channels."""
    vectors = -(-channels // LANES)
    steps = -(-vectors * LANES * channel_bytes // ROW_BYTES)
    return Depth(steps, LANES * -(-vectors // steps))
